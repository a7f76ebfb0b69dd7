"""How hard a gap is, from what can be seen without its truth, and the error that a gap so hard usually has.

A log-quadratic formula over what lies around the gap and how far its fillings lie apart, fitted by `evaluate trial
--fit` on a training pack. `trial` corrects it by what the same take's holes show. Lengths are leg lengths, angles
degrees, times seconds, so that neither a character's size nor the frame rate counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from .. import rotations as rot
from ..contract import Motion, MotionError, Skeleton
from ..kinematics import positions
from ..metrics import BODY

FILE = Path(__file__).resolve().parent.parent / "weights" / "trial.json"
METHODS = ("ours", "bezier", "interpolation")
BANDS = (0.0, 0.13, 0.4, 1.0, 2.0)
"""Seconds from the border between which speeds are averaged."""
SMALLEST = np.array([1e-4, 1e-2])
"""Leg lengths and degrees: what lies below is not told apart."""
RIDGE = (30.0, 100.0)
"""For position and angle; of 10, 30, 100 and 300 the best on training clips that were left out of the fit."""
AROUND = 4 + 2 * (len(BANDS) - 1)


@dataclass(frozen=True)
class Course:
    """A take's movement. positions (T, 22, 3) leg lengths; body (T, B, 4) rotations; speeds (T - 1, 2) of joints in leg
    lengths and of rotations in degrees per second, NaN where a frame is not good; good (T,) bool."""  # fmt: skip

    positions: np.ndarray
    body: np.ndarray
    speeds: np.ndarray
    good: np.ndarray
    fps: float


def course(motion: Motion, good: np.ndarray) -> Course:
    """The movement of a motion where it is good (T,) bool; other frames may hold NaN."""
    leg = motion.skeleton.leg_length
    q = np.where(good[:, None, None], motion.rotations, rot.IDENTITY).astype(np.float64)
    root = np.where(good[:, None], motion.root, 0).astype(np.float64)
    where = positions(q, root, motion.skeleton.offsets.astype(np.float64)) / leg
    body = q[:, list(BODY)]
    speeds = motion.fps * np.stack(
        [
            np.linalg.norm(np.diff(where, axis=0), axis=-1).mean(axis=1),
            np.degrees(rot.angle(body[:-1], body[1:])).mean(axis=1),
        ],
        axis=1,
    )
    speeds[~(good[:-1] & good[1:])] = np.nan
    return Course(where, body, speeds, good, motion.fps)


def around(of: Course, start: int, stop: int) -> np.ndarray:
    """(AROUND,) logs of the borders' distance and of the speeds on either side of frames [start, stop)."""
    first = start - 1 if start > 0 and of.good[start - 1] else min(stop, len(of.good) - 1)
    last = stop if stop < len(of.good) and of.good[stop] else first
    a, b = of.positions[first], of.positions[last]
    relative = (b - b[:1]) - (a - a[:1])
    apart = [
        np.linalg.norm(b - a, axis=-1).mean(),
        np.linalg.norm(b[0] - a[0]),
        np.linalg.norm(relative, axis=-1).mean(),
        np.degrees(rot.angle(of.body[first], of.body[last])).mean(),
    ]
    bands: list[np.ndarray] = []
    for near, far in pairwise(BANDS):
        i, j = round(near * of.fps), max(round(far * of.fps), round(near * of.fps) + 1)
        seen = np.concatenate([of.speeds[max(0, first - j) : max(0, first - i)], of.speeds[last + i : last + j]])
        known = np.isfinite(seen[:, 0])
        bands.append(seen[known].mean(axis=0) if known.any() else bands[-1] if bands else np.zeros(2))
    floors = np.concatenate([SMALLEST[[0, 0, 0, 1]], np.tile(10 * SMALLEST, len(bands))])
    return np.log(np.concatenate([apart, *bands]) + floors)


PAIRS = ((0, 1), (0, 2), (1, 2))
"""Of `METHODS`, whose distance tells how sure one may be."""


def detail(filled: Sequence[tuple[np.ndarray, np.ndarray]], skeleton: Skeleton, fps: float) -> np.ndarray:
    """(P, 18) logs: where the fillings of each place part, and how fast each moves.

    filled: rotations (P, n, 22, 4) and root (P, n, 3) of each of `METHODS`. Per pair the distance of the roots, of the
    joints relative to them, of the joints half-way, and the angle of the pelvises; per filling the speed of the joints
    and of the root.
    """
    leg, offsets = skeleton.leg_length, skeleton.offsets.astype(np.float64)
    places = [positions(q, root, offsets) / leg for q, root in filled]
    middle = places[0].shape[1] // 2
    columns = []
    for a, b in PAIRS:
        apart = places[a] - places[b]
        body = apart - apart[:, :, :1]
        turn = np.degrees(rot.angle(rot.normalize(filled[a][0][:, :, 0]), rot.normalize(filled[b][0][:, :, 0])))
        columns += [
            np.log(np.linalg.norm(apart[:, :, 0], axis=-1).mean(axis=1) + SMALLEST[0]),
            np.log(np.linalg.norm(body, axis=-1).mean(axis=(1, 2)) + SMALLEST[0]),
            np.log(np.linalg.norm(apart[:, middle], axis=-1).mean(axis=1) + SMALLEST[0]),
            np.log(turn.mean(axis=1) + SMALLEST[1]),
        ]
    for points in places:
        speed = np.linalg.norm(np.diff(points, axis=1), axis=-1) * fps
        rows = len(points), -1
        columns += [
            np.log(_mean(speed.reshape(rows)) + 10 * SMALLEST[0]),
            np.log(_mean(speed[:, :, 0].reshape(rows)) + 10 * SMALLEST[0]),
        ]
    return np.stack(columns, axis=1)


def _mean(x: np.ndarray) -> np.ndarray:
    """Mean over axis 1; zero where a gap of one frame shows no speed."""
    return x.mean(axis=1) if x.shape[1] else np.zeros(len(x))


def features(near: np.ndarray, apart: np.ndarray, detail: np.ndarray, seconds: float) -> np.ndarray:
    """(F,) what the formula reads: `around`, how far the fillings lie apart (3, 2), their `detail`, the longest run in
    seconds."""  # fmt: skip
    return np.concatenate([near, np.log(apart + SMALLEST).reshape(-1), [np.log(seconds)], detail])


@dataclass(frozen=True)
class Formula:
    """mean, spread (F,): of the features in training; weights (P, 3, 2): of the quadratic terms, per method and
    figure."""  # fmt: skip

    mean: np.ndarray
    spread: np.ndarray
    weights: np.ndarray

    def __call__(self, found: np.ndarray) -> np.ndarray:
        """(..., F) features → (..., 3, 2) logs of the usual error of `METHODS`, in leg lengths and degrees."""
        return np.einsum("...p,pmk->...mk", self._terms(found), self.weights)

    def _terms(self, found: np.ndarray) -> np.ndarray:
        z = np.clip((found - self.mean) / self.spread, -3, 3)
        i, j = np.triu_indices(z.shape[-1])
        return np.concatenate([np.ones((*z.shape[:-1], 1)), z, z[..., i] * z[..., j]], axis=-1)

    @classmethod
    def fit(cls, found: np.ndarray, errors: np.ndarray) -> Formula:
        """Least absolute deviations of the logs, by reweighting. (N, F) features, (N, 3, 2) errors."""
        mean, spread = found.mean(axis=0), np.maximum(found.std(axis=0), 0.01)
        self = cls(mean, spread, np.zeros(0))
        terms, logs = self._terms(found), np.log(errors + SMALLEST)
        weights = np.empty((terms.shape[1], *logs.shape[1:]))
        for column in np.ndindex(*logs.shape[1:]):
            y, w = logs[:, *column], np.ones(len(logs))
            keep = RIDGE[column[-1]] * np.eye(terms.shape[1])
            for _ in range(15):
                b = np.linalg.solve(terms.T @ (terms * w[:, None]) + keep, terms.T @ (w * y))
                w = 1 / np.hypot(terms @ b - y, 0.15)
            weights[:, *column] = b
        return cls(mean, spread, weights)

    def save(self, path: Path = FILE) -> None:
        """Write the formula, rounded to what matters."""
        parts = {name: np.round(getattr(self, name), 4).tolist() for name in ("mean", "spread", "weights")}
        path.write_text(json.dumps(parts) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Formula:
        """Read what `save` wrote."""
        try:
            parts = json.loads(path.read_text(encoding="utf-8"))
            return cls(*(np.array(parts[name], np.float64) for name in ("mean", "spread", "weights")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MotionError(f"The formula {path.name} cannot be read ({error}); install the weights again.") from None

    @classmethod
    @cache
    def shipped(cls) -> Formula:
        """The formula that comes with the engine."""
        return cls.load(FILE)
