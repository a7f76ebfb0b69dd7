"""What a take never moves: joints that nobody animates, a root that walks on the spot. What is made up leaves them so.

A prior knows people, who move everything a little. Toes without keys must not come alive for that.
"""

from __future__ import annotations

import numpy as np

from .. import rotations as rot
from ..baselines import interpolate
from ..contract import Motion
from ..contract.skeleton import LEGS

SAME = np.radians(0.02), 1e-4
"""Rotation in radians and place in leg lengths that count as none: rounding of files is below that."""
OFTEN = 6
"""How many times others must move from one seen frame to the next. One pose and its copy, or two, say nothing."""


def unmoved(motion: Motion, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints (22,) bool and axes (3,) bool of the root with one value in all that is seen, while others move.

    hidden (T, 23) bool: what is not seen. Others have to move `OFTEN` times where the column is seen: a hold that is
    carried elsewhere, or a limb that is seen for a moment, is no evidence.
    """
    seen = ~hidden
    rotations, root = motion.rotations.astype(np.float64), motion.root.astype(np.float64) / motion.skeleton.leg_length
    joints, axes = np.zeros(22, bool), np.zeros(3, bool)
    for shown in np.unique(seen, axis=1).T:  # columns that are seen in the same frames
        rows = np.flatnonzero(shown)
        if len(rows) <= OFTEN:
            continue
        q, p, there = rotations[rows], root[rows], seen[rows]
        both = there[1:] & there[:-1]
        turns = (rot.angle(q[1:], q[:-1]) > SAME[0]) & both[:, :22]
        shifts = (np.abs(np.diff(p, axis=0)) > SAME[1]) & both[:, 22:]
        if (turns.any(axis=1) | shifts.any(axis=1)).sum() < OFTEN:
            continue
        mine = (seen == shown[:, None]).all(axis=0)
        joints |= mine[:22] & (rot.angle(q, np.broadcast_to(q[:1], q.shape)).max(axis=0) < SAME[0])
        axes |= mine[22] & (np.abs(p - p[0]).max(axis=0) < SAME[1])
    return joints, axes


def left_alone(
    motion: Motion, hidden: np.ndarray, rotations: np.ndarray, root: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Made-up rotations (T, 22, 4) and root (T, 3), float64, with what the take never moves interpolated."""
    joints, axes = unmoved(motion, hidden)
    if not joints.any() and not axes.any():
        return rotations, root
    given = rot.normalize(motion.rotations.astype(np.float64))
    plain = interpolate(given, motion.root.astype(np.float64), ~hidden)
    return np.where(joints[:, None], plain[0], rotations), np.where(axes, plain[1], root)


def bendable(motion: Motion, hidden: np.ndarray) -> np.ndarray:
    """(4,) bool, in the order of `contacts.detect`: feet whose leg may be bent, because the take moves all of it."""
    joints, _ = unmoved(motion, hidden)
    return np.repeat([not joints[list(leg)].any() for leg in LEGS], 2)
