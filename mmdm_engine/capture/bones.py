"""A captured person as an armature: bones of the lengths that this person has, and rotations that carry them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import anatomy
from ..contract import JOINTS, MAIN_CHILD, MIRROR, PARENTS, Motion
from ..joint_sets import CAPTURE15
from .result import Person


def _side(side: str) -> dict[str, dict[str, float]]:
    limbs = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    other = "left" if side == "right" else "right"
    return {
        **{f"{side}_{name}": {f"{side}_{name}": 1.0} for name in limbs},
        f"{side}_collar": {f"{side}_shoulder": 0.65, f"{other}_shoulder": 0.15, "head": 0.2},
        f"{side}_foot": {f"{side}_toes": 0.77, f"{side}_ankle": 0.23},
    }


def _torso(shoulders: float, head: float = 0.0) -> dict[str, float]:
    """A place on the line from the hips' middle to that of the shoulders, drawn towards the head."""
    hips = 1 - shoulders - head
    return {
        "left_hip": hips / 2, "right_hip": hips / 2, "left_shoulder": shoulders / 2, "right_shoulder": shoulders / 2,
        "head": head,
    }  # fmt: skip


_MADE_OF: dict[str, dict[str, float]] = {
    "pelvis": _torso(0.15),
    "spine1": _torso(0.3),
    "spine2": _torso(0.5),
    "spine3": _torso(0.75),
    "neck": _torso(0.65, 0.35),
    "head": _torso(0.2, 0.8),
    **_side("left"),
    **_side("right"),
}
"""SMPL-22 joints as weighted sums of captured points; what lies inside the torso is where it is in most people."""


def _table(made_of: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    table = np.zeros((22, len(CAPTURE15)))
    for row, joint in zip(table, JOINTS, strict=True):
        for name, weight in made_of[joint].items():
            row[CAPTURE15.names.index(name)] += weight
    return table


_TABLE = _table(_MADE_OF)


def armature(person: Person, fps: float) -> Motion:
    """Rotations of SMPL-22 on bones as long as this person's are in the median frame, alike on both sides.

    How limbs turn about themselves follows from the planes in which elbows and knees bend (`anatomy`); heads and hands
    have no roll of their own.
    """
    points = _TABLE @ person.positions.astype(np.float64)
    return anatomy.from_positions(of_median_length(points), fps)


def confidence(person: Person) -> np.ndarray:
    """(T, 22) float32 in [0, 1]: how sure the rotation of each joint of `armature` is.

    A bone is as sure as the less sure of its ends; a joint made of several points as their mean.
    """
    ends = person.confidence @ _TABLE.T
    tips = [child if child >= 0 else joint for joint, child in enumerate(MAIN_CHILD)]
    return np.minimum(ends, ends[:, tips]).astype(np.float32)


def of_median_length(points: np.ndarray) -> np.ndarray:
    """(T, 22, 3) with every bone of its median length, the mean of both sides', in the direction that it has."""
    parents = list(PARENTS[1:])
    bones = points[:, 1:] - points[:, parents]
    lengths = np.linalg.norm(bones, axis=-1)
    usual = np.concatenate([[0.0], np.median(lengths, axis=0)])
    usual = (usual + usual[list(MIRROR)]) / 2
    placed = points.copy()
    for joint in range(1, 22):  # parents come first
        scale = usual[joint] / np.maximum(lengths[:, joint - 1, None], 1e-6)
        placed[:, joint] = placed[:, PARENTS[joint]] + scale * bones[:, joint - 1]
    return placed
