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
CERTAIN_SECONDS = 0.2
"""Seconds of sightings that make somebody of a track."""
_FEW = 4


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

    def absorb(self, other: Track) -> None:
        """Take over what was seen of somebody who turns out to be this person."""
        if other.seen[-1] > self.seen[-1]:
            self.pose = other.pose
        self.seen = sorted({*self.seen, *other.seen})


def distances(tracks: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """(N, M) metres: median distance of the joints that two poses (N, 25, 3), (M, 25, 3) share; infinite if too few."""
    off = np.linalg.norm(tracks[:, None] - poses[None], axis=-1)
    enough = np.isfinite(off).sum(axis=-1) >= _FEW
    out = np.full(enough.shape, np.inf)
    out[enough] = np.nanmedian(off[enough], axis=-1)
    return out


class Tracker:
    """Gives each frame's poses to people; frames must come in order.

    active: people who may still come back. Those who were seen for `CERTAIN_SECONDS` choose first, so that a ghost of a
    few frames takes nobody's pose.
    """

    def __init__(self, fps: float):
        self.fps = fps
        self.active: list[Track] = []
        self._next = 0

    def is_certain(self, track: Track) -> bool:
        """Whether a track was seen often enough to be somebody."""
        return len(track.seen) >= CERTAIN_SECONDS * self.fps

    def unite(self, track: Track, other: Track) -> None:
        """Two tracks are of one person; ``other`` is forgotten."""
        track.absorb(other)
        if track not in self.active:
            self.active.append(track)
        self.active = [t for t in self.active if t is not other]

    def step(self, frame: int, poses: np.ndarray) -> list[Track]:
        """The people whose poses (M, 25, 3) these are.

        Costs are median joint distances; the Hungarian algorithm finds who is who, where no match costs no more than
        `GATE`: who was lost long ago may look far, but takes nothing from those who stand there. A pose near nobody is
        somebody new.
        """
        self.active = [t for t in self.active if (frame - t.seen[-1]) / self.fps <= PATIENCE]
        owners: dict[int, Track] = {}
        certain = [self.is_certain(t) for t in self.active]
        for now in (True, False):
            tracks = [t for t, sure in zip(self.active, certain, strict=True) if sure == now]
            free = [p for p in range(len(poses)) if p not in owners]
            if tracks and free:
                cost = distances(np.stack([t.pose for t in tracks]), poses[free])
                gate = np.array([GATE + SPEED * (frame - t.seen[-1] - 1) / self.fps for t in tracks])
                worth = np.minimum(cost, GATE) + 0.01 * np.minimum(cost, gate[:, None])
                for t, p in zip(*linear_sum_assignment(worth), strict=True):
                    if cost[t, p] < gate[t]:
                        tracks[t].update(frame, poses[free[p]])
                        owners[free[p]] = tracks[t]
        for p in range(len(poses)):
            if p not in owners:
                owners[p] = Track(self._next, poses[p].copy(), [frame])
                self.active.append(owners[p])
                self._next += 1
        return [owners[p] for p in range(len(poses))]
