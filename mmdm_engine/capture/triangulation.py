"""Rays of several cameras → the point where they meet, without the rays that do not.

Instead of the algebraic error of the linear transform (DLT) the same linear system is written in metres: the squared
distance of the point from each ray, weighted by the detector's confidence. A detector's error grows with a person's
size in the image, so in metres at the body it is about the same for near and far cameras.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

REACH = 0.10
"""Metres by which a ray may miss a joint; what misses it by more is not of this joint (`docs/capture.md`, tuning)."""
NOISE, TRUST = 0.025, 4.0
"""Metres by which rays of right detections miss, and how many rays' worth of belief that is before any is seen."""
MAX_DEPTH_NOISE = 6.0
"""Pairs of rays so parallel that noise along them grows beyond this factor start no hypothesis (about 10°)."""

_BLOCK = 1_000_000
"""Joints times cameras cubed that are worked on at once, for the sake of memory."""


@dataclass(frozen=True, eq=False)
class Rays:
    """Where cameras look from, and the directions in which they see joints.

    centres: (C, 3) metres. directions: (C, …, 3) unit. confidence: (C, …), 0 = not seen.
    """

    centres: np.ndarray
    directions: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True, eq=False)
class Joints:
    """Triangulated joints.

    positions: (…, 3) metres, NaN where fewer than two rays agree. error: (…) metres, the expected one, infinite where
    there is no position. used: (C, …) bool, which rays it comes from. miss: (C, …) metres between ray and position.
    """

    positions: np.ndarray
    error: np.ndarray
    used: np.ndarray
    miss: np.ndarray


def triangulate(rays: Rays, near: np.ndarray | None = None) -> Joints:
    """Every joint from the largest set of rays that agree.

    All pairs of cameras propose a point; the one that most confidence lies near wins, and least squares over its rays
    gives the answer. near: (…, 3) metres, where the joint is expected, NaN = nowhere; it votes like one more ray, but
    is not used for the answer.
    """
    cameras, *shape = rays.confidence.shape
    directions, weight = rays.directions.reshape(cameras, -1, 3), rays.confidence.reshape(cameras, -1)
    expected = np.full(directions.shape[1:], np.nan) if near is None else near.reshape(-1, 3)
    parts = [
        _triangulate(rays.centres, directions[:, rows], weight[:, rows], expected[rows])
        for rows in _blocks(directions.shape[1], _BLOCK // cameras**3 + 1)
    ]
    positions, error = (np.concatenate([getattr(p, name) for p in parts]) for name in ("positions", "error"))
    used, off = (np.concatenate([getattr(p, name) for p in parts], axis=1) for name in ("used", "miss"))
    return Joints(
        positions.reshape(*shape, 3), error.reshape(shape), used.reshape(cameras, *shape), off.reshape(cameras, *shape)
    )  # fmt: skip


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(i, i + size) for i in range(0, max(count, 1), size)]


def _triangulate(centres: np.ndarray, directions: np.ndarray, weight: np.ndarray, expected: np.ndarray) -> Joints:
    """`triangulate` for centres (C, 3), directions (C, N, 3), weight (C, N), expected (N, 3)."""
    point, votes = _proposed(centres, directions, weight, expected)
    across = np.eye(3) - directions[..., :, None] * directions[..., None, :]  # (C, N, 3, 3) projections along the rays
    pull = (across @ centres[:, None, :, None])[..., 0]
    for _ in range(2):
        trusted = weight * (miss(point, centres[:, None], directions) < REACH)
        point = _meet(
            np.einsum("cn,cnij->nij", trusted, across), np.einsum("cn,cni->ni", trusted, pull), otherwise=point
        )
    off = miss(point, centres[:, None], directions)
    used = (weight > 0) & (off < REACH)
    good = (votes > 0) & (used.sum(axis=0) >= 2)
    error = _expected_error(used, np.where(used, off, 0.0), across)
    point[~good], error[~good] = np.nan, np.inf
    return Joints(point, error, used & good, off)


def miss(points: np.ndarray, centre: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Metres by which rays from ``centre`` along unit ``directions`` (…, 3) pass points (…, 3); NaN for NaN.

    What lies behind a camera is as far from the ray as from the camera.
    """
    away = points - centre
    ahead = np.maximum(np.einsum("...i,...i", away, directions), 0)
    return np.linalg.norm(away - ahead[..., None] * directions, axis=-1)


def _proposed(
    centres: np.ndarray, directions: np.ndarray, weight: np.ndarray, expected: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) the point half-way between two rays that has most votes, and (N,) its votes, -1 = no two rays."""
    first, second = np.array(list(combinations(range(len(centres)), 2))).T
    a, b, between = directions[first], directions[second], (centres[first] - centres[second])[:, None]
    cosine = np.einsum("...i,...i", a, b)
    sine2 = 1 - cosine**2
    on_a, on_b = np.einsum("...i,...i", a, between), np.einsum("...i,...i", b, between)
    safe = np.maximum(sine2, 1e-9)
    along_a, along_b = (cosine * on_b - on_a) / safe, (on_b - cosine * on_a) / safe
    middle = centres[first] + centres[second]
    points = (middle[:, None] + along_a[..., None] * a + along_b[..., None] * b) / 2  # (pairs, N, 3)
    share = np.maximum(1 - (miss(points, centres[:, None, None], directions[:, None]) / REACH) ** 2, 0)
    votes = np.einsum("cn,cpn->pn", weight, share)
    near = np.linalg.norm(points - expected, axis=-1) / (3 * REACH)
    votes += np.maximum(1 - np.nan_to_num(near, nan=1.0) ** 2, 0)
    possible = (weight[first] > 0) & (weight[second] > 0) & (sine2 > 1 / MAX_DEPTH_NOISE**2)
    votes = np.where(possible, votes, -1.0)
    best = votes.argmax(axis=0)[None]
    return np.take_along_axis(points, best[..., None], axis=0)[0], np.take_along_axis(votes, best, axis=0)[0]


def _meet(across: np.ndarray, pull: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """The points (N, 3) where Σ w (I − ddᵀ) (x − c) = 0; parallel rays give ``otherwise``."""
    solvable = np.linalg.det(across) > 1e-9
    safe = np.where(solvable[:, None, None], across, np.eye(3))
    return np.where(solvable[:, None], np.linalg.solve(safe, pull[..., None])[..., 0], otherwise)


def _expected_error(used: np.ndarray, off: np.ndarray, across: np.ndarray) -> np.ndarray:
    """(N,) metres: how far the answer is likely to be off.

    The spread of the rays around the answer, held back by what rays usually miss by, carried through the geometry: two
    rays always meet well, yet say little, and nearly parallel ones say nothing along themselves.
    """
    rays = used.sum(axis=0)
    variance = (TRUST * NOISE**2 + np.sum(off**2, axis=0)) / (TRUST + np.maximum(2 * rays - 3, 0))
    information = np.einsum("cn,cnij->nij", used.astype(float), across) + 1e-6 * np.eye(3)
    return np.sqrt(variance * np.trace(np.linalg.inv(information), axis1=-2, axis2=-1))
