"""The body-relative frame inside a prior, and the tokens its network reads.

Inside: root = midpoint of the hip joints, lengths in leg lengths, height above the local support, heading and planar
origin from the trusted frames. So neither the world's axes, nor the character's size, nor where it stands can change
the rotations that a prior predicts. Everything here is batched torch: (B, T, joint, channel).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import kinematics
from .. import rotations as rot
from ..contract import MIRROR

FEET = (7, 8, 10, 11)
TOKEN = 12
"""Channels of a joint token: position 3, velocity 3, rotation 6D (HumanML3D's joint layout)."""


@dataclass(frozen=True)
class Bodies:
    """Per-sample constants. offsets (B, 22, 3) metres; exists (B, 22) bool."""

    offsets: Tensor
    exists: Tensor

    @property
    def leg(self) -> Tensor:
        """(B,) thigh plus shin, mean of both sides, metres."""
        return self.offsets[:, [4, 5, 7, 8]].norm(dim=-1).sum(dim=-1) / 2

    @property
    def hip_centre(self) -> Tensor:
        """(B, 3) midpoint of the hip joints from the pelvis joint."""
        return self.offsets[:, [1, 2]].mean(dim=1)


@dataclass(frozen=True)
class Frame:
    """The similarity transform from the world to inside: turn by ``turn``, shift by −origin, divide by leg."""

    turn: Tensor  # (B, 4)
    origin: Tensor  # (B, 3) world metres
    bodies: Bodies

    def enter(self, rotations: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
        """World rotations (B, T, 22, 4) and pelvis (B, T, 3) → inside rotations and hips (B, T, 3)."""
        hips = root + rot.rotate(rotations[:, :, 0], self.bodies.hip_centre[:, None])
        hips = rot.rotate(self.turn[:, None], hips - self.origin[:, None]) / self.bodies.leg[:, None, None]
        turned = rot.multiply(self.turn[:, None], rotations[:, :, 0])
        return torch.cat([turned[:, :, None], rotations[:, :, 1:]], dim=2), hips

    def leave(self, rotations: Tensor, hips: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `enter`."""
        back = rot.conjugate(self.turn)[:, None]
        turned = rot.multiply(back, rotations[:, :, 0])
        world = rot.rotate(back, hips * self.bodies.leg[:, None, None]) + self.origin[:, None]
        root = world - rot.rotate(turned, self.bodies.hip_centre[:, None])
        return torch.cat([turned[:, :, None], rotations[:, :, 1:]], dim=2), root

    def positions(self, rotations: Tensor, hips: Tensor) -> Tensor:
        """Joint positions inside, in leg lengths: (B, T, 22, 3)."""
        offsets = (self.bodies.offsets / self.bodies.leg[:, None, None])[:, None]
        pelvis = hips - rot.rotate(rotations[:, :, 0], (self.bodies.hip_centre / self.bodies.leg[:, None])[:, None])
        return kinematics.positions(rotations, pelvis, offsets)


def find_frame(rotations: Tensor, root: Tensor, trusted: Tensor, bodies: Bodies) -> Frame:
    """The inside frame of each window, from its trusted frames (B, T) bool, at least one each.

    Heading: the mean direction the pelvis faces. Origin: mean hips in the plane, and the support height, the tenth
    percentile over trusted frames of the lowest foot joint: a jump does not lift it, one bad frame does not sink it.
    """
    weight = trusted[..., None].to(root.dtype)
    facing = rot.normalize((rot.heading(rotations[:, :, 0]) * weight).sum(dim=1) + 1e-9)
    half = torch.atan2(facing[:, 0], facing[:, 1])
    world = kinematics.positions(rotations, root, bodies.offsets[:, None])
    hips = world[:, :, [1, 2]].mean(dim=2)
    centre = (hips * weight).sum(dim=1) / weight.sum(dim=1)
    lowest = world[:, :, FEET, 1].amin(dim=-1)
    lowest = torch.where(trusted, lowest, torch.full_like(lowest, float("inf"))).sort(dim=1).values
    rank = ((trusted.sum(dim=1) - 1) * 0.1).long()
    support = lowest.gather(1, rank[:, None])[:, 0]
    origin = torch.stack([centre[:, 0], support, centre[:, 2]], dim=-1)
    return Frame(rot.about_y(-half), origin, bodies)


def mirrored(rotations: Tensor, root: Tensor, bodies: Bodies, which: Tensor) -> tuple[Tensor, Tensor, Bodies]:
    """Swap left and right of the chosen samples: reflection in the plane x = 0."""
    swap = list(MIRROR)
    flip_q = torch.tensor([1.0, 1.0, -1.0, -1.0], device=root.device)
    flip_x = torch.tensor([-1.0, 1.0, 1.0], device=root.device)
    offsets = torch.where(which[:, None, None], bodies.offsets[:, swap] * flip_x, bodies.offsets)
    exists = torch.where(which[:, None], bodies.exists[:, swap], bodies.exists)
    rotations = torch.where(which[:, None, None, None], rotations[:, :, swap] * flip_q, rotations)
    return rotations, torch.where(which[:, None, None], root * flip_x, root), Bodies(offsets, exists)


def tokens(rotations: Tensor, hips: Tensor, frame: Frame, frame_step: Tensor) -> Tensor:
    """(B, T, 22, 12) joint tokens of an inside motion.

    Positions are relative to the hips in the plane and absolute in height, the root token's are absolute; velocities
    are central differences per second in leg lengths, halved to be of order one. frame_step: (B,) seconds.
    """
    p = frame.positions(rotations, hips)
    step = frame_step[:, None, None, None]
    velocity = torch.cat([p[:, 1:2] - p[:, :1], (p[:, 2:] - p[:, :-2]) / 2, p[:, -1:] - p[:, -2:-1]], dim=1) / step
    planar = hips[:, :, None] * torch.tensor([1.0, 0.0, 1.0], device=hips.device, dtype=hips.dtype)
    relative = torch.cat([hips[:, :, None], p[:, :, 1:] - planar], dim=2)
    return torch.cat([relative, velocity / 2, rot.to_6d(rotations)], dim=-1)


def seconds_from_centre(frames: int, frame_step: Tensor) -> Tensor:
    """(B, T) time of each frame from the middle of its window."""
    index = torch.arange(frames, device=frame_step.device, dtype=frame_step.dtype) - (frames - 1) / 2
    return index * frame_step[:, None]
