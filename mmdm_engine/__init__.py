"""Masked motion diffusion for animation clean-up.

The names below are the stable interface; everything heavier than NumPy is imported when first used, so that this
package can be imported inside Blender.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .contract import JOINTS, Motion, MotionError, Skeleton

__version__ = "0.1.0"

_LAZY = {
    "load_bvh": ("bvh", "load"),
    "save_bvh": ("bvh", "save"),
    "fill_gap": ("priors.inbetween", "fill_gap"),
    "trial": ("priors.trial", "trial"),
    "blended": ("priors.trial", "blended"),
    "refine": ("priors.refinement", "refine"),
    "complete": ("priors.completion", "complete"),
    "detect": ("quality", "detect"),
    "load_npy": ("exchange", "load"),
    "save_npy": ("exchange", "save"),
    "to_humanml3d": ("humanml3d", "to_humanml3d"),
    "from_humanml3d": ("humanml3d", "from_humanml3d"),
}

__all__ = ["JOINTS", "Motion", "MotionError", "Skeleton", "__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(import_module(f".{module}", __name__), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
