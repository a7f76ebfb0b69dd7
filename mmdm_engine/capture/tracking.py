"""Who is who over time: poses of single frames become people, through occlusions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

GATE = 0.3
"""Metres by which a pose may lie from where a person was last seen …"""
SPEED = 1.5
"""… and by how much more for every second since: nobody who works runs."""
PATIENCE = 1.5
"""Seconds without a pose after which a person has left."""
_FEW = 4
_FAR = 1e3


@dataclass(eq=False)
class Track:
    """A person: when poses were found, and the last one.

    pose: (25, 3) metres, the latest known position of each joint, NaN where never known. seen: frame numbers.
    """

    number: int
    pose: np.ndarray
    seen: list[int] = field(default_factory=list)

    def update(self, frame: int, pose: np.ndarray) -> None:
        """Take in the pose (25, 3) of a frame; joints it lacks keep their distance from the others."""
        known = np.isfinite(pose[:, 0])
        both = known & np.isfinite(self.pose[:, 0])
        shift = np.median(pose[both] - self.pose[both], axis=0) if both.any() else np.zeros(3)
        self.pose = np.where(known[:, None], pose, self.pose + shift)
        self.seen.append(frame)


def distances(tracks: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """(N, M) metres: median distance of the joints that two poses (N, 25, 3), (M, 25, 3) share; infinite if too few."""
    off = np.linalg.norm(tracks[:, None] - poses[None], axis=-1)
    enough = np.isfinite(off).sum(axis=-1) >= _FEW
    out = np.full(enough.shape, np.inf)
    out[enough] = np.nanmedian(off[enough], axis=-1)
    return out


class Tracker:
    """Gives each frame's poses the numbers of people; frames must come in order."""

    def __init__(self, fps: float):
        self.fps = fps
        self.active: list[Track] = []
        self._next = 0

    def step(self, frame: int, poses: np.ndarray) -> list[int]:
        """Numbers of the people whose poses (M, 25, 3) these are.

        Costs are median joint distances; the Hungarian algorithm finds who is who, a pose near nobody is somebody new.
        """
        self.active = [t for t in self.active if (frame - t.seen[-1]) / self.fps <= PATIENCE]
        numbers = [-1] * len(poses)
        if self.active and len(poses):
            cost = distances(np.stack([t.pose for t in self.active]), poses)
            gate = np.array([GATE + SPEED * (frame - t.seen[-1] - 1) / self.fps for t in self.active])
            cost = np.where(cost < gate[:, None], cost, _FAR)
            for t, p in zip(*linear_sum_assignment(cost), strict=True):
                if cost[t, p] < _FAR:
                    self.active[t].update(frame, poses[p])
                    numbers[p] = self.active[t].number
        for p, number in enumerate(numbers):
            if number < 0:
                self.active.append(Track(self._next, poses[p].copy(), [frame]))
                numbers[p] = self._next
                self._next += 1
        return numbers
