"""Which detections of one frame, in different cameras, are of one person.

Two detections of one person have rays through the mid hip that meet; the distance by which they pass each other is the
epipolar distance, here in metres at the body. Cameras are joined one after another: each camera's detections go to the
groups found so far by the Hungarian algorithm, and what fits nowhere begins a group of its own.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from .detections import BODY_25
from .triangulation import Rays, miss

GATE = 0.25
"""Metres by which two people's rays may miss each other on average and still be one person."""
_HIP = BODY_25.index("mid_hip")
_HIP_SHARE = 0.5
_TORSO = [BODY_25.index(n) for n in ("neck", "right_shoulder", "left_shoulder", "mid_hip", "right_hip", "left_hip")]
_FEW = 3
"""Joints that two detections must share before their distance means anything."""
FAR = 1e3
"""Cost of what must not be joined."""


def epipolar(rays: Rays) -> np.ndarray:
    """(C, C, …, P, P) metres: how far two detections of different cameras pass each other, `FAR` where unknown.

    rays: of (C, …, P, 25). Half of it is the mid hip's distance, as in the paper; the median over all joints that both
    show is the other half, or all of it where a mid hip is hidden. Neighbours in a queue share an epipolar plane at the
    hip but hardly ever at every joint.
    """
    cameras = len(rays.centres)
    people = rays.confidence.shape[-2]
    lead = rays.confidence.shape[1:-2]
    out = np.full((cameras, cameras, *lead, people, people), FAR)
    for a in range(cameras):
        for b in range(a):
            off = _passing(
                rays.centres[a] - rays.centres[b],
                rays.directions[a][..., :, None, :, :],
                rays.directions[b][..., None, :, :, :],
            )
            both = (rays.confidence[a][..., :, None, :] > 0) & (rays.confidence[b][..., None, :, :] > 0)
            off = np.where(both, off, np.nan)
            enough = both.sum(axis=-1) >= _FEW
            median = _median(off)
            cost = np.where(np.isnan(off[..., _HIP]), median, _HIP_SHARE * off[..., _HIP] + (1 - _HIP_SHARE) * median)
            out[a, b] = np.where(enough, cost, FAR)
            out[b, a] = np.swapaxes(out[a, b], -1, -2)
    return out


def _median(values: np.ndarray) -> np.ndarray:
    """Median over the last axis of what is not NaN; NaN where nothing is."""
    ordered = np.sort(values, axis=-1)  # NaN last
    count = np.sum(~np.isnan(values), axis=-1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[-1] - 1), axis=-1)
    return np.where(count > 0, (low + high) / 2, np.nan)[..., 0]


def _passing(between: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Shortest distance of two rays with unit directions a and b whose origins lie ``between`` apart."""
    normal = np.cross(a, b)
    length = np.linalg.norm(normal, axis=-1)
    along = np.abs(np.sum(normal * between, axis=-1)) / np.maximum(length, 1e-9)
    parallel = np.linalg.norm(np.cross(np.broadcast_to(between, a.shape), a), axis=-1)
    return np.where(length > 0.02, along, parallel)


def match(distance: np.ndarray, present: np.ndarray) -> list[dict[int, int]]:
    """Groups of one frame's detections: camera → person in that camera's list, each group at least two cameras.

    distance: (C, C, P, P) from `epipolar`. present: (C, P) bool, which of the P are detections.
    """
    cameras = len(present)
    order = sorted(range(cameras), key=lambda c: -int(present[c].sum()))
    groups: list[dict[int, int]] = []
    for camera in order:
        people = np.flatnonzero(present[camera])
        cost = np.full((len(groups), len(people)), FAR)
        for g, group in enumerate(groups):
            to_members = np.stack([distance[camera, other][people, person] for other, person in group.items()])
            cost[g] = to_members.mean(axis=0)
        taken = set()
        for g, p in zip(*linear_sum_assignment(np.minimum(cost, GATE)), strict=True):
            if cost[g, p] < GATE:
                groups[g][camera] = int(people[p])
                taken.add(p)
        groups += [{camera: int(people[p])} for p in range(len(people)) if p not in taken]
    return [g for g in groups if len(g) >= 2]


def attach(expected: np.ndarray, rays: Rays) -> tuple[np.ndarray, np.ndarray]:
    """Which detection of each camera belongs to people whose poses are roughly known.

    expected: (K, T, 25, 3) metres, NaN where unknown. rays: of (C, T, P, 25). Returns (K, C, T) the detection, -1 =
    none, and (K, C, T) metres by which the nearest one misses, `FAR` where there is none. What a pose of one frame has
    lost to a wrong group comes back here.
    """
    people, frames = expected.shape[:2]
    cameras = len(rays.centres)
    chosen = np.full((people, cameras, frames), -1)
    nearest = np.full((people, cameras, frames), FAR)
    for camera in range(cameras):
        off = miss(expected[:, :, None], rays.centres[camera], rays.directions[camera])  # (K, T, P, 25)
        off = np.where(rays.confidence[camera] > 0, off, np.nan)
        cost = np.where(np.sum(~np.isnan(off), axis=-1) >= _FEW, _median(off), FAR)
        nearest[:, camera] = cost.min(axis=-1, initial=FAR)
        for t in np.flatnonzero((cost < GATE).any(axis=(0, 2))):
            for k, p in zip(*linear_sum_assignment(np.minimum(cost[:, t], GATE)), strict=True):
                if cost[k, t, p] < GATE:
                    chosen[k, camera, t] = p
    return chosen, nearest
