"""What a capture gives: people with joint positions over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..joint_sets import JointSet
from .cameras import Camera


@dataclass(frozen=True, eq=False)
class Person:
    """One person, from the first frame in which cameras agree on one to the last.

    first: index of the first frame in `Capture.frames`. positions: (T, J, 3) float32 metres, Y up: the result, without
    holes. captured: (T, J, 3) metres, what was triangulated, NaN where nothing was. error: (T, J) metres, what it is
    likely to be off, infinite where nothing was. views: (T, J) how many cameras it comes from. weights: (T, J), Eq. 9:
    larger = less to be trusted. visible: (T, J) bool, what completion kept.
    """

    first: int
    positions: np.ndarray
    captured: np.ndarray
    error: np.ndarray
    views: np.ndarray
    weights: np.ndarray
    visible: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def confidence(self) -> np.ndarray:
        """(T, J) in [0, 1]: 1 = several cameras agree, 0 = made up."""
        return np.where(self.visible, np.exp(-self.weights), 0.0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Capture:
    """A take.

    people: in the order of their entry. joint_set: which J points. frames: (T,) the detections' frame numbers.
    cameras: in the same world as the positions. reprojection: per camera the median distance in pixels between
    detections and result. notes: sentences about what could be borne.
    """

    people: tuple[Person, ...]
    joint_set: JointSet
    frames: np.ndarray
    fps: float
    cameras: tuple[Camera, ...]
    reprojection: tuple[float, ...]
    notes: tuple[str, ...] = ()
