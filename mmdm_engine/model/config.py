"""Sizes of the networks, as frozen dataclasses with the paper's and our names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from ..contract import MotionError
from ..joint_sets import SMPL22, JointSet, joint_set_from_dict

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Variant = Literal["s", "t", "s_t", "kaa_t", "kaa", "pose"]


@dataclass(frozen=True)
class KAAConfig:
    """One aggregator.

    variant: which axes attend (Table VI): structure only, time only, both in cascade on joint tokens, KAA
        trajectory-first, KAA structure-first. "pose" has no joint tokens at all, only one token a frame for the whole
        body (MDM's encoder, Tevet et al. 2023): what KAA is measured against.
    rounds: number of (structure, time) rounds; the paper's "depth" read as pairs.
    joint_dim, pose_dim: token widths. Equal widths give the paper's form; a wider pose token is seeded from, and
        handed back to, all joint tokens through projections.
    heads × head_dim: attention of the structural blocks; time_heads × time_head_dim: of the temporal ones.
    ffn, time_ffn: hidden widths of the feed-forward parts.
    temporal_blocks: temporal blocks per round.
    rotary: relative time in the temporal attention (rotary embedding of seconds) besides the added codes.
    last_structure: one structural block more after the last round; an odd number of blocks needs it.
    """

    variant: Variant = "kaa"
    rounds: int = 9
    joint_dim: int = 512
    pose_dim: int = 512
    heads: int = 4
    head_dim: int = 32
    time_heads: int = 4
    time_head_dim: int = 32
    ffn: int = 512
    time_ffn: int = 512
    temporal_blocks: int = 1
    rotary: bool = False
    last_structure: bool = False

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise MotionError(f"There is no variant {self.variant!r}; choose one of {', '.join(get_args(Variant))}.")


@dataclass(frozen=True)
class EncoderConfig:
    """An aggregator between a linear embedding and a linear read-out (Eq. 11's network, and our product priors).

    features: input channels per joint token besides the noisy state.
    state: channels of the diffused state per joint token.
    outputs: channels read out per joint token.
    label: components of the vector that says what is done; 0 = the network takes no label.
    """

    kaa: KAAConfig
    features: int
    state: int
    outputs: int
    label: int = 0


@dataclass(frozen=True)
class DecoderConfig:
    """The cross-attention decoder of completion and refinement in the paper's form."""

    dim: int = 512
    depth: int = 3
    heads: int = 4
    head_dim: int = 32
    ffn: int = 512
    state: int = 3


@dataclass(frozen=True)
class MaskedConfig:
    """The paper's completion and refinement priors: encoder and decoder over positions of any joint set.

    kaa, decoder: the two halves. joint_set: which points they speak about. window: frames seen at once.
    steps: of the diffusion. objective: the network predicts the signal ("x0") or the noise.
    diffusion: False = D-MAE, the same masked autoencoder in one pass without a noisy state.
    reference: what positions are taken relative to, the centroid of the joints or the hip.
    scope: one reference for every pose, or one for the whole window, which keeps the trajectory.
    residual: not in the paper; the state is the difference from the observed or interpolated positions.
    base: what those are interpolated from, the window alone or the whole take.
    """

    kaa: KAAConfig = KAAConfig()
    decoder: DecoderConfig = DecoderConfig()
    joint_set: JointSet = SMPL22
    window: int = 10
    steps: int = 50
    objective: Literal["x0", "noise"] = "x0"
    diffusion: bool = True
    reference: Literal["centroid", "hip"] = "centroid"
    scope: Literal["pose", "window"] = "pose"
    residual: bool = False
    base: Literal["window", "take"] = "window"

    def __post_init__(self) -> None:
        if self.kaa.variant not in ("s", "t", "s_t", "kaa_t", "kaa"):
            raise MotionError(f"The masked model has no variant {self.kaa.variant!r}; use s, t, s_t, kaa_t or kaa.")
        if self.reference == "hip" and not self.joint_set.hips:
            raise MotionError("This joint set has no left_hip and right_hip; use reference=centroid.")
        for name, allowed in (
            ("objective", ("x0", "noise")), ("reference", ("centroid", "hip")), ("scope", ("pose", "window")),
            ("base", ("window", "take")),
        ):  # fmt: skip
            if getattr(self, name) not in allowed:
                raise MotionError(f"{name} cannot be {getattr(self, name)!r}; choose {' or '.join(allowed)}.")
        if self.window < 1 or self.steps < 1:
            raise MotionError("A window needs at least one frame and a diffusion at least one step; give larger ones.")

    @property
    def joints(self) -> int:
        """Joint tokens a frame."""
        return len(self.joint_set)


@dataclass(frozen=True)
class SmoothNetConfig:
    """A temporal MLP over single coordinates, in the published form (Zeng et al. 2022).

    window: frames in and out. hidden, residual: widths of the trunk and inside its residual blocks.
    """

    window: int = 32
    hidden: int = 128
    residual: int = 32
    blocks: int = 3
    dropout: float = 0.0


SMOOTHNETS: dict[str, SmoothNetConfig] = {
    "smoothnet": SmoothNetConfig(),
    "smoothnet_published": SmoothNetConfig(hidden=512, residual=256, dropout=0.5),
}
"""33 k parameters; and the widths of the published configuration, 0.8 M."""


def _masked(dim: int, depth: int, reading: Literal["rounds", "blocks"]) -> MaskedConfig:
    """One of the paper's sizes; its "depth" read as (structure, time) rounds, or as single blocks in turn."""
    rounds, odd = (depth, 0) if reading == "rounds" else divmod(depth, 2)
    kaa = KAAConfig(rounds=rounds, joint_dim=dim, pose_dim=dim, ffn=dim, time_ffn=dim, last_structure=bool(odd))
    return MaskedConfig(kaa, DecoderConfig(dim=dim, ffn=dim))


_SIZES = {"lite": (256, 6), "small": (256, 9), "normal": (512, 9), "large": (512, 12)}

MASKED: dict[str, MaskedConfig] = {
    **{f"completion_{name}": _masked(*size, "rounds") for name, size in _SIZES.items()},
    **{f"completion_{name}_blocks": _masked(*size, "blocks") for name, size in _SIZES.items()},
    "completion_tiny": MaskedConfig(
        KAAConfig(
            rounds=3, joint_dim=64, pose_dim=64, heads=2, head_dim=32, time_heads=2, time_head_dim=32, ffn=128,
            time_ffn=128,
        ),
        DecoderConfig(dim=64, depth=2, heads=2, head_dim=32, ffn=128),
    ),
}  # fmt: skip
"""The paper's sizes of the completion prior (refinement uses the same network), and one for a CPU and for tests.

Widths of the feed-forward parts below 512 are not given in the paper; they follow the token width.
"""

PRODUCT_KAA = KAAConfig(
    rounds=2, joint_dim=32, pose_dim=256, heads=1, head_dim=32, time_heads=8, time_head_dim=32, ffn=64, time_ffn=512,
    temporal_blocks=3, rotary=True,
)  # fmt: skip
"""Sized for a two-core CPU: nearly all arithmetic is in the wide pose token's temporal blocks."""

ENCODERS: dict[str, KAAConfig] = {
    "product": PRODUCT_KAA,
    "inbetween_paper": KAAConfig(
        rounds=8, heads=8, head_dim=64, time_heads=8, time_head_dim=64, ffn=1024, time_ffn=1024
    ),
}


@dataclass(frozen=True)
class GenerativeConfig:
    """In-betweening as generation on HumanML3D's joint layout: the paper's form, and those it is compared with.

    tokens: one per joint, or one per frame ("pose", the encoder of MDM). context: the parts before and after the gap
    are given to the network in training and sampling (Eq. 11); without it learns whole motions and is made to meet the
    parts by tricks of the sampler. steps: of the diffusion. objective: the network predicts the signal or the noise.
    emphasis: GMD's scale of the root path in the projected pose, 0 = no projection.
    """

    kaa: KAAConfig
    tokens: Literal["joint", "pose"] = "joint"
    context: bool = True
    steps: int = 1000
    objective: Literal["x0", "noise"] = "x0"
    emphasis: float = 0.0

    def __post_init__(self) -> None:
        if self.tokens not in ("joint", "pose") or self.objective not in ("x0", "noise"):
            raise MotionError("A generative network has joint or pose tokens and the x0 or the noise objective.")
        if self.steps < 1 or self.emphasis < 0:
            raise MotionError(
                "The diffusion needs at least one step and an emphasis of zero or more; give other values."
            )
        if self.tokens == "pose" and self.kaa.variant != "t":
            raise MotionError("Pose tokens have no joints to attend over; use variant=t with them.")
        if self.emphasis and (self.tokens != "pose" or self.context):
            raise MotionError("Emphasis projection mixes a whole pose; use it with pose tokens and without context.")


_PAPER_KAA = ENCODERS["inbetween_paper"]
_MDM_KAA = KAAConfig(
    variant="t", rounds=8, heads=4, head_dim=128, time_heads=4, time_head_dim=128, ffn=1024, time_ffn=1024
)
_SMALL_KAA = KAAConfig(
    rounds=2, joint_dim=32, pose_dim=128, heads=1, head_dim=32, time_heads=4, time_head_dim=32, ffn=64, time_ffn=256
)
_SMALL_MDM = KAAConfig(
    variant="t", rounds=2, joint_dim=128, pose_dim=128, heads=4, head_dim=32, time_heads=4, time_head_dim=32, ffn=256,
    time_ffn=256,
)  # fmt: skip


def _generative(joint: KAAConfig, pose: KAAConfig, suffix: str = "") -> dict[str, GenerativeConfig]:
    mdm = GenerativeConfig(pose, tokens="pose", context=False)
    return {
        f"inbetween_paper{suffix}": GenerativeConfig(joint),
        f"inbetween_s_t{suffix}": GenerativeConfig(replace(joint, variant="s_t")),
        f"inbetween_pose{suffix}": replace(mdm, context=True),
        f"mdm{suffix}": mdm,
        f"mdm_s_t{suffix}": GenerativeConfig(replace(joint, variant="s_t"), context=False),
        f"mdm_kaa{suffix}": GenerativeConfig(joint, context=False),
        f"gmd{suffix}": replace(mdm, emphasis=10.0),
    }


GENERATIVE: dict[str, GenerativeConfig] = {
    **_generative(_PAPER_KAA, _MDM_KAA),
    **_generative(_SMALL_KAA, _SMALL_MDM, "_small"),
}
"""Table V's systems: MMDM, MDM, MDM* (S&T), MDM** (KAA), GMD; ours with S&T or pose tokens.

The small ones are for a CPU, where the paper's equal widths would learn nothing in minutes: two temporal blocks each,
of width 128 for MDM and KAA, whose joint tokens of 32 stand under a wide pose token; S&T has the joint tokens alone.
"""


def kaa_from_dict(values: dict[str, Any]) -> KAAConfig:
    """Rebuild a config stored in a model card."""
    return replace(KAAConfig(), **values)


def generative_from_dict(values: Mapping[str, Any]) -> GenerativeConfig:
    """Rebuild a config of the generative in-betweening stored in a model card; its other entries are not read."""
    own = {f.name: values[f.name] for f in fields(GenerativeConfig) if f.name in values}
    return GenerativeConfig(**{**own, "kaa": kaa_from_dict(values["kaa"])})


def masked_from_dict(values: dict[str, Any]) -> MaskedConfig:
    """Rebuild a config of the position priors stored in a model card."""
    parts = {
        "kaa": kaa_from_dict(values["kaa"]),
        "decoder": replace(DecoderConfig(), **values["decoder"]),
        "joint_set": joint_set_from_dict(values["joint_set"]),
    }
    return replace(MaskedConfig(), **{**values, **parts})


Config = TypeVar("Config", bound="DataclassInstance")


def overridden(config: Config, items: Sequence[str]) -> Config:
    """The config with fields replaced by ``FIELD=VALUE`` texts. Raises `MotionError` for an unknown field."""
    for item in items:
        name, _, text = item.partition("=")
        if name not in {f.name for f in fields(config)}:
            raise MotionError(f"The network has no field {name}; it has {', '.join(f.name for f in fields(config))}.")
        kind = type(getattr(config, name))
        try:
            value: Any = text.lower() == "true" if kind is bool else kind(text)
            config = replace(config, **{name: value})
        except ValueError:
            raise MotionError(f"{name} cannot be {text!r}; give a value like {getattr(config, name)!r}.") from None
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values."""
    return asdict(config)
