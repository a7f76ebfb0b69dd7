"""Losses on a predicted motion, inside the prior's frame: every term is dimensionless (radians or leg lengths)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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


def _masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    mask = mask.expand_as(x)
    return (x * mask).sum() / mask.sum().clamp(min=1)


def motion_losses(
    frame: Frame,
    rotations: Tensor,
    hips: Tensor,
    true_rotations: Tensor,
    true_hips: Tensor,
    hidden_frames: Tensor,
    batch: Batch,
) -> dict[str, Tensor]:
    """Position, velocity, acceleration (mean distance, per frame at 30 fps) and contact losses over hidden frames.

    hidden_frames (B, T) bool.
    """
    p, q = frame.positions(rotations, hips), frame.positions(true_rotations, true_hips)
    error = p - q
    rate = (1 / 30) / batch.frame_step[:, None, None, None]
    velocity = (error[:, 1:] - error[:, :-1]) * rate
    acceleration = (velocity[:, 1:] - velocity[:, :-1]) * rate
    any_two = (hidden_frames[:, 1:] | hidden_frames[:, :-1])[..., None, None]
    any_three = any_two[:, 1:] | any_two[:, :-1]
    feet, true_feet = p[:, :, FEET], q[:, :, FEET]
    speed = (true_feet[:, 1:] - true_feet[:, :-1]).norm(dim=-1) / batch.frame_step[:, None, None]
    planted = (speed < STILL) & batch.contact[:, None, None] & any_two[..., 0]
    slide = (feet[:, 1:] - feet[:, :-1]).abs().sum(dim=-1) * rate[..., 0]
    return {
        "position": _masked_mean(error.abs(), hidden_frames[..., None, None]),
        "velocity": _masked_mean(velocity.abs(), any_two),
        "acceleration": _masked_mean(acceleration.abs(), any_three),
        "contact": _masked_mean(slide, planted),
    }


def total(losses: dict[str, Tensor], weights: Weights) -> Tensor:
    """The weighted sum."""
    return torch.stack([getattr(weights, name) * value for name, value in losses.items()]).sum()
