"""From the detector's 25 joints to the fifteen points of `CAPTURE15` that the priors and the armature speak about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..joint_sets import CAPTURE15
from .detections import BODY_25
from .triangulation import Joints


def _rows() -> tuple[np.ndarray, np.ndarray]:
    """Two rows of BODY_25 for every point, which is their middle; twice the same where a detector shows it itself."""
    parts = {
        "head": ("left_ear", "right_ear"),
        "left_toes": ("left_big_toe", "left_small_toe"),
        "right_toes": ("right_big_toe", "right_small_toe"),
    }
    pairs = [parts.get(name, (name, name)) for name in CAPTURE15.names]
    first, second = (np.array([BODY_25.index(pair[i]) for pair in pairs]) for i in range(2))
    return first, second


_FIRST, _SECOND = _rows()


def points(positions: np.ndarray) -> np.ndarray:
    """(…, 25, 3) → (…, 15, 3)."""
    return (positions[..., _FIRST, :] + positions[..., _SECOND, :]) / 2


@dataclass(frozen=True, eq=False)
class Points:
    """What cameras say of the fifteen points, before a prior has seen it.

    positions: (…, 15, 3) metres, NaN = not found. error: (…, 15) metres, infinite there. confidence: (…, 15, C) of the
    detections that the position comes from, by camera; 0 = the camera does not show it, or shows something else.
    """

    positions: np.ndarray
    error: np.ndarray
    confidence: np.ndarray


def reduce(joints: Joints, confidence: np.ndarray) -> Points:
    """Triangulated BODY_25 joints (…, 25), with the detections' confidence (C, …, 25), as `Points`."""
    used = np.moveaxis(np.where(joints.used, confidence, 0.0), 0, -1)
    return Points(
        points(joints.positions),
        np.maximum(joints.error[..., _FIRST], joints.error[..., _SECOND]),
        (used[..., _FIRST, :] + used[..., _SECOND, :]) / 2,
    )
