"""Arms and legs that a detector has swapped between left and right in one camera."""

from __future__ import annotations

import numpy as np

from .detections import BODY_25
from .triangulation import Rays, miss

MARGIN = 0.06
"""Metres by which the swapped reading must fit better before it is believed."""
_LIMBS = (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle", "big_toe", "small_toe", "heel"))


def _rows(side: str, limb: tuple[str, ...]) -> list[int]:
    return [BODY_25.index(f"{side}_{joint}") for joint in limb]


def unswapped(expected: np.ndarray, rays: Rays) -> Rays:
    """The rays with arms, and legs, put back to the side where a roughly known pose has them.

    expected: (…, 25, 3) metres, NaN where unknown. rays: (C, …, 25).
    """
    directions, confidence = rays.directions.copy(), rays.confidence.copy()
    for limb in _LIMBS:
        left, right = _rows("left", limb), _rows("right", limb)
        straight, crossed = [left, right], [right, left]
        for c, centre in enumerate(rays.centres):
            seen = rays.confidence[c] > 0
            fit = [
                sum(
                    np.nansum(
                        np.where(
                            seen[..., b],
                            np.minimum(miss(expected[..., a, :], centre, rays.directions[c][..., b, :]), 0.5),
                            np.nan,
                        ),
                        axis=-1,
                    )
                    for a, b in zip(straight, way, strict=True)
                )
                for way in (straight, crossed)
            ]
            joints = np.maximum(seen[..., left + right].sum(axis=-1), 1)
            swap = (fit[0] - fit[1]) / joints > MARGIN
            where = swap[..., None]
            for a, b in ((left, right), (right, left)):
                directions[c][..., a, :] = np.where(
                    where[..., None], rays.directions[c][..., b, :], rays.directions[c][..., a, :]
                )
                confidence[c][..., a] = np.where(where, rays.confidence[c][..., b], rays.confidence[c][..., a])
    return Rays(rays.centres, directions, confidence)
