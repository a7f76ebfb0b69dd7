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

_POINT = 0.02
"""Metres below which a bone is a point: its direction would be noise."""
_NEAR, _FAR = 0.1, 2.0
"""Seconds over which a bent limb's turn about itself tells about its neighbours in time, and until which it can."""
_NO_BEND = 1e-4
_STRAIGHT, _BENT = 0.05, 0.25
"""Sines of the bend below which a limb does not show its turn, and above which it does."""


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
    points = _on_bones(points, _measure(points, _anatomical(points, fps)), fps)
    turns = _anatomical(points, fps)
    measured = _measure(points, turns)
    local = rot.continuous(rot.normalize(kinematics.to_local(turns)))
    root = points[:, 0]
    if skeleton is not None:
        root = root * (skeleton.leg_length / measured.leg_length)
    return Motion(local.astype(np.float32), root.astype(np.float32), skeleton or measured, fps)


def _on_bones(points: np.ndarray, skeleton: Skeleton, fps: float) -> np.ndarray:
    """Positions with bones of constant length, each aimed at its own joint from where its parent came to lie.

    Pelvis and chest, which carry three bones each, are fitted as a whole by least squares.
    """
    offsets = skeleton.offsets.astype(np.float64)
    placed = points.copy()
    for joint in range(22):  # parents come first
        children = [child for child in range(22) if PARENTS[child] == joint]
        wanted = points[:, children] - placed[:, [joint]]
        lengths = np.linalg.norm(offsets[children], axis=-1, keepdims=True)
        if len(children) > 1:
            turn = _fit(offsets[children], wanted)
            placed[:, children] = placed[:, [joint]] + rot.rotate(turn[:, None], offsets[children])
        elif children:
            placed[:, children] = placed[:, [joint]] + lengths * rot.normalize(wanted)
    return placed


def _fit(template: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(T, 4) rotations that bring template (N, 3) nearest to what is seen (T, N, 3) (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(np.einsum("tni,nj->tij", seen, template))
    sign = np.ones((len(seen), 1, 3))
    sign[:, 0, 2] = np.sign(np.linalg.det(u @ vt))
    return rot.from_matrix((u * sign) @ vt)


def _measure(points: np.ndarray, turns: np.ndarray) -> Skeleton:
    """Offsets as each parent sees its joints, the mean over the take.

    A segment that is hardly more than a point lies along its canonical direction, as all others do by construction.
    """
    parents = list(PARENTS[1:])
    offsets = np.zeros((22, 3))
    bones = points[:, 1:] - points[:, parents]
    offsets[1:] = rot.rotate(rot.conjugate(turns[:, parents]), bones).mean(axis=0)
    for joint, child in enumerate(MAIN_CHILD):
        if child >= 0 and np.linalg.norm(offsets[child]) < _POINT:
            offsets[child] = offsets[child] @ CANONICAL_DIRECTIONS[joint] * CANONICAL_DIRECTIONS[joint]
    return Skeleton(offsets)


def _anatomical(points: np.ndarray, fps: float) -> np.ndarray:
    """(T, 22, 4) canonical global rotations of joint positions (T, 22, 3)."""
    at = INDEX
    turns = np.tile(np.array(rot.IDENTITY), (len(points), 22, 1))
    hips = points[:, at["left_hip"]] - points[:, at["right_hip"]]
    shoulders = points[:, at["left_collar"]] - points[:, at["right_collar"]]
    if not _has_length(shoulders):  # collars that both start at the neck
        shoulders = points[:, at["left_shoulder"]] - points[:, at["right_shoulder"]]
    # the pelvis and the chest are turned by their width, what lies between shares their twist
    turns[:, at["pelvis"]], up = _pelvis(points)
    for joint, part in (("spine1", 1 / 3), ("spine2", 2 / 3), ("spine3", 1.0)):
        left = (1 - part) * rot.normalize(hips) + part * rot.normalize(shoulders)
        segment = points[:, MAIN_CHILD[at[joint]]] - points[:, at[joint]]
        up = segment if _has_length(segment) else up
        turns[:, at[joint]] = _frame(up, 1, left, 0)
    for joint in ("neck", "left_collar", "right_collar"):
        turns[:, at[joint]] = _least_turn(points, at[joint], turns[:, PARENTS[at[joint]]])
    for side in ("left", "right"):
        _hinged(points, turns, at[f"{side}_hip"], at[f"{side}_knee"], np.array([1.0, 0.0, 0.0]), fps)
        flex = np.array([0.0, -1.0 if side == "left" else 1.0, 0.0])
        _hinged(points, turns, at[f"{side}_shoulder"], at[f"{side}_elbow"], flex, fps)
        ankle = at[f"{side}_ankle"]
        knee_axis = rot.rotate(turns[:, PARENTS[ankle]], np.array([1.0, 0.0, 0.0]))
        turns[:, ankle] = _frame(points[:, MAIN_CHILD[ankle]] - points[:, ankle], 2, knee_axis, 0)
    for leaf in ("head", "left_foot", "right_foot", "left_wrist", "right_wrist"):
        turns[:, at[leaf]] = turns[:, PARENTS[at[leaf]]]
    return turns


def _pelvis(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, 4) rotations of the pelvis and (T, 3) the way up its spine, which is +Y of its rest pose on average.

    The pelvis is one piece, so it is turned by the bones that leave it, whatever the spine above does.
    """
    bones = points - points[:, :1]
    left, right = bones[:, INDEX["left_hip"]], bones[:, INDEX["right_hip"]]
    spine = (bones[:, INDEX[joint]] for joint in ("spine1", "spine2", "spine3", "neck", "head"))
    up = next((way for way in spine if _has_length(way)), -(left + right))
    rigid = up if _has_length(bones[:, INDEX["spine1"]]) or not _has_length(left + right) else np.zeros(3)
    turns = _frame(left - right, 0, rigid - (left + right) / 2, 1)
    at_rest = rot.rotate(rot.conjugate(turns), rot.normalize(up)).mean(axis=0)
    tilt = np.arctan2(at_rest[2], at_rest[1]) / 2
    tilt_back = np.array([np.cos(tilt), -np.sin(tilt), 0.0, 0.0])
    upright = rot.multiply(rot.shortest_arc(rot.rotate(tilt_back, at_rest), np.array([0.0, 1.0, 0.0])), tilt_back)
    return rot.multiply(turns, rot.conjugate(upright)), up


def _has_length(vectors: np.ndarray) -> bool:
    return float(np.median(np.linalg.norm(vectors, axis=-1))) > _POINT


def _hinged(points: np.ndarray, turns: np.ndarray, upper: int, lower: int, axis: np.ndarray, fps: float) -> None:
    """Rotations of thigh and shin, or upper arm and forearm, that bend about ``axis``; in place.

    How the limb is turned about itself shows while it is bent. Over frames in which it is straight, a mean over time
    carries it, weighted by the square of the bend's sine and by nearness; a limb that never bends turns as its parent.
    """
    first, second = points[:, lower] - points[:, upper], points[:, MAIN_CHILD[lower]] - points[:, lower]
    along_first = rot.normalize(first)
    normal = rot.cross(along_first, rot.normalize(second))
    carried = rot.rotate(_least_turn(points, upper, turns[:, PARENTS[upper]]), axis)
    across_carried = rot.cross(along_first, carried)
    seen = np.sum(normal * carried, axis=-1) + 1j * np.sum(normal * across_carried, axis=-1)
    reach = int(np.ceil(_FAR * fps))
    near = np.exp(-np.abs(np.arange(-reach, reach + 1)) / (_NEAR * fps))
    around = np.convolve(seen * np.abs(seen), near)[reach : reach + len(points)] + _NO_BEND
    known = np.clip((np.abs(seen) - _STRAIGHT) / (_BENT - _STRAIGHT), 0.0, 1.0)
    twist = known * _unit(seen) + (1 - known) * _unit(around)
    twist = _unit(twist)[:, None]
    hinge = twist.real * carried + twist.imag * across_carried
    along, across = int(np.argmax(np.abs(CANONICAL_DIRECTIONS[upper]))), int(np.argmax(np.abs(axis)))
    sign, turn = CANONICAL_DIRECTIONS[upper][along], axis[across]
    turns[:, upper] = _frame(sign * first, along, turn * hinge, across)
    turns[:, lower] = _frame(sign * second, along, turn * hinge, across)


def _unit(z: np.ndarray) -> np.ndarray:
    """Complex numbers scaled to length one."""
    return z / np.maximum(np.abs(z), 1e-12)


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
