"""The networks of the position priors: where windows of joint positions are normalised, masked and sampled.

Windows are (B, T, J, 3) world metres, Y up. `positions.py` cuts them from takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..baselines import neighbours
from ..diffusion import Schedule, ddim, ddpm
from ..model.config import MaskedConfig, SmoothNetConfig, masked_from_dict, to_dict
from ..model.decoder import MaskedModel
from ..model.smoothnet import SmoothNet
from .window import seconds_from_centre

CLAMP = 6.0
"""Limit of the signal that a predicted noise implies, in units of its spread: the first steps hold hardly any."""

Sampler = Literal["ddim", "ddpm"]


def interpolate_positions(positions: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Fill unobserved joints linearly between the nearest observed frames, held at the ends.

    positions (B, T, J, 3), ignored where not ``observed`` (B, T, J). Returns the filled positions, zero for a joint
    that is never observed, and (B, J) bool, which joints are observed at all.
    """
    positions = torch.where(observed[..., None], positions, torch.zeros_like(positions))
    before, after = neighbours(observed)
    known = before[:, 0] >= 0
    index = torch.arange(positions.shape[1], device=positions.device)[:, None]
    span = after - before
    part = torch.where(span > 0, (index - before) / span.clamp(min=1), torch.zeros_like(span, dtype=positions.dtype))

    def at(frames: Tensor) -> Tensor:
        return positions.gather(1, frames.clamp(min=0)[..., None].expand_as(positions))

    filled = torch.lerp(at(before), at(after), part.to(positions.dtype)[..., None])
    filled = torch.where(observed[..., None], positions, filled)
    return torch.where(known[:, None, :, None], filled, torch.zeros_like(filled)), known


def find_reference(base: Tensor, known: Tensor, config: MaskedConfig) -> Tensor:
    """(B, T, 1, 3) metres: what the poses of a window are taken relative to.

    base (B, T, J, 3) interpolated; known (B, J). Only joints known in the window count, in all its frames alike, so
    that the reference does not jump with what is visible. A window whose hips are unknown falls back to its centroid.
    """
    weight = known
    if config.reference == "hip":
        hips = torch.zeros_like(known)
        hips[:, list(config.joint_set.hips)] = True
        hips &= known
        weight = torch.where(hips.any(dim=1, keepdim=True), hips, known)
    share = weight[:, None, :, None].to(base.dtype)
    reference = (base * share).sum(dim=2, keepdim=True) / share.sum(dim=2, keepdim=True).clamp(min=1)
    return reference.mean(dim=1, keepdim=True).expand_as(reference) if config.scope == "window" else reference


@dataclass(frozen=True)
class PositionCondition:
    """A batch of windows as a network reads them, in units of its spread around the reference.

    observed (B, T, J, 3): input positions, interpolated where there are none. visible (B, T, J): what the encoder
    reads; None = everything. reference (B, T, 1, 3) metres.
    """

    observed: Tensor
    visible: Tensor | None
    reference: Tensor
    seconds: Tensor
    frame_step: Tensor


class PositionsNetwork(nn.Module):
    """Completion and refinement of joint positions in the paper's form (Eqs. 1-10), or D-MAE, its one-pass sibling."""

    scale: Tensor
    state_scale: Tensor

    def __init__(self, config: MaskedConfig):
        super().__init__()
        self.config = config
        self.model = MaskedModel(config)
        self.schedule = Schedule(config.steps, "cosine")
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("state_scale", torch.ones(()))

    @property
    def encoder(self) -> nn.Module:
        """The half that `torch.compile` is worth most for."""
        return self.model.encoder

    def settings(self) -> dict[str, Any]:
        """What it takes to build this network again."""
        return {"masked": to_dict(self.config)}

    @classmethod
    def from_settings(cls, about: dict[str, Any]) -> PositionsNetwork:
        """An untrained network from a model card's settings."""
        return cls(masked_from_dict(about["masked"]))

    def condition(
        self,
        positions: Tensor,
        observed: Tensor,
        frame_step: Tensor,
        visible: Tensor | None = None,
        base: tuple[Tensor, Tensor] | None = None,
    ) -> PositionCondition:
        """positions (B, T, J, 3) metres, observed (B, T, J) bool: which of them there are; frame_step (B,) seconds.

        visible: which of the observed the encoder reads; default all of them. base: what `interpolate_positions` gives
            of the takes around the windows, for a network that was trained with it (``config.base``); default, of the
            windows alone.
        """
        filled, known = base or interpolate_positions(positions, observed)
        reference = find_reference(filled, known, self.config)
        inside = (filled - reference) / self.scale
        inside = torch.where(known[:, None, :, None], inside, torch.zeros_like(inside))
        seen = observed if visible is None else visible & observed
        seconds = seconds_from_centre(positions.shape[1], frame_step)
        return PositionCondition(inside, None if bool(seen.all()) else seen, reference, seconds, frame_step)

    def enter(self, condition: PositionCondition, positions: Tensor) -> Tensor:
        """World positions → the diffused state."""
        inside = (positions - condition.reference) / self.scale
        return (inside - condition.observed) / self.state_scale if self.config.residual else inside

    def leave(self, condition: PositionCondition, state: Tensor) -> Tensor:
        """The inverse of `enter`."""
        inside = state * self.state_scale + condition.observed if self.config.residual else state
        return inside * self.scale + condition.reference

    def known_state(self, condition: PositionCondition) -> Tensor:
        """The state that the input itself is: zero for a residual."""
        return torch.zeros_like(condition.observed) if self.config.residual else condition.observed

    def predict(self, condition: PositionCondition, state: Tensor, step: Tensor) -> Tensor:
        """The network's answer (B, T, J, 3), signal or noise by objective, to a noisy state at ``step`` (B,)."""
        kind = state.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda" and self.training):
            c = condition
            base = c.observed if self.config.residual else None
            return self.model(c.observed, c.visible, state, step, c.seconds, c.frame_step, base).float()

    def one_pass(self, condition: PositionCondition) -> Tensor:
        """D-MAE's answer: the state itself, without diffusion."""
        batch = len(condition.observed)
        step = torch.zeros(batch, dtype=torch.long, device=condition.observed.device)
        return self.predict(condition, torch.zeros_like(condition.observed), step)

    def sample(
        self,
        condition: PositionCondition,
        start: Tensor,
        *,
        restore: bool,
        steps: int,
        sampler: Sampler = "ddim",
        generator: torch.Generator | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """World positions (B, T, J, 3) metres from the reverse process.

        start (B, T, J, 3): noise for completion, `known_state` for refinement (Eq. 10). restore: put the visible part
        back after every step (Eqs. 6-7). steps: of DDIM; DDPM takes all of them.
        """
        if not self.config.diffusion:
            return self.leave(condition, self.one_pass(condition))
        given = self.known_state(condition)
        visible = condition.visible[..., None] if condition.visible is not None else torch.ones_like(given).bool()
        limit = CLAMP if self.config.objective == "noise" else float("inf")

        def predict(x: Tensor, step: int) -> Tensor:
            at = torch.full((len(x),), step, device=x.device)
            return self.predict(condition, torch.where(visible, given, x) if restore else x, at)

        def put_back(x0: Tensor) -> Tensor:
            x0 = x0.clamp(-limit, limit)
            return torch.where(visible, given, x0) if restore else x0

        if sampler == "ddpm":
            state = ddpm(
                predict, start, self.schedule, objective=self.config.objective, generator=generator,
                restore=put_back, progress=progress,
            )  # fmt: skip
        else:
            state = ddim(
                predict, start, self.schedule, self.schedule.spaced(steps), objective=self.config.objective,
                restore=put_back, progress=progress,
            )  # fmt: skip
        return self.leave(condition, state)


class SmoothNetwork(nn.Module):
    """`SmoothNet` on windows of positions around their mean."""

    def __init__(self, config: SmoothNetConfig):
        super().__init__()
        self.config = config
        self.model = SmoothNet(config)

    def settings(self) -> dict[str, Any]:
        """What it takes to build this network again."""
        return {"smoothnet": to_dict(self.config)}

    @classmethod
    def from_settings(cls, about: dict[str, Any]) -> SmoothNetwork:
        """An untrained network from a model card's settings."""
        return cls(SmoothNetConfig(**about["smoothnet"]))

    def smooth(self, positions: Tensor) -> Tensor:
        """(B, window, J, 3) metres → the same, smoothed."""
        centre = positions.mean(dim=(1, 2), keepdim=True)
        return self.model(positions - centre) + centre
