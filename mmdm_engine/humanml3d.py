"""The 263-column motion features of HumanML3D (Guo et al. 2022), in and out, for exchange with text-to-motion tools.

Per frame at 20 fps: heading speed (half angle, radians), root speed x and z, root height, 21 × 3 positions around the
root, 21 × 6 rotations, 22 × 3 velocities, 4 foot contacts. The rotations of the format come from a shortest-arc
inverse kinematics without twist and are no one's bones; `from_humanml3d` therefore takes positions only and finds
anatomical rotations itself. Root path and heading are sums of speeds, so they drift.

`to_joint_level` sorts the same numbers by joint, 22 tokens of 12, for networks that attend over joints.
Importing this needs NumPy only.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from . import kinematics
from . import rotations as rot
from .anatomy import from_positions
from .arrays import constant, namespace
from .contract import Motion, MotionError, Skeleton
from .pack import resample

Array = Any

FPS = 20.0
COLUMNS = 263
_CHAINS = ((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20))
"""Order of the format's inverse kinematics; the arms begin from the heading, not from the chest."""
_CONTACT_JOINTS = (7, 10, 8, 11)
_CONTACT_STEP = 0.002
"""Squared metres between two frames of 1/20 s."""


def _reference_directions() -> np.ndarray:
    """(22, 3) rest direction from the parent to each joint in the format's own rest pose: arms hang down."""
    directions = np.zeros((22, 3))
    directions[[3, 6, 9, 12], 1] = 1.0
    directions[[4, 5, 7, 8, 16, 17, 18, 19, 20, 21], 1] = -1.0
    directions[[10, 11, 15], 2] = 1.0
    directions[[1, 13], 0], directions[[2, 14], 0] = 1.0, -1.0
    return directions


_REFERENCE = _reference_directions()


def to_humanml3d(motion: Motion) -> np.ndarray:
    """The features of a motion: (T − 1, 263) float32, T counted at 20 fps.

    The motion is resampled where its rate differs, set on the floor, and turned to face +Z from the origin at its
    first frame. Its size is kept: the published data is scaled to one reference skeleton. Raises `MotionError` with
    fewer than two frames or NaN.
    """
    motion.require_finite()
    motion = resample(motion, FPS)
    return from_joints(kinematics.joint_positions(motion))


def from_joints(points: np.ndarray) -> np.ndarray:
    """The features of joint positions (T, 22, 3) in metres at 20 fps: (T − 1, 263) float32."""
    from scipy.ndimage import gaussian_filter1d

    points = np.array(points, np.float64)
    if points.ndim != 3 or points.shape[1:] != (22, 3) or len(points) < 2:
        raise MotionError(f"HumanML3D needs at least two frames of (22, 3) joint positions, not {points.shape}.")
    points[..., 1] -= points[..., 1].min()
    points -= points[0, 0] * (1, 0, 1)
    points = rot.rotate(_turn_to_z(_facing(points[:1]))[0], points)

    # the published heading takes the hips the wrong way round; whoever reads the format expects just that
    turn = _turn_to_z(gaussian_filter1d(_facing(points, hips=-1.0), 20, axis=0, mode="nearest"))
    turn[0] = rot.IDENTITY
    steps = rot.rotate(turn[1:, None], points[1:] - points[:-1])
    steps_before = rot.rotate(turn[:-1, None], points[1:] - points[:-1])
    spin = rot.multiply(turn[1:], rot.conjugate(turn[:-1]))
    around = points - points[:, :1] * (1, 0, 1)
    around = rot.rotate(turn[:, None], around)
    contact = np.sum((points[1:] - points[:-1])[:, list(_CONTACT_JOINTS)] ** 2, axis=-1) < _CONTACT_STEP
    blocks = [
        np.arcsin(np.clip(spin[:, 2:3], -1, 1)),
        steps[:, 0][:, [0, 2]],
        points[:-1, 0, 1:2],
        around[:-1, 1:].reshape(len(steps), -1),
        rot.to_6d(_shortest_arc_pose(points, turn))[:-1, 1:].reshape(len(steps), -1),
        steps_before.reshape(len(steps), -1),
        contact,
    ]
    return np.concatenate(blocks, axis=1).astype(np.float32)


def _facing(points: np.ndarray, hips: float = 1.0) -> np.ndarray:
    """(T, 3) horizontal forward direction, not of unit length, from hips (weighted) and shoulders."""
    left = hips * (points[:, 1] - points[:, 2]) + (points[:, 16] - points[:, 17])
    return rot.cross(rot.normalize(left), np.array([0.0, 1.0, 0.0]))


def _turn_to_z(facing: np.ndarray) -> np.ndarray:
    return rot.shortest_arc(facing, np.broadcast_to((0.0, 0.0, 1.0), facing.shape))


def _shortest_arc_pose(points: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """(T, 22, 4) the format's local rotations: each joint's own row turns the segment that ends there."""
    pose = np.tile(np.array(rot.IDENTITY), (len(points), 22, 1))
    pose[:, 0] = turn
    for chain in _CHAINS:
        above = turn
        for start, end in pairwise(chain):
            direction = points[:, end] - points[:, start]
            whole = rot.shortest_arc(np.broadcast_to(_REFERENCE[end], direction.shape), direction)
            pose[:, end] = rot.multiply(rot.conjugate(above), whole)
            above = whole
    return pose


def recover_joints(array: np.ndarray) -> np.ndarray:
    """Joint positions (T, 22, 3) float32 in metres from features (T, 263).

    Raises `MotionError` on a wrong shape or NaN.
    """
    array = np.asarray(array)
    if array.ndim != 2 or array.shape[1] != COLUMNS or len(array) == 0:
        raise MotionError(f"HumanML3D features have {COLUMNS} columns and at least one row, not shape {array.shape}.")
    if not np.isfinite(array).all():
        raise MotionError("The HumanML3D features hold NaN or infinite numbers; undo any normalisation error first.")
    values = array.astype(np.float64)
    half = np.concatenate([[0.0], np.cumsum(values[:-1, 0])])
    back = rot.about_y(-2 * half)
    steps = np.zeros((len(values), 3))
    steps[1:, 0], steps[1:, 2] = values[:-1, 1], values[:-1, 2]
    root = np.cumsum(rot.rotate(back, steps), axis=0)
    points = rot.rotate(back[:, None], values[:, 4:67].reshape(-1, 21, 3)) + root[:, None]
    root[:, 1] = values[:, 3]
    return np.concatenate([root[:, None], points], axis=1).astype(np.float32)


def from_humanml3d(array: np.ndarray, skeleton: Skeleton | None = None, *, fps: float = FPS) -> Motion:
    """Features (T, 263) → a motion of T frames, at 20 fps unless the features were made at another rate.

    skeleton: whose bones to use, the root path scaled by the legs; None = measured from the features. Rotations are
    found from joint positions, see `anatomy.from_positions`. Raises `MotionError`.
    """
    return from_positions(recover_joints(array), fps, skeleton)


def _joint_level_columns() -> list[int]:
    """For each of the 22 × 12 numbers its column; the last one of the root token is made from column 0."""
    root = [*range(4), *range(193, 196), *range(259, 263), 0]
    body = [
        [*range(4 + 3 * j, 7 + 3 * j), *range(67 + 6 * j, 73 + 6 * j), *range(196 + 3 * j, 199 + 3 * j)]
        for j in range(21)
    ]
    return [column for token in (root, *body) for column in token]


_TOKENS = _joint_level_columns()
_TURN = 11
"""Place of the root rotation velocity among the 264 numbers."""
_BACK = [_TOKENS.index(column) for column in range(COLUMNS)]


def to_joint_level(array: Array) -> Array:
    """Features (..., 263) → joint tokens (..., 22, 12), NumPy or torch.

    Body tokens: position 3, rotation 6, velocity 3. Root token: heading speed 1 (half angle), speed x and z 2,
    height 1, velocity 3, contacts 4, and the heading's whole turn per frame in radians. The last one is twice the
    first, which is how we read the published 264 = 263 + 1. Works on means and standard deviations as well.
    """
    _require_last(array, (COLUMNS,), f"HumanML3D features have {COLUMNS} columns")
    xp = namespace(array)
    whole = [2.0 if i == _TURN else 1.0 for i in range(len(_TOKENS))]
    tokens = rot.take(array, _TOKENS, -1) * constant(xp, whole, array)
    return xp.reshape(tokens, (*array.shape[:-1], 22, 12))


def from_joint_level(tokens: Array) -> Array:
    """The inverse of `to_joint_level`, to the bit. The root's last number says nothing new and is not read."""
    _require_last(tokens, (22, 12), "HumanML3D joint tokens end in (22, 12)")
    xp = namespace(tokens)
    return rot.take(xp.reshape(tokens, (*tokens.shape[:-2], len(_TOKENS))), _BACK, -1)


def _require_last(array: Array, shape: tuple[int, ...], sentence: str) -> None:
    if tuple(array.shape[-len(shape) :]) != shape:
        raise MotionError(f"{sentence}, not shape {tuple(array.shape)}.")
