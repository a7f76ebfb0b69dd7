"""The 263-column motion features of HumanML3D (Guo et al. 2022), in and out, for exchange with text-to-motion tools.

Per frame at 20 fps: heading speed (half angle, radians), root speed x and z, root height, 21 × 3 positions around the
root, 21 × 6 rotations, 22 × 3 velocities, 4 foot contacts. The rotations of the format come from a shortest-arc
inverse kinematics without twist and are no one's bones; `from_humanml3d` therefore takes positions only and finds
anatomical rotations itself. Root path and heading are sums of speeds, so they drift.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d

from . import kinematics
from . import rotations as rot
from .contract import Motion, MotionError, Skeleton
from .contract.skeleton import CANONICAL_DIRECTIONS, INDEX, MAIN_CHILD, PARENTS
from .pack import resample

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
    return from_joints(
        kinematics.positions(
            motion.rotations.astype(np.float64),
            motion.root.astype(np.float64),
            motion.skeleton.offsets.astype(np.float64),
        )
    )


def from_joints(points: np.ndarray) -> np.ndarray:
    """The features of joint positions (T, 22, 3) in metres at 20 fps: (T − 1, 263) float32."""
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


def from_humanml3d(array: np.ndarray, skeleton: Skeleton | None = None) -> Motion:
    """Features (T, 263) → a motion of T frames at 20 fps.

    skeleton: whose bones to use, the root path scaled by the legs; None = measured from the features. Rotations are
    found from joint positions with knees and elbows as hinges, so twist of head, hands and toes is not known and
    stays at rest. Raises `MotionError`.
    """
    points = recover_joints(array).astype(np.float64)
    turns = _anatomical(points)
    measured = _measure(points, turns)
    local = rot.continuous(rot.normalize(kinematics.to_local(turns)))
    root = points[:, 0]
    if skeleton is not None:
        root = root * (skeleton.leg_length / measured.leg_length)
    return Motion(local.astype(np.float32), root.astype(np.float32), skeleton or measured, FPS)


def _measure(points: np.ndarray, turns: np.ndarray) -> Skeleton:
    """Offsets as each parent sees its joints, the mean over the take."""
    parents = list(PARENTS[1:])
    offsets = np.zeros((22, 3))
    bones = points[:, 1:] - points[:, parents]
    offsets[1:] = rot.rotate(rot.conjugate(turns[:, parents]), bones).mean(axis=0)
    return Skeleton(offsets)


def _anatomical(points: np.ndarray) -> np.ndarray:
    """(T, 22, 4) canonical global rotations of joint positions (T, 22, 3)."""
    at = INDEX
    turns = np.tile(np.array(rot.IDENTITY), (len(points), 22, 1))
    hips = points[:, at["left_hip"]] - points[:, at["right_hip"]]
    shoulders = points[:, at["left_collar"]] - points[:, at["right_collar"]]
    if not _has_length(shoulders):  # collars that both start at the neck
        shoulders = points[:, at["left_shoulder"]] - points[:, at["right_shoulder"]]
    # the pelvis and the chest are turned by their width, what lies between shares their twist
    up = points[:, at["spine1"]] - (points[:, at["left_hip"]] + points[:, at["right_hip"]]) / 2
    turns[:, at["pelvis"]] = _frame(hips, 0, up, 1)
    for joint, part in (("spine1", 1 / 3), ("spine2", 2 / 3), ("spine3", 1.0)):
        left = (1 - part) * rot.normalize(hips) + part * rot.normalize(shoulders)
        segment = points[:, MAIN_CHILD[at[joint]]] - points[:, at[joint]]
        up = segment if _has_length(segment) else up
        turns[:, at[joint]] = _frame(up, 1, left, 0)
    for joint in ("neck", "left_collar", "right_collar"):
        turns[:, at[joint]] = _least_turn(points, at[joint], turns[:, PARENTS[at[joint]]])
    for side in ("left", "right"):
        _hinged(points, turns, at[f"{side}_hip"], at[f"{side}_knee"], np.array([1.0, 0.0, 0.0]))
        flex = np.array([0.0, -1.0 if side == "left" else 1.0, 0.0])
        _hinged(points, turns, at[f"{side}_shoulder"], at[f"{side}_elbow"], flex)
        ankle = at[f"{side}_ankle"]
        knee_axis = rot.rotate(turns[:, PARENTS[ankle]], np.array([1.0, 0.0, 0.0]))
        turns[:, ankle] = _frame(points[:, MAIN_CHILD[ankle]] - points[:, ankle], 2, knee_axis, 0)
    for leaf in ("head", "left_foot", "right_foot", "left_wrist", "right_wrist"):
        turns[:, at[leaf]] = turns[:, PARENTS[at[leaf]]]
    return turns


def _has_length(vectors: np.ndarray) -> bool:
    return float(np.median(np.linalg.norm(vectors, axis=-1))) > 0.005


def _hinged(points: np.ndarray, turns: np.ndarray, upper: int, lower: int, axis: np.ndarray) -> None:
    """Rotations of thigh and shin, or upper arm and forearm, that bend about ``axis``; in place.

    Where the limb is nearly straight its plane is unknown and the parent's is taken.
    """
    first, second = points[:, lower] - points[:, upper], points[:, MAIN_CHILD[lower]] - points[:, lower]
    normal = rot.cross(rot.normalize(first), rot.normalize(second))
    bend = np.linalg.norm(normal, axis=-1, keepdims=True)
    known = np.clip((bend - 0.05) / 0.2, 0.0, 1.0)
    carried = rot.rotate(_least_turn(points, upper, turns[:, PARENTS[upper]]), axis)
    hinge = known * normal / np.maximum(bend, 1e-9) + (1 - known) * carried
    along, across = int(np.argmax(np.abs(CANONICAL_DIRECTIONS[upper]))), int(np.argmax(np.abs(axis)))
    sign, turn = CANONICAL_DIRECTIONS[upper][along], axis[across]
    turns[:, upper] = _frame(sign * first, along, turn * hinge, across)
    turns[:, lower] = _frame(sign * second, along, turn * hinge, across)


def _least_turn(points: np.ndarray, joint: int, parent: np.ndarray) -> np.ndarray:
    """The parent's rotation plus the smallest turn that points the joint's segment right."""
    direction = points[:, MAIN_CHILD[joint]] - points[:, joint]
    if not _has_length(direction):
        return parent
    return rot.multiply(rot.shortest_arc(rot.rotate(parent, CANONICAL_DIRECTIONS[joint]), direction), parent)


def _frame(first: np.ndarray, first_axis: int, second: np.ndarray, second_axis: int) -> np.ndarray:
    """(T, 4) rotation with axis ``first_axis`` along ``first`` and ``second_axis`` as near ``second`` as it can be."""
    a = rot.normalize(first)
    b = rot.normalize(second - np.sum(second * a, axis=-1, keepdims=True) * a)
    axes = [np.zeros_like(a)] * 3
    axes[first_axis], axes[second_axis] = a, b
    last = 3 - first_axis - second_axis
    axes[last] = rot.cross(axes[(last + 1) % 3], axes[(last + 2) % 3])
    return rot.from_matrix(np.stack(axes, axis=-1))
