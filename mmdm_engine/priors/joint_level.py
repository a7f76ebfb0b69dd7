"""HumanML3D's joint layout of a motion, 22 tokens of 12, and back: what the paper's in-betweening network generates.

The columns are those of `humanml3d.to_joint_level`. Three quantities differ, so that nothing is lost on the way back:
rotations are the bones' own local ones (the format's come from inverse kinematics without twist), the heading is that
of the pelvis, and the root is the midpoint of the hips. Lengths are leg lengths, heights are above the support, speeds
are per 1/30 s and lead **to** their frame: the speed of the first frame after a gap belongs to the gap.

    root    half turn of the heading 1, planar speed 2, height 1, velocity 3, contacts 4, whole turn 1
    others  position 3 (from below the root, heading along +Z), rotation 6D 6, velocity 3

Everything is batched torch (B, T, joint, channel), inside the frame of `window.Frame`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import rotations as rot
from ..baselines import neighbours
from .window import Frame

RATE = 30.0
"""Speeds are per 1/30 s, whatever the take's rate."""
STILL = 0.15
"""Leg lengths per second below which a foot stands."""
CONTACT_JOINTS = (7, 10, 8, 11)
TORSO = (1, 2, 3, 6, 9, 12, 13, 14, 16, 17)
"""Joints whose positions tell how the pelvis is turned."""
PATH = ((0, 0), (0, 1), (0, 2), (0, 4), (0, 6), (0, 11))
"""(token, channel) of the numbers that say where the root goes in the plane."""


def _speeds() -> Tensor:
    """(22, 12) bool: the channels that speak of two frames."""
    mask = torch.zeros((22, 12), dtype=torch.bool)
    mask[0] = True
    mask[0, 3] = False
    mask[1:, 9:] = True
    return mask


SPEEDS = _speeds()


def groups() -> Tensor:
    """(22, 12) int: channels of one kind, which share one scale as in the published statistics."""
    root = [0, 1, 1, 2, 3, 3, 3, 4, 4, 4, 4, 5]
    body = [6] * 3 + [7] * 6 + [3] * 3
    return torch.tensor([root] + [body] * 21)


def wrap(angle: Tensor) -> Tensor:
    """Radians → (−π, π]."""
    return torch.atan2(angle.sin(), angle.cos())


def _yaw(rotations: Tensor) -> Tensor:
    facing = rot.heading(rotations[..., 0, :])
    return torch.atan2(facing[..., 0], facing[..., 1])


def _with_first(x: Tensor) -> Tensor:
    """(B, T − 1, …) → (B, T, …): the first frame's speed is taken to be the second's."""
    return torch.cat([x[:, :1], x], dim=1)


def encode(rotations: Tensor, hips: Tensor, frame: Frame, frame_step: Tensor) -> Tensor:
    """An inside motion, rotations (B, T, 22, 4) and hips (B, T, 3), as tokens (B, T, 22, 12). frame_step (B,) s."""
    points = frame.positions(rotations, hips)
    yaw = _yaw(rotations)
    back = rot.about_y(-yaw)
    pace = 1 / (RATE * frame_step)
    turn = wrap(yaw[:, 1:] - yaw[:, :-1]) * pace[:, None]
    moved = rot.rotate(back[:, :-1, None], points[:, 1:] - points[:, :-1]) * pace[:, None, None, None]
    root_moved = rot.rotate(back[:, :-1], hips[:, 1:] - hips[:, :-1]) * pace[:, None, None]
    standing = moved[:, :, CONTACT_JOINTS].norm(dim=-1) * RATE < STILL
    below = hips * torch.tensor([1.0, 0.0, 1.0], device=hips.device)
    around = rot.rotate(back[:, :, None], points - below[:, :, None])
    root = torch.cat(
        [
            _with_first(turn[..., None] / 2), _with_first(root_moved[..., [0, 2]]), hips[..., 1:2],
            _with_first(root_moved), _with_first(standing.to(hips)), _with_first(turn[..., None]),
        ],
        dim=-1,
    )  # fmt: skip
    body = torch.cat([around[:, :, 1:], rot.to_6d(rotations[:, :, 1:]), _with_first(moved)[:, :, 1:]], dim=-1)
    return torch.cat([root[:, :, None], body], dim=2)


def known_channels(observed: Tensor) -> Tensor:
    """Observed frames (B, T) bool → observed numbers (B, T, 22, 12): a speed needs the frame before as well."""
    both = observed & torch.cat([observed[:, 1:2], observed[:, :-1]], dim=1)
    return torch.where(SPEEDS.to(observed.device), both[:, :, None, None], observed[:, :, None, None])


def _path(tokens: Tensor, yaw: Tensor, frame_step: Tensor) -> Tensor:
    """(B, T, 2) planar places along the headings (B, T), from the origin."""
    speed = tokens[:, 1:, 0, 1:3] * (RATE * frame_step)[:, None, None]
    planar = torch.stack([speed[..., 0], torch.zeros_like(speed[..., 0]), speed[..., 1]], dim=-1)
    steps = rot.rotate(rot.about_y(yaw[:, :-1]), planar)[..., [0, 2]]
    return torch.cat([torch.zeros_like(steps[:, :1]), steps.cumsum(dim=1)], dim=1)


def _headings(tokens: Tensor, frame_step: Tensor) -> Tensor:
    """(B, T) headings, from zero."""
    turn = tokens[:, 1:, 0, 0] * (2 * RATE * frame_step)[:, None]
    return torch.cat([torch.zeros_like(turn[:, :1]), turn.cumsum(dim=1)], dim=1)


def _correction(miss: Tensor, observed: Tensor, close: bool, angle: bool) -> Tensor:
    """What to add to a summed path (B, T, C) so that it meets observed frames, whose miss is known.

    Between two observed frames the correction goes evenly from one to the other; not ``close``: it stays the first
    one's, so the path runs on from what came before and need not arrive.
    """
    before, after = neighbours(observed[..., None])

    def at(index: Tensor) -> Tensor:
        return miss.gather(1, index.clamp(min=0).expand_as(miss))

    first, difference = at(before), at(after) - at(before)
    if angle:
        difference = wrap(difference)
    if not close:
        return first
    number = torch.arange(miss.shape[1], device=miss.device)[None, :, None]
    share = (number - before) / (after - before).clamp(min=1)
    return first + share * difference


def arrival(tokens: Tensor, rotations: Tensor, hips: Tensor, observed: Tensor, frame_step: Tensor) -> Tensor:
    """(B,) how far summed root speeds lead past the observed frames: mean square of radians and leg lengths.

    The path begins at the first observed frame. Differentiable in the tokens: GMD's goal for the root trajectory.
    """
    true_yaw = _yaw(rotations)
    yaw = _headings(tokens, frame_step)
    start = observed.int().argmax(dim=1, keepdim=True)
    yaw = yaw + (true_yaw - yaw).gather(1, start)
    place = _path(tokens, yaw, frame_step)
    miss = hips[..., [0, 2]] - place
    miss = miss - miss.gather(1, start[..., None].expand(-1, -1, 2))
    square = wrap(true_yaw - yaw).square() + miss.square().sum(dim=-1)
    return torch.where(observed, square, torch.zeros_like(square)).sum(dim=1) / observed.sum(dim=1)


def decode(
    tokens: Tensor,
    rotations: Tensor,
    hips: Tensor,
    observed: Tensor,
    frame: Frame,
    frame_step: Tensor,
    close: bool = True,
) -> tuple[Tensor, Tensor]:
    """Tokens (B, T, 22, 12) → inside rotations and hips; observed frames (B, T) bool come back as given.

    The root's path is the sum of its speeds. What it misses the next observed frame by is spread evenly over the gap,
    unless ``close`` is False. Local rotations are read off; the pelvis is turned so that forward kinematics of these
    rotations meets the torso's positions best (Kabsch).
    """
    yaw = _headings(tokens, frame_step)
    yaw = yaw + _correction((_yaw(rotations) - yaw)[..., None], observed, close, True)[..., 0]
    place = _path(tokens, yaw, frame_step)
    place = place + _correction(hips[..., [0, 2]] - place, observed, close, False)
    height = tokens[:, :, 0, 3]
    local = rot.from_6d(tokens[:, :, 1:, 3:9])
    still = torch.zeros_like(local[:, :, :1])
    still[..., 0] = 1
    bare = frame.positions(torch.cat([still, local], dim=2), torch.zeros_like(hips))
    wanted = tokens[..., 1:, :3] - height[..., None, None] * torch.tensor([0.0, 1.0, 0.0], device=height.device)
    torso = list(TORSO)
    turn = _kabsch(bare[:, :, torso], wanted[:, :, [j - 1 for j in torso]])
    pelvis = rot.multiply(rot.about_y(yaw), turn)
    generated = torch.cat([pelvis[:, :, None], local], dim=2)
    moved = torch.stack([place[..., 0], height, place[..., 1]], dim=-1)
    return (
        torch.where(observed[..., None, None], rotations, generated),
        torch.where(observed[..., None], hips, moved),
    )


def _kabsch(points: Tensor, wanted: Tensor) -> Tensor:
    """(..., 4) the rotation about the origin that best brings points (..., N, 3) onto wanted ones."""
    u, _, vh = torch.linalg.svd(points.transpose(-1, -2) @ wanted)
    sign = torch.linalg.det(u @ vh).sign()
    flip = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)
    return rot.from_matrix(vh.transpose(-1, -2) * flip[..., None, :] @ u.transpose(-1, -2))


assert math.prod(SPEEDS.shape) == 264
