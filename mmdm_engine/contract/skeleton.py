"""The canonical skeleton: SMPL's 22 body joints, in SMPL order.

A joint's rotation moves the segment below it: ``left_hip`` turns the thigh, ``left_ankle`` the foot.
The rest pose is a T-pose facing +Z with the character's left at +X and Y up.
"""

from __future__ import annotations

import numpy as np

JOINTS: tuple[str, ...] = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
INDEX: dict[str, int] = {name: i for i, name in enumerate(JOINTS)}

PARENTS: tuple[int, ...] = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)

MIRROR: tuple[int, ...] = tuple(
    INDEX[name.replace("left", "right") if "left" in name else name.replace("right", "left")] for name in JOINTS
)

# The child that continues a segment; -1 for leaves. The pelvis points up its spine, spine3 up its neck.
MAIN_CHILD: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, -1, -1, 15, 16, 17, -1, 18, 19, 20, 21, -1, -1)

LIMBS: tuple[tuple[int, ...], ...] = ((1, 4, 7, 10), (2, 5, 8, 11), (13, 16, 18, 20), (14, 17, 19, 21))
"""Hip to toe and collar to wrist, root first: the chains along which rest alignment is carried."""

LEGS: tuple[tuple[int, ...], ...] = (LIMBS[0][:3], LIMBS[1][:3])
"""Hip, knee and ankle of each side: what the foot lock bends."""

TORSO: tuple[int, ...] = (0, 3, 6, 9, 12, 15)


def _canonical_directions() -> np.ndarray:
    directions = np.zeros((22, 3))
    directions[list(TORSO), 1] = 1.0
    directions[[1, 2, 4, 5], 1] = -1.0
    directions[[7, 8, 10, 11], 2] = 1.0
    directions[[13, 16, 18, 20], 0] = 1.0
    directions[[14, 17, 19, 21], 0] = -1.0
    directions.setflags(write=False)
    return directions


CANONICAL_DIRECTIONS: np.ndarray = _canonical_directions()
"""(22, 3) unit vectors: where each joint's segment points in the canonical rest pose."""
