"""In-betweening as generation in HumanML3D's joint layout: the paper's Eq. 11, MDM and GMD from one network class.

Where the product prior predicts a residual over interpolation, this one generates the tokens of the gap from noise.
With ``context`` the network is given the clean tokens before and after the gap at every step, in training as in
sampling (Eq. 11). Without it, it learns whole motions and knows no gap: the sampler then has to make it meet the given
parts, by imputation, emphasis projection or a gradient (`diffusion.guidance`), all of them off unless asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..contract import MotionError
from ..diffusion import Schedule, ddim
from ..diffusion.guidance import Emphasis, classifier_free, dense_gradient, impute
from ..model.config import EncoderConfig, GenerativeConfig, generative_from_dict
from ..model.encoder import Encoder
from ..text import DIM, WordTable
from . import joint_level
from .window import TOKEN, Frame, find_frame, seconds_from_centre

if TYPE_CHECKING:  # network.py lists this class
    from .network import Windows

JOINTS = 22
LARGEST = 8.0
"""Deviations beyond which a clean estimate is cut while sampling; early estimates from noise go astray."""


@dataclass(frozen=True)
class Guidance:
    """What the sampler adds to the network; nothing by default.

    impute: the known part replaces the estimate's after each step. A network with context always does that.
    label: classifier-free guidance scale. 1 = the label as trained.
    gradient: scale of the dense gradient, GMD's guidance, towards a root path that arrives where the far side begins;
        without imputation also towards the known numbers.
    """

    impute: bool = False
    label: float = 1.0
    gradient: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A batch of windows as this network sees it.

    rotations, hips: inside the frame, the caller's guess where not observed. observed (B, T) bool. known, truth
    (B, T, 22, 12): which numbers are given, and all of them, standardised. label (B, DIM) or None.
    """

    frame: Frame
    rotations: Tensor
    hips: Tensor
    observed: Tensor
    known: Tensor
    truth: Tensor
    seconds: Tensor
    frame_step: Tensor
    label: Tensor | None


class Standard(nn.Module):
    """Mean per channel, and one deviation per kind of channel as in the published statistics of the format."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros((JOINTS, TOKEN)))
        self.register_buffer("deviation", torch.ones((JOINTS, TOKEN)))

    def measure(self, tokens: Tensor) -> None:
        """tokens: (N, 22, 12) of training motion."""
        kind = joint_level.groups().to(tokens.device)
        spread = tokens.double().std(dim=0)
        count = torch.bincount(kind.flatten()).to(spread)
        mean_spread = torch.zeros_like(count).index_add(0, kind.flatten(), spread.flatten()) / count
        self.mean.copy_(tokens.double().mean(dim=0))
        self.deviation.copy_(mean_spread.clamp(min=1e-4)[kind])

    def into(self, tokens: Tensor) -> Tensor:
        """Tokens → standardised."""
        return (tokens - self.mean) / self.deviation

    def back(self, values: Tensor) -> Tensor:
        """Standardised → tokens."""
        return values * self.deviation + self.mean


class GenerativeNetwork(nn.Module):
    """Linear in, aggregator, linear out over 22 × 12 joint tokens, or over one token of 264 per frame.

    words: the labels' vocabulary, see `text`; with none the network takes no labels.
    """

    def __init__(self, config: GenerativeConfig, words: Sequence[str] = ()):
        super().__init__()
        self.config = config
        self.text = WordTable(words) if words else None
        self.tokens = (JOINTS, TOKEN) if config.tokens == "joint" else (1, JOINTS * TOKEN)
        channels = self.tokens[1]
        label = DIM if words else 0
        self.encoder = Encoder(EncoderConfig(config.kaa, 0, channels, channels, label), self.tokens[0])
        self.scale = Standard()
        self.schedule = Schedule(config.steps, "cosine")
        path = torch.zeros((JOINTS, TOKEN), dtype=torch.bool)
        path[tuple(zip(*joint_level.PATH, strict=True))] = True
        self.emphasis = Emphasis(path.flatten(), config.emphasis) if config.emphasis else None

    def settings(self) -> dict[str, Any]:
        """What besides its KAA sizes it takes to build this network again."""
        c = self.config
        return {
            "words": list(self.text.words) if self.text else [], "tokens": c.tokens, "context": c.context,
            "steps": c.steps, "objective": c.objective, "emphasis": c.emphasis,
        }  # fmt: skip

    @classmethod
    def from_settings(cls, about: Mapping[str, Any]) -> GenerativeNetwork:
        """The untrained network that a card or a run's record describes."""
        return cls(generative_from_dict(about), about.get("words", ()))

    def condition(self, windows: Windows) -> Scene:
        """Everything about the windows that does not depend on the diffusion step.

        A frame counts as observed when all of it is. Raises `MotionError` where a window has none.
        """
        observed = windows.observed.all(dim=-1)
        if not observed.any(dim=1).all():
            raise MotionError("A window has no wholly known frame to start from; leave frames around the gap.")
        frame = find_frame(windows.rotations, windows.root, observed, windows.bodies)
        rotations, hips = frame.enter(windows.rotations, windows.root)
        tokens = joint_level.encode(rotations, hips, frame, windows.frame_step)
        return Scene(
            frame, rotations, hips, observed, joint_level.known_channels(observed), self.scale.into(tokens),
            seconds_from_centre(observed.shape[1], windows.frame_step), windows.frame_step, windows.label,
        )  # fmt: skip

    def to_state(self, values: Tensor) -> Tensor:
        """Standardised tokens (B, T, 22, 12) → what is diffused, (B, T, tokens, channels)."""
        values = values.reshape(*values.shape[:2], *self.tokens)
        return values if self.emphasis is None else self.emphasis.into(values)

    def from_state(self, state: Tensor) -> Tensor:
        """The inverse of `to_state`."""
        values = state if self.emphasis is None else self.emphasis.back(state)
        return values.reshape(*values.shape[:2], JOINTS, TOKEN)

    def predict(self, scene: Scene, state: Tensor, step: Tensor) -> Tensor:
        """Clean state or noise from a noisy state at ``step`` (B,)."""
        if self.config.context:
            known = scene.known.reshape(state.shape)
            state = torch.where(known, scene.truth.reshape(state.shape), state)
        empty = state.new_zeros((*state.shape[:3], 0))
        kind = state.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda" and self.training):
            return self.encoder(empty, state, step, scene.seconds, scene.frame_step, scene.label).float()

    def sample(
        self,
        scene: Scene,
        steps: int = 50,
        generator: torch.Generator | None = None,
        guidance: Guidance = Guidance(),
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Tokens (B, T, 22, 12) by DDIM in ``steps`` steps, in the layout's own units."""
        batch = len(scene.truth)

        def plain(x: Tensor, step: int) -> Tensor:
            return self.predict(scene, x, torch.full((batch,), step, device=x.device))

        def unlabelled(x: Tensor, step: int) -> Tensor:
            return self.predict(replace(scene, label=None), x, torch.full((batch,), step, device=x.device))

        predict = plain if scene.label is None else classifier_free(plain, unlabelled, guidance.label)
        if guidance.gradient:
            predict = dense_gradient(
                predict, lambda x0, _: self._miss(scene, x0, guidance.impute), self.schedule,
                scale=guidance.gradient, objective=self.config.objective,
            )  # fmt: skip
        keeps = self.config.context or guidance.impute
        put_back = impute(scene.truth, scene.known) if keeps else None

        def restore(x0: Tensor) -> Tensor:
            values = self.from_state(x0).clamp(-LARGEST, LARGEST)
            return self.to_state(values if put_back is None else put_back(values))

        with torch.no_grad():
            start = torch.randn((batch, scene.truth.shape[1], *self.tokens), generator=generator).to(scene.truth)
            state = ddim(
                predict, start, self.schedule, self.schedule.spaced(min(steps, self.schedule.steps)),
                objective=self.config.objective, restore=restore, progress=progress,
            )  # fmt: skip
            return self.scale.back(self.from_state(state))

    def _miss(self, scene: Scene, x0: Tensor, imputed: bool) -> Tensor:
        """(B,) GMD's goal: how far the root path is from arriving, and how far known numbers are from the truth."""
        values = self.from_state(x0)
        tokens = self.scale.back(torch.where(scene.known, scene.truth, values))
        miss = joint_level.arrival(tokens, scene.rotations, scene.hips, scene.observed, scene.frame_step)
        if imputed:
            return miss
        off = torch.where(scene.known, values - scene.truth, torch.zeros_like(values)).square()
        return miss + off.flatten(1).sum(dim=1) / scene.known.flatten(1).sum(dim=1)

    def motion(self, scene: Scene, tokens: Tensor, close: bool = True) -> tuple[Tensor, Tensor]:
        """Tokens → inside rotations (B, T, 22, 4) and hips (B, T, 3); see `joint_level.decode`."""
        return joint_level.decode(
            tokens, scene.rotations, scene.hips, scene.observed, scene.frame, scene.frame_step, close
        )
