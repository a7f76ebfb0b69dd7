"""Sizes of the networks, as frozen dataclasses with the paper's and our names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Variant = Literal["s", "t", "s_t", "kaa_t", "kaa"]


@dataclass(frozen=True)
class KAAConfig:
    """One aggregator.

    variant: which axes attend (Table VI): structure only, time only, both in cascade on joint tokens, KAA
        trajectory-first, KAA structure-first.
    rounds: number of (structure, time) rounds; the paper's "depth" read as pairs.
    joint_dim, pose_dim: token widths. Equal widths give the paper's form; a wider pose token is seeded from, and
        handed back to, all joint tokens through projections.
    heads × head_dim: attention of the structural blocks; time_heads × time_head_dim: of the temporal ones.
    ffn, time_ffn: hidden widths of the feed-forward parts.
    temporal_blocks: temporal blocks per round.
    rotary: relative time in the temporal attention (rotary embedding of seconds) besides the added codes.
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


@dataclass(frozen=True)
class EncoderConfig:
    """An aggregator between a linear embedding and a linear read-out (Eq. 11's network, and our product priors).

    features: input channels per joint token besides the noisy state.
    state: channels of the diffused state per joint token.
    outputs: channels read out per joint token.
    """

    kaa: KAAConfig
    features: int
    state: int
    outputs: int


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
    """Encoder and decoder of the paper's completion and refinement priors: positions of ``joints`` joints."""

    kaa: KAAConfig = KAAConfig()
    decoder: DecoderConfig = DecoderConfig()
    joints: int = 22


def _masked(dim: int, rounds: int) -> MaskedConfig:
    return MaskedConfig(
        KAAConfig(rounds=rounds, joint_dim=dim, pose_dim=dim, ffn=dim, time_ffn=dim), DecoderConfig(dim=dim, ffn=dim)
    )


MASKED: dict[str, MaskedConfig] = {
    "completion_lite": _masked(256, 6),
    "completion_small": _masked(256, 9),
    "completion_normal": _masked(512, 9),
    "completion_large": _masked(512, 12),
}
"""The paper's sizes of the completion prior (refinement uses the same network)."""

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


def kaa_from_dict(values: dict[str, Any]) -> KAAConfig:
    """Rebuild a config stored in a model card."""
    return replace(KAAConfig(), **values)


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values."""
    return asdict(config)
