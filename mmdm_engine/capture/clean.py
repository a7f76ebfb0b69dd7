"""From captured points to a whole person: adaptive masking, completion, refinement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..baselines import Filter
from ..joint_sets import CAPTURE15
from . import weights
from .body import Points
from .result import Person

if TYPE_CHECKING:
    from ..priors.masked import PositionsNetwork, SmoothNetwork

STEPS = 4
"""DDIM steps of both priors (`docs/capture.md`, tuning)."""

_SETTINGS = {"cutoff": 3.0, "order": 2.0}
FILTER = Filter("butterworth", _SETTINGS, _SETTINGS)
"""Zero-phase low pass that is best on made-up scenes (`docs/capture.md`, tuning): refinement without a prior."""

_NEXT = {"toes": "ankle", "ankle": "knee", "knee": "hip", "wrist": "elbow", "elbow": "shoulder"}


@dataclass(frozen=True)
class Priors:
    """What cleans a capture: networks, names of shipped priors, or paths.

    completion: None = hidden joints are interpolated in time. refinement: a prior or a filter; None = joints stay as
    they are. steps: of DDIM.
    """

    completion: PositionsNetwork | str | Path | None = None
    refinement: PositionsNetwork | SmoothNetwork | Filter | str | Path | None = FILTER
    steps: int = STEPS
    device: str = "auto"


def clean(first: int, points: Points, fps: float, priors: Priors) -> Person:
    """One person's points (T, 15) as a result without holes."""
    doubt = weights.adaptive(points.positions, points.error, points.confidence, fps)
    visible = doubt <= weights.LIMIT
    if not visible.any():
        visible = np.isfinite(points.positions[..., 0])
    held = np.where(visible[..., None], points.positions, np.nan)
    if priors.completion is None:
        whole = _interpolated(held)
    else:
        from ..priors.positions import complete_positions

        network, steps, device = priors.completion, priors.steps, priors.device
        whole = complete_positions(held, visible, network, fps=fps, steps=steps, device=device)
    return Person(
        first=first,
        positions=refined(whole, fps, priors).astype(np.float32),
        captured=points.positions,
        error=points.error,
        views=(points.confidence > 0).sum(axis=-1),
        weights=doubt,
        visible=visible,
    )


def refined(positions: np.ndarray, fps: float, priors: Priors) -> np.ndarray:
    """Positions (T, J, 3) without holes → without noise."""
    refinement = priors.refinement
    if refinement is None:
        return positions
    if isinstance(refinement, Filter):
        return refinement.apply_root(positions.swapaxes(0, 1), fps).swapaxes(0, 1)
    from ..priors.positions import refine_positions

    return refine_positions(positions, refinement, fps=fps, steps=priors.steps, device=priors.device)


def _interpolated(positions: np.ndarray) -> np.ndarray:
    """Linear in time; a joint that never shows lies on the next one towards the body that does."""
    out = weights.filled_in_time(positions)
    names = CAPTURE15.names
    never = np.isnan(out[0, :, 0])
    out[:, never] = np.nanmean(out, axis=1, keepdims=True)
    for outer, inner in reversed(_NEXT.items()):
        for side in ("left", "right"):
            joint, parent = names.index(f"{side}_{outer}"), names.index(f"{side}_{inner}")
            if never[joint]:
                out[:, joint] = out[:, parent]
    return out
