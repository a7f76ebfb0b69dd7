"""How far captured people are from those of a made-up scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..joint_sets import CAPTURE15
from .body import points
from .synthetic import Scene

ABSENT = 0.5
"""Metres that a joint which was not found counts when people are assigned."""
SOMEBODY = 0.4
"""Metres on average beyond which an estimate is of nobody."""
GROSS = 0.1
_LIMBS = np.array(
    [
        (CAPTURE15.names.index(f"{side}_{a}"), CAPTURE15.names.index(f"{side}_{b}"))
        for side in ("left", "right")
        for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
    ]
)


@dataclass(frozen=True)
class Accuracy:
    """Figures of one scene.

    pcp: percent of the limbs right (mean end error at most half the length), missing ones wrong. mpjpe_mm, accel_mm: of
    what was found. missing, gross: percent of joints not found, and found more than 10 cm off. ghosts: estimates of
    nobody, in frames. switches: how often a person goes on under another number.
    """

    pcp: float
    mpjpe_mm: float
    missing: float
    gross: float
    accel_mm: float
    ghosts: int
    switches: int


def accuracy(people: Sequence[tuple[int, np.ndarray]], scene: Scene) -> Accuracy:
    """people: (first frame, positions (T, 15, 3), NaN where not found) of everybody."""
    truth = points(scene.truth)
    count, frames = truth.shape[:2]
    found = np.full(truth.shape, np.nan)
    number = np.full((count, frames), -1)
    ghosts = 0
    for frame in range(frames):
        here = [
            (n, p[frame - first])
            for n, (first, p) in enumerate(people)
            if 0 <= frame - first < len(p) and np.isfinite(p[frame - first]).any()
        ]
        if not here:
            continue
        off = np.linalg.norm(np.stack([pose for _, pose in here]) - truth[:, None, frame], axis=-1)
        cost = np.nan_to_num(off, nan=ABSENT).mean(axis=-1)
        rows, columns = linear_sum_assignment(cost)
        right = [(k, c) for k, c in zip(rows, columns, strict=True) if cost[k, c] < SOMEBODY]
        ghosts += len(here) - len(right)
        for k, c in right:
            number[k, frame], found[k, frame] = here[c]
    off = np.linalg.norm(found - truth, axis=-1)
    length = np.linalg.norm(truth[..., _LIMBS[:, 0], :] - truth[..., _LIMBS[:, 1], :], axis=-1)
    right_limbs = np.nan_to_num(off, nan=np.inf)[..., _LIMBS].mean(axis=-1) <= 0.5 * length
    bends = np.linalg.norm(np.diff(found - truth, 2, axis=1), axis=-1)
    return Accuracy(
        pcp=float(100 * right_limbs.mean()),
        mpjpe_mm=float(1000 * np.nanmean(off)),
        missing=float(100 * np.isnan(off).mean()),
        gross=float(100 * (np.nan_to_num(off) > GROSS).mean()),
        accel_mm=float(1000 * np.nanmean(bends)),
        ghosts=ghosts,
        switches=int(sum((np.diff(row[row >= 0]) != 0).sum() for row in number)),
    )
