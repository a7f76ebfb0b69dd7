"""Joint positions → rotations of the body they belong to.

Positions do not say how a bone is turned about itself. Pelvis and chest are turned by their width, knees and elbows are
hinges, feet follow the shins; twist of head, hands and toes is not known and stays at rest. NumPy only.
"""

from __future__ import annotations

import numpy as np

from . import kinematics
from . import rotations as rot
from .contract import Motion, MotionError, Skeleton
from .contract.skeleton import CANONICAL_DIRECTIONS, INDEX, JOINTS, MAIN_CHILD, PARENTS


def from_positions(points: np.ndarray, fps: float, skeleton: Skeleton | None = None) -> Motion:
    """Joint positions (T, 22, 3) in metres, Y up, → a motion of T frames.

    skeleton: whose bones to use, the root path scaled by the legs; None = measured, each bone as long as it is on
    average. Raises `MotionError` on a wrong shape, NaN, or hips and knees that coincide.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 3 or points.shape[1:] != (22, 3) or len(points) == 0:
        raise MotionError(f"Joint positions must have shape (frames, 22, 3), not {points.shape}.")
    bad = np.argwhere(~np.isfinite(points))
    if len(bad):
        frame, joint = (int(i) for i in bad[0, :2])
        raise MotionError(
            f"The position of {JOINTS[joint]} in frame {frame} is NaN or infinite; fill or cut that part first."
        )
    turns = _anatomical(points)
    measured = _measure(points, turns)
    local = rot.continuous(rot.normalize(kinematics.to_local(turns)))
    root = points[:, 0]
    if skeleton is not None:
        root = root * (skeleton.leg_length / measured.leg_length)
    return Motion(local.astype(np.float32), root.astype(np.float32), skeleton or measured, fps)


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
