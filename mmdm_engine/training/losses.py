"""Losses on a predicted motion, inside the prior's frame: every term is dimensionless (radians or leg lengths)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..contract.skeleton import PARENTS
from ..priors.window import FEET, Frame
from .clips import Batch

STILL = 0.15
"""Leg lengths per second below which a true foot counts as planted."""


@dataclass(frozen=True)
class Weights:
    """How much each term counts. state: scaled residual; rotation: radians; the rest: joint positions by FK."""

    state: float = 0.1
    rotation: float = 2.0
    position: float = 2.0
    velocity: float = 0.5
    acceleration: float = 0.1
    contact: float = 0.2


def _ancestry() -> Tensor:
    """(22, 22): row i, column j is one where j's place depends on the rotation of i."""
    table = torch.zeros(22, 22)
    for j, parent in enumerate(PARENTS):
        if parent >= 0:
            table[:, j] = table[:, parent]
            table[parent, j] = 1
    table[0, 0] = 1  # where the pelvis is lost, so is its place
    return table


ANCESTRY = _ancestry()


def moved_by(hidden: Tensor) -> Tensor:
    """Joints whose rotation is lost (B, T, 22) bool → joints whose place is uncertain for it."""
    return hidden.float() @ ANCESTRY.to(hidden.device) > 0


def window_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x (B, …) over the mask in each window, then over windows: a lost hand counts like a lost body."""
    mask = mask.expand_as(x).flatten(1).to(x.dtype)
    count = mask.sum(dim=1)
    means = (x.flatten(1) * mask).sum(dim=1) / count.clamp(min=1)
    return means.sum() / (count > 0).sum().clamp(min=1)


def motion_losses(
    frame: Frame,
    rotations: Tensor,
    hips: Tensor,
    true_rotations: Tensor,
    true_hips: Tensor,
    moved: Tensor,
    batch: Batch,
) -> dict[str, Tensor]:
    """Position, velocity, acceleration (mean distance, per frame at 30 fps) and contact losses.

    moved (B, T, 22) bool: the joints that count.
    """
    p, q = frame.positions(rotations, hips), frame.positions(true_rotations, true_hips)
    error = p - q
    rate = (1 / 30) / batch.frame_step[:, None, None, None]
    velocity = (error[:, 1:] - error[:, :-1]) * rate
    acceleration = (velocity[:, 1:] - velocity[:, :-1]) * rate
    any_two = (moved[:, 1:] | moved[:, :-1])[..., None]
    any_three = any_two[:, 1:] | any_two[:, :-1]
    feet, true_feet = p[:, :, FEET], q[:, :, FEET]
    speed = (true_feet[:, 1:] - true_feet[:, :-1]).norm(dim=-1) / batch.frame_step[:, None, None]
    planted = (speed < STILL) & batch.contact[:, None, None] & any_two[:, :, FEET, 0]
    slide = (feet[:, 1:] - feet[:, :-1]).abs().sum(dim=-1) * rate[..., 0]
    return {
        "position": window_mean(error.abs(), moved[..., None]),
        "velocity": window_mean(velocity.abs(), any_two),
        "acceleration": window_mean(acceleration.abs(), any_three),
        "contact": window_mean(slide, planted),
    }


def total(losses: dict[str, Tensor], weights: Weights) -> Tensor:
    """The weighted sum."""
    return torch.stack([getattr(weights, name) * value for name, value in losses.items()]).sum()
