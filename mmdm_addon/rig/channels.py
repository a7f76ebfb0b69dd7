"""Rotations and the channels that animators key: quaternion, Euler in six orders, axis and angle.

NumPy only. Time first; channels in Blender's own order (w x y z; x y z; w x y z).
"""

from __future__ import annotations

import numpy as np

from ..engine_link import rotations as rot

EULER_ORDERS = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
PATHS = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}
DEFAULTS = {"QUATERNION": (1.0, 0.0, 0.0, 0.0), "AXIS_ANGLE": (0.0, 0.0, 1.0, 0.0)}


def path_of(mode: str) -> str:
    """The property that a rotation mode animates."""
    return PATHS.get(mode, "rotation_euler")


def to_quaternion(values: np.ndarray, mode: str) -> np.ndarray:
    """Channel values (T, 3 or 4) → unit quaternions (T, 4), as Blender evaluates them."""
    values = np.asarray(values, np.float64)
    if mode == "QUATERNION":
        length = np.linalg.norm(values, axis=-1, keepdims=True)
        return np.where(length == 0, rot.IDENTITY, values / np.where(length == 0, 1, length))
    if mode == "AXIS_ANGLE":
        axis = values[:, 1:]
        length = np.linalg.norm(axis, axis=-1, keepdims=True)
        axis = np.where(length > 0, axis / np.where(length > 0, length, 1), 0.0)
        half = values[:, :1] / 2
        return np.where(length > 0, np.concatenate([np.cos(half), axis * np.sin(half)], axis=-1), rot.IDENTITY)
    turns = np.zeros((3, len(values), 4))
    for turn, letter in zip(turns, mode, strict=True):
        at = "XYZ".index(letter)
        turn[:, 0], turn[:, 1 + at] = np.cos(values[:, at] / 2), np.sin(values[:, at] / 2)
    return rot.multiply(turns[2], rot.multiply(turns[1], turns[0]))


def from_quaternion(q: np.ndarray, mode: str, anchor: np.ndarray) -> np.ndarray:
    """Unit quaternions (T, 4) → channel values that follow on from ``anchor`` without a flip.

    anchor: the channel values just before, shape (3,) or (4,).
    """
    if mode == "QUATERNION":
        return rot.continuous(np.concatenate([np.asarray(anchor, np.float64)[None], q]))[1:]
    if mode == "AXIS_ANGLE":
        return _axis_angle(q, np.asarray(anchor, np.float64))
    return _euler(q, mode, np.asarray(anchor, np.float64))


def jumps(last: np.ndarray, following: np.ndarray, mode: str) -> bool:
    """Whether interpolating from one set of channel values to the next would spin the bone."""
    if mode == "QUATERNION":
        return bool(last @ following < 0)
    if mode == "AXIS_ANGLE":
        turned = abs(last[0] - following[0]) > np.pi
        return turned or bool(last[1:] @ following[1:] < 0 and min(abs(last[0]), abs(following[0])) > 1e-3)
    return bool(np.abs(last - following).max() > np.pi)


def hold_locked(q: np.ndarray, old: np.ndarray, locked: np.ndarray) -> np.ndarray:
    """Quaternions whose locked axes keep their old angle: as Blender's own transform does, by way of XYZ angles.

    q, old: (T, 4). locked: (3,) bool.
    """
    before = _solutions(old, "XYZ")[0]
    both = np.stack(_solutions(q, "XYZ"), axis=1)
    nearer = np.argmin(_apart(both, before[:, None]), axis=1)
    return to_quaternion(np.where(locked, before, both[np.arange(len(q)), nearer]), "XYZ")


def _axis_angle(q: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    vector = rot.log(q)
    angle = np.linalg.norm(vector, axis=-1)
    axis = np.where(angle[:, None] > 1e-7, vector / np.maximum(angle, 1e-300)[:, None], np.nan)
    result = np.empty((len(q), 4))
    before = anchor[1:] / max(float(np.linalg.norm(anchor[1:])), 1e-9)
    for t in range(len(q)):
        now = before if np.isnan(axis[t, 0]) else axis[t]
        turn = 0.0 if np.isnan(axis[t, 0]) else angle[t]
        if now @ before < 0:
            now, turn = -now, -turn
        result[t, 0], result[t, 1:], before = turn, now, now
    whole = np.unwrap(np.concatenate([anchor[:1], result[:, 0]]))
    result[:, 0] = whole[1:]
    return result


def _solutions(q: np.ndarray, order: str) -> tuple[np.ndarray, np.ndarray]:
    """The two sets of Euler angles (T, 3) of each rotation."""
    i, j, k = ("XYZ".index(letter) for letter in order)
    sign = _sign(order)
    m = rot.to_matrix(q)
    first = np.zeros((len(q), 3))
    first[:, i] = np.arctan2(sign * m[:, k, j], m[:, k, k])
    first[:, j] = np.arctan2(-sign * m[:, k, i], np.hypot(m[:, i, i], m[:, j, i]))
    first[:, k] = np.arctan2(sign * m[:, j, i], m[:, i, i])
    second = first + np.pi
    second[:, j] = np.pi - first[:, j]
    return first, second


def _sign(order: str) -> float:
    return 1.0 if order in ("XYZ", "YZX", "ZXY") else -1.0


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Largest difference of two sets of angles, whole turns aside."""
    return np.abs((a - b + np.pi) % (2 * np.pi) - np.pi).max(axis=-1)


def _walk(after_first: np.ndarray, after_second: np.ndarray) -> np.ndarray:
    """(T,) bool, where one gets who goes on from step to step as told for either state; the first step tells the same.

    A step leads to one state whatever was before, or keeps it, or swaps it: so the state is that of the last step of
    the first kind, swapped as often as since then was told.
    """
    swapped = np.cumsum(after_first & ~after_second)
    settled = np.maximum.accumulate(np.where(after_first == after_second, np.arange(len(after_first)), 0))
    return after_first[settled] ^ ((swapped - swapped[settled]) % 2 == 1)


def _euler(q: np.ndarray, order: str, anchor: np.ndarray) -> np.ndarray:
    pair = np.stack(_solutions(q, order), axis=1)
    # which of the two solutions follows from either: after the anchor one of them, later the same one or the other
    steps = np.stack([_apart(pair[1:, b], pair[:-1, a]) for a in (0, 1) for b in (0, 1)], axis=-1)
    first = _apart(pair[0, 1], anchor) < _apart(pair[0, 0], anchor)
    after = [np.concatenate([[first], steps[:, 2 * a + 1] < steps[:, 2 * a]]) for a in (0, 1)]
    angles = pair[np.arange(len(q)), _walk(*after).astype(np.intp)]

    i, j, k = ("XYZ".index(letter) for letter in order)
    m = rot.to_matrix(q)
    for t in np.flatnonzero(np.hypot(m[:, i, i], m[:, j, i]) < 1e-6):
        # gimbal lock: only the sum of the outer angles counts, so the last one stays as it was
        before = angles[t - 1] if t else anchor
        side = np.sign(np.sin(angles[t, j])) * _sign(order)
        angles[t, k] = before[k]
        angles[t, i] = np.arctan2(-_sign(order) * m[t, j, k], m[t, j, j]) + side * before[k]
    return np.unwrap(np.concatenate([anchor[None], angles]), axis=0)[1:]
