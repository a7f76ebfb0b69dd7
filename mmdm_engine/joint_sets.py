"""Joint sets of the position priors: which points of a body they speak about, each made from SMPL-22 joints.

A capture system, a benchmark and a character seldom agree on the joints. A set says how each of its points follows from
the canonical skeleton, so that one motion pack trains a prior for any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .contract import JOINTS, MotionError
from .contract.skeleton import INDEX

Parts = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class JointSet:
    """Points as weighted sums of SMPL-22 joint positions.

    names: J names; "left" and "right" in them pair the sides.
    parts: per point the (SMPL-22 joint, weight) pairs it is made of; weights sum to 1, so that moving the body moves
        the point.
    """

    names: tuple[str, ...]
    parts: tuple[Parts, ...]

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.parts):
            raise MotionError("A joint set needs one list of parts for every name; give as many of each.")
        if len(set(self.names)) != len(self.names):
            raise MotionError("Two joints of the set have one name; rename one.")
        for name, parts in zip(self.names, self.parts, strict=True):
            if not all(0 <= j < len(JOINTS) for j, _ in parts) or abs(sum(w for _, w in parts) - 1) > 1e-6:
                raise MotionError(f"The parts of {name} are not SMPL-22 joints whose weights sum to 1; correct them.")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def weights(self) -> np.ndarray:
        """(J, 22) float32: positions of the set = weights @ positions of SMPL-22."""
        table = np.zeros((len(self), len(JOINTS)), np.float32)
        for row, parts in zip(table, self.parts, strict=True):
            for j, w in parts:
                row[j] += w
        return table

    @property
    def mirror(self) -> tuple[int, ...]:
        """(J,) the joint on the other side; a middle joint is its own."""
        swapped = [
            n.replace("left", "right") if "left" in n else n.replace("right", "left") for n in self.names
        ]  # fmt: skip
        missing = [n for n, s in zip(self.names, swapped, strict=True) if s not in self.names]
        if missing:
            raise MotionError(f"{missing[0]} has no partner on the other side; add it or rename the joint.")
        return tuple(self.names.index(s) for s in swapped)

    @property
    def hips(self) -> tuple[int, ...]:
        """The joints whose mean is "the hip"; none where the set has no hip joints."""
        return tuple(i for i, n in enumerate(self.names) if n in ("left_hip", "right_hip"))


def joint_set_from_dict(values: Mapping[str, Any]) -> JointSet:
    """Rebuild a set stored in a model card."""
    parts = tuple(tuple((int(j), float(w)) for j, w in row) for row in values["parts"])
    return JointSet(tuple(values["names"]), parts)


def _of(points: Mapping[str, Mapping[str, float]]) -> JointSet:
    parts = tuple(tuple((INDEX[j], w) for j, w in weights.items()) for weights in points.values())
    return JointSet(tuple(points), parts)


SMPL22 = JointSet(JOINTS, tuple(((j, 1.0),) for j in range(len(JOINTS))))
"""The canonical skeleton itself."""

_LIMB_JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip

SHELF14 = _of(
    {
        **{name: {name: 1.0} for name in _LIMB_JOINTS},
        "bottom_head": {"left_shoulder": 0.25, "right_shoulder": 0.25, "head": 0.5},
        "top_head": {"head": 3.0, "neck": -2.0},
    }
)
"""Fourteen joints in the order of the Shelf annotation (and of LSP), without its mid hip.

The head's two points have no counterpart in SMPL-22. The lower lies half-way from the shoulders' middle to the skull's
base, the upper as far above that base as two neck lengths (about 19 cm on an adult).
"""

CAPTURE15 = _of(
    {
        **{name: {name: 1.0} for name in _LIMB_JOINTS},
        "head": {"head": 1.7, "neck": -0.7},
        "left_toes": {"left_foot": 1.3, "left_ankle": -0.3},
        "right_toes": {"right_foot": 1.3, "right_ankle": -0.3},
    }
)
"""What 2-D detectors see of a body, for `capture`: limbs, the middle between the ears, and the tips of the feet.

The ears lie about 6 cm above the skull's base, the toes' middle about 4 cm before the ball of the foot.
"""

JOINT_SETS: dict[str, JointSet] = {"smpl22": SMPL22, "shelf14": SHELF14, "capture15": CAPTURE15}
