"""From captured points to a whole person: adaptive masking, completion, refinement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..joint_sets import CAPTURE15
from . import weights
from .body import Points
from .result import Person

if TYPE_CHECKING:
    from ..priors.masked import PositionsNetwork, SmoothNetwork

STEPS = 4
"""DDIM steps of both priors (`docs/capture.md`, tuning)."""

_NEXT = {"toes": "ankle", "ankle": "knee", "knee": "hip", "wrist": "elbow", "elbow": "shoulder"}


@dataclass(frozen=True)
class Priors:
    """What cleans a capture: networks, names of shipped priors, or paths; None = do without.

    completion None: hidden joints are interpolated in time. refinement None: visible joints stay as captured.
    """

    completion: PositionsNetwork | str | Path | None = None
    refinement: PositionsNetwork | SmoothNetwork | str | Path | None = None
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

        whole = complete_positions(
            held, visible, priors.completion, fps=fps, steps=priors.steps, device=priors.device
        )  # fmt: skip
    if priors.refinement is not None:
        from ..priors.positions import refine_positions

        whole = refine_positions(
            whole, priors.refinement, fps=fps, steps=priors.steps, device=priors.device
        )  # fmt: skip
    return Person(
        first=first,
        positions=whole.astype(np.float32),
        captured=points.positions,
        error=points.error,
        views=(points.confidence > 0).sum(axis=-1),
        weights=doubt,
        visible=visible,
    )


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
