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
    shape = rays.confidence.shape[1:]
    cameras = len(rays.centres)
    direction = rays.directions.reshape(cameras, -1, 3)
    weight = rays.confidence.reshape(cameras, -1)
    across = np.eye(3) - direction[..., :, None] * direction[..., None, :]  # (C, N, 3, 3) projections along the rays
    pull = (across @ rays.centres[:, None, :, None])[..., 0]  # (C, N, 3)

    def miss(points: np.ndarray) -> np.ndarray:
        """(…, N, 3) points → (C, …, N) their distance from each ray, infinite behind the camera."""
        away = points - rays.centres.reshape(cameras, *[1] * (points.ndim - 1), 3)
        d = direction.reshape(cameras, *[1] * (points.ndim - 2), -1, 3)
        ahead = np.sum(away * d, axis=-1)
        off = np.linalg.norm(away - ahead[..., None] * d, axis=-1)
        return np.where(ahead > 0, off, np.inf)

    pairs = np.array(list(combinations(range(cameras), 2)))
    points = _meet(across[pairs].sum(axis=1), pull[pairs].sum(axis=1))  # (pairs, N, 3)
    cosine = np.abs(np.sum(direction[pairs[:, 0]] * direction[pairs[:, 1]], axis=-1))
    possible = (weight[pairs] > 0).all(axis=1) & (1 - cosine**2 > 1 / MAX_DEPTH_NOISE**2)
    share = np.clip(1 - (miss(points) / REACH) ** 2, 0, None)  # (C, pairs, N)
    votes = np.sum(weight[:, None] * share, axis=0)
    if near is not None:
        expected = near.reshape(-1, 3)
        away = np.linalg.norm(points - expected, axis=-1)
        votes += np.nan_to_num(np.clip(1 - (away / (3 * REACH)) ** 2, 0, None))
    votes = np.where(possible, votes, -1.0)
    best = votes.argmax(axis=0)
    point = np.take_along_axis(points, best[None, :, None], axis=0)[0]

    for _ in range(2):
        used = (weight > 0) & (miss(point) < REACH)
        trusted = weight * used
        point = _meet(
            np.einsum("cn,cnij->nij", trusted, across), np.einsum("cn,cni->ni", trusted, pull), otherwise=point
        )
    off = miss(point)
    used = (weight > 0) & (off < REACH)
    good = (votes.max(axis=0) > 0) & (used.sum(axis=0) >= 2)
    error = _expected_error(weight * used, np.where(used, off, 0.0), across)
    point[~good], error[~good] = np.nan, np.inf
    used &= good
    return Joints(
        point.reshape(*shape, 3), error.reshape(shape), used.reshape(cameras, *shape), off.reshape(cameras, *shape)
    )  # fmt: skip


def _meet(across: np.ndarray, pull: np.ndarray, otherwise: np.ndarray | None = None) -> np.ndarray:
    """The points (…, 3) where Σ w (I − ddᵀ) (x − c) = 0; parallel rays give ``otherwise`` or something far away."""
    determinant = np.linalg.det(across)
    solvable = determinant > 1e-9
    safe = np.where(solvable[..., None, None], across, np.eye(3))
    points = np.linalg.solve(safe, pull[..., None])[..., 0]
    return np.where(solvable[..., None], points, 1e6 if otherwise is None else otherwise)


def _expected_error(trusted: np.ndarray, off: np.ndarray, across: np.ndarray) -> np.ndarray:
    """(N,) metres: how far the answer is likely to be off.

    The spread of the rays around the answer, held back by what rays usually miss by, carried through the geometry: two
    rays always meet well, yet say little, and nearly parallel ones say nothing along themselves.
    """
    rays = (trusted > 0).sum(axis=0)
    variance = (TRUST * NOISE**2 + np.sum(off**2, axis=0)) / (TRUST + np.maximum(2 * rays - 3, 0))
    information = np.einsum("cn,cnij->nij", (trusted > 0).astype(float), across) + 1e-6 * np.eye(3)
    return np.sqrt(variance * np.trace(np.linalg.inv(information), axis1=-2, axis2=-1))
