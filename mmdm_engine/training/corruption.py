"""What training hides and spoils: gap schedules for in-betweening, noise for refinement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .. import rotations as rot
from ..contract.skeleton import LIMBS

CONTEXT = 0.4
"""Seconds of trusted motion on each side of a gap."""
FPS = (30, 30, 30, 30, 60, 24, 25, 20, 50, 40)
"""Frame rates drawn in training; 30 is the commonest target of clean-up work."""
COARSE_FPS = (5, 6, 10)
"""Rates of the first pass over gaps beyond two seconds."""


def choice(options: tuple[Any, ...], generator: torch.Generator) -> Any:
    """One of the options, evenly."""
    return options[int(torch.randint(len(options), (), generator=generator))]


@dataclass(frozen=True)
class GapSchedule:
    """The shape of one batch's gaps: ``length`` frames at ``fps`` between ``context`` trusted frames a side."""

    kind: Literal["gap", "keys", "limb", "one_sided"]
    fps: int
    context: int
    length: int

    @property
    def frames(self) -> int:
        """Window length."""
        return self.length + 2 * self.context

    def observed(self, batch: int, generator: torch.Generator) -> Tensor:
        """(batch, frames, 23) bool; keys, limbs and sides are drawn per sample."""
        observed = torch.ones((batch, self.frames, 23), dtype=torch.bool)
        gap = slice(self.context, self.context + self.length)
        if self.kind == "gap":
            observed[:, gap] = False
        elif self.kind == "keys":
            share = torch.rand((batch, 1), generator=generator) * 0.3
            observed[:, gap] = (torch.rand((batch, self.length), generator=generator) < share)[..., None]
        elif self.kind == "limb":
            hide = torch.rand((batch, 22), generator=generator) < torch.rand((batch, 1), generator=generator) * 0.5
            for limb in LIMBS:
                hide[:, list(limb)] |= (torch.rand(batch, generator=generator) < 0.3)[:, None]
            hide = torch.cat([hide, hide[:, :1]], dim=1)  # the root's position goes with its rotation
            observed[:, gap] = ~hide[:, None].expand(-1, self.length, -1)
        else:
            head = (torch.rand(batch, generator=generator) < 0.5)[:, None]
            index = torch.arange(self.frames)
            seen = torch.where(head, index >= gap.stop, index < gap.start)
            observed &= seen[..., None]
        return observed


def draw_schedule(generator: torch.Generator) -> GapSchedule:
    """Plain gaps of 2-60 frames in three batches of four, else keys inside, hidden limbs, or one side only."""
    kind = float(torch.rand((), generator=generator))
    coarse = kind > 0.96
    fps = choice(COARSE_FPS if coarse else FPS, generator)
    # two lengths in three are drawn evenly, the rest towards the short ones
    power = 1.0 if torch.rand((), generator=generator) < 0.67 else 2.0
    length = 2 + round(float(torch.rand((), generator=generator)) ** power * 58)
    length = min(length, (5 if coarse else 2) * fps)
    name = "gap" if kind < 0.72 or coarse else "keys" if kind < 0.82 else "limb" if kind < 0.9 else "one_sided"
    return GapSchedule(name, fps, max(3, round(CONTEXT * fps)), length)  # type: ignore[arg-type]


def _log_uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    u = torch.rand(shape, generator=generator)
    return low * (high / low) ** u


def add_noise(rotations: Tensor, root: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Spoil clean windows as capture does: white or lightly correlated jitter of unknown level, uneven over joints.

    A tenth stays clean. rotations (B, T, 22, 4), root (B, T, 3) metres.
    """
    b, t = root.shape[:2]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def some(share: float) -> Tensor:
        return (torch.rand((b,), generator=generator) < share).float()

    turn, shift = normal(b, t, 22, 3), normal(b, t, 3)
    memory = (some(0.3) * torch.rand((b,), generator=generator) * 0.7)[:, None]
    for x in (turn, shift):  # first-order autoregression, unit variance
        flat = x.view(b, t, -1)
        for i in range(1, t):
            flat[:, i] = memory * flat[:, i - 1] + (1 - memory**2).sqrt() * flat[:, i]
    uneven = some(0.4)[:, None]
    per_joint = torch.exp(normal(b, 22) * 0.6 * uneven)
    dirty = 1 - some(0.1)
    angle = torch.deg2rad(_log_uniform(0.5, 12.0, (b,), generator)) * dirty
    distance = _log_uniform(0.002, 0.05, (b,), generator) * dirty
    turn = turn * (angle[:, None] * per_joint)[:, None, :, None]
    spikes = (torch.rand((b, t, 22), generator=generator) < 0.01) * (some(0.15) * dirty)[:, None, None]
    turn = turn + spikes[..., None] * normal(b, t, 22, 3) * 0.4
    return (
        rot.normalize(rot.multiply(rotations, rot.exp(turn.to(rotations)))),
        root + (shift * distance[:, None, None]).to(root),
    )
