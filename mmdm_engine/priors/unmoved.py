"""What a take never moves: joints that nobody animates, a root that walks on the spot. What is made up leaves them so.

A prior knows people, who move everything a little. Toes without keys must not come alive for that.
"""

from __future__ import annotations

import numpy as np

from .. import rotations as rot
from ..baselines import interpolate
from ..contract import Motion

SAME = np.radians(0.02), 1e-4
"""Rotation in radians and place in leg lengths that count as none: rounding of files is below that."""
MOVING = np.radians(1.0), 1e-2
"""What somebody moves by, who moves. Two copies of one pose alone do not say that their joints are never animated."""


def unmoved(motion: Motion, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints (22,) bool and axes (3,) bool of the root with one value in all that is seen of a take that moves.

    hidden (T, 23) bool: what is not seen. A column of which one frame is seen, or none, may move.
    """
    seen = ~hidden
    often = seen.sum(axis=0) > 1
    first = np.argmax(seen, axis=0)
    rotations, root = motion.rotations.astype(np.float64), motion.root.astype(np.float64)
    pose, place = rotations[first[:22], np.arange(22)], root[first[22]]
    turn = rot.angle(np.where(seen[:, :22, None], rotations, pose), np.broadcast_to(pose, rotations.shape)).max(axis=0)
    shift = np.abs(np.where(seen[:, 22:], root, place) - place).max(axis=0) / motion.skeleton.leg_length
    turn, shift = turn * often[:22], shift * often[22]
    if not (turn > MOVING[0]).any() and not (shift > MOVING[1]).any():
        return np.zeros(22, bool), np.zeros(3, bool)
    return (turn < SAME[0]) & often[:22], (shift < SAME[1]) & often[22]


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
