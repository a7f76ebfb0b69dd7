"""Eq. 9's adaptive weights for captured joints: which of them a prior should make up anew.

To the triangulation error of the paper two more signs of a wrong joint are added, both in metres: a bone that is not as
long as this person's bones are, and a joint that leaps away from where it is just before and after.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

from ..joint_sets import CAPTURE15

OMEGA = 1.0
UNIT = 0.1
"""Metres of doubt that weigh as much as a joint which no camera shows: sigma = doubt / UNIT."""
LIMIT = 1.2
"""A joint with a larger weight is hidden from completion (`docs/capture.md`, tuning)."""
LEAP_SECONDS = 0.2
"""Width of the median that says where a joint is just before and after."""

_BONES = tuple(
    (CAPTURE15.names.index(f"{side}_{a}"), CAPTURE15.names.index(f"{side}_{b}"))
    for side in ("left", "right")
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("ankle", "toes"))
)


def adaptive(positions: np.ndarray, error: np.ndarray, confidence: np.ndarray, fps: float) -> np.ndarray:
    """Eq. 9 (T, J): omega · exp(−Σ confidence) + doubt / UNIT; infinite where nothing was found.

    positions (T, J, 3) metres, NaN where there is none. error (T, J) metres. confidence (T, J, C).
    """
    doubt = error + strain(positions) + leap(positions, fps)
    weights = OMEGA * np.exp(-confidence.sum(axis=-1)) + doubt / UNIT
    return np.where(np.isfinite(positions[..., 0]), weights, np.inf)


def strain(positions: np.ndarray) -> np.ndarray:
    """(T, J) metres by which bones at a joint differ from their median over the take.

    A joint between two bones is at fault when both are wrong, so the smaller of the two counts.
    """
    out = np.full(positions.shape[:-1], np.inf)
    for a, b in _BONES:
        length = np.linalg.norm(positions[:, a] - positions[:, b], axis=-1)
        if np.isfinite(length).any():
            off = np.nan_to_num(np.abs(length - np.nanmedian(length)))
            out[:, a], out[:, b] = np.minimum(out[:, a], off), np.minimum(out[:, b], off)
    return np.where(np.isfinite(out), out, 0.0)


def leap(positions: np.ndarray, fps: float) -> np.ndarray:
    """(T, J) metres between a joint and its own median over time, less what steady movement explains."""
    width = 2 * round(LEAP_SECONDS * fps / 2) + 1
    if len(positions) < width:
        return np.zeros(positions.shape[:-1])
    filled = filled_in_time(positions)
    usual = median_filter(filled, size=(width, 1, 1), mode="nearest")
    off = np.linalg.norm(filled - usual, axis=-1)
    steady = median_filter(off, size=(width, 1), mode="nearest")
    return np.nan_to_num(np.maximum(off - steady, 0.0))


def filled_in_time(positions: np.ndarray) -> np.ndarray:
    """(T, …, 3) with NaN replaced linearly in time, held at the ends; what is never known stays NaN."""
    flat = positions.reshape(len(positions), -1, 3).copy()
    times = np.arange(len(flat))
    for joint in range(flat.shape[1]):
        known = np.isfinite(flat[:, joint, 0])
        if known.any() and not known.all():
            for axis in range(3):
                flat[~known, joint, axis] = np.interp(times[~known], times[known], flat[known, joint, axis])
    return flat.reshape(positions.shape)
