"""What a report shows of a take: the largest change, curves before and after, the worst frames as stick figures."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ..engine_link import JOINTS, PARENTS, Motion, kinematics
from ..engine_link import rotations as rot

CURVES = 3
POINTS = 300
"""Samples of a curve at most; of a longer one the frames that stray most are kept."""
PICTURES = 3
APART = 0.5
"""Seconds between two pictures at least."""
UNSEEN = 1e-3
"""Degrees of change that no curve needs to show."""


def show(before: Motion, after: Motion, frames: np.ndarray, scale: float) -> dict[str, Any]:
    """``largest``, ``curves`` and ``pictures`` of a record. scale: metres per unit of the motions."""
    turned = np.degrees(rot.angle(before.rotations.astype(np.float64), after.rotations.astype(np.float64)))
    places = _positions(before), _positions(after)
    moved = 100 * scale * np.linalg.norm(places[1] - places[0], axis=-1)
    return {
        "largest": _largest(turned, moved, frames),
        "curves": _curves(before, after, frames, turned),
        "pictures": _pictures(before, *places, frames, moved, scale),
    }


def _positions(motion: Motion) -> np.ndarray:
    offsets = motion.skeleton.offsets.astype(np.float64)
    return kinematics.positions(motion.rotations.astype(np.float64), motion.root.astype(np.float64), offsets)


def _largest(turned: np.ndarray, moved: np.ndarray, frames: np.ndarray) -> dict[str, Any]:
    """The largest turn and the largest way of a joint, each with joint and frame.

    turned: (T, 22) degrees. moved: (T, 22) centimetres.
    """
    (t, j), (u, k) = (np.unravel_index(int(x.argmax()), x.shape) for x in (turned, moved))
    return {
        "degrees": round(float(turned[t, j]), 3), "degrees_joint": JOINTS[j], "degrees_frame": float(frames[t]),
        "centimetres": round(float(moved[u, k]), 3), "centimetres_joint": JOINTS[k],
        "centimetres_frame": float(frames[u]),
    }  # fmt: skip


def _curves(before: Motion, after: Motion, frames: np.ndarray, turned: np.ndarray) -> list[dict[str, Any]]:
    """The joints that changed most, as degrees of turn about the axis they turn about most."""
    order = np.argsort(-turned.max(axis=0))[:CURVES]
    found = []
    for j in order:
        if turned[:, j].max() < UNSEEN:
            continue
        a, b = (m.rotations[:, j].astype(np.float64) for m in (before, after))
        mean = rot.normalize((b * np.sign((b * b[:1]).sum(axis=-1, keepdims=True) + 1e-12)).mean(axis=0))
        bends = [np.degrees(rot.log(rot.multiply(rot.conjugate(mean), q))) for q in (a, b)]
        axis = np.linalg.svd(bends[1] - bends[1].mean(axis=0), full_matrices=False)[2][0]
        rows = _rows(turned[:, j])
        found.append(
            {
                "joint": JOINTS[j],
                "frames": [float(f) for f in frames[rows]],
                "before": [round(float(x), 2) for x in (bends[0] @ axis)[rows]],
                "after": [round(float(x), 2) for x in (bends[1] @ axis)[rows]],
            }
        )
    return found


def _rows(change: np.ndarray) -> np.ndarray:
    """At most `POINTS` indices: from each stretch the one that changed most, and both ends."""
    if len(change) <= POINTS:
        return np.arange(len(change))
    bounds = np.linspace(0, len(change), POINTS - 1).astype(int)
    most = [a + int(change[a:b].argmax()) for a, b in pairwise(bounds)]
    return np.unique([0, *most, len(change) - 1])


def _pictures(
    motion: Motion, a: np.ndarray, b: np.ndarray, frames: np.ndarray, moved: np.ndarray, scale: float
) -> list[dict[str, Any]]:
    """The frames in which joints moved most, apart from each other: bones as lines in centimetres.

    a, b: (T, 22, 3) places before and after. moved: (T, 22) centimetres. In what is returned, before and after are
    [x0, y0, x1, y1] per bone, y upwards.
    """
    moved = moved.max(axis=1)
    apart = max(1, round(APART * motion.fps))
    left = moved.copy()
    found: list[dict[str, Any]] = []
    while len(found) < PICTURES and left.max() > UNSEEN:
        t = int(left.argmax())
        left[max(0, t - apart) : t + apart + 1] = 0
        heading = _facing(b[t])
        centre = b[t, 0] * (1, 0, 1)
        found.append(
            {
                "frame": float(frames[t]),
                "centimetres": round(float(moved[t]), 2),
                "before": _lines(a[t] - centre, heading, scale, motion.skeleton.exists),
                "after": _lines(b[t] - centre, heading, scale, motion.skeleton.exists),
            }
        )
    return sorted(found, key=lambda picture: picture["frame"])


def _facing(joints: np.ndarray) -> np.ndarray:
    """(3,) horizontal unit vector to the picture's right: across the hips, turned a little so that depth shows."""
    across = (joints[JOINTS.index("left_hip")] - joints[JOINTS.index("right_hip")]) * (1, 0, 1)
    across = across / max(float(np.linalg.norm(across)), 1e-9)
    forwards = np.array([-across[2], 0.0, across[0]])
    return across * np.cos(0.6) + forwards * np.sin(0.6)


def _lines(joints: np.ndarray, right: np.ndarray, scale: float, exists: np.ndarray) -> list[list[float]]:
    flat = 100 * scale * np.stack([joints @ right, joints[:, 1]], axis=-1)
    lines = []
    for j in range(1, 22):
        parent = PARENTS[j]
        while parent > 0 and not exists[parent]:
            parent = PARENTS[parent]
        if exists[j]:
            lines.append([round(float(x), 1) for x in (*flat[parent], *flat[j])])
    return lines
