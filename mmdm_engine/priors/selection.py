"""The ``joints`` and ``keep`` arguments of the public functions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..contract import JOINTS, MotionError
from ..contract.skeleton import INDEX

PARTS: dict[str, tuple[int, ...]] = {
    "left_leg": (1, 4, 7, 10),
    "right_leg": (2, 5, 8, 11),
    "left_arm": (13, 16, 18, 20),
    "right_arm": (14, 17, 19, 21),
    "whole_head": (12, 15),
    "both_feet": (7, 10, 8, 11),
    "both_legs": (1, 4, 7, 10, 2, 5, 8, 11),
    "below_waist": (0, 1, 4, 7, 10, 2, 5, 8, 11),
    "both_arms": (13, 16, 18, 20, 14, 17, 19, 21),
}
"""Joints that are often meant together, by name."""


def joint_columns(joints: Iterable[str] | np.ndarray | None) -> np.ndarray:
    """Names of joints or `PARTS`, or a bool (22,) array → bool (23,) columns; the root goes with the pelvis."""
    if joints is None:
        return np.ones(23, bool)
    if not isinstance(joints, str):
        joints = np.asarray(list(joints))
    if isinstance(joints, np.ndarray) and joints.dtype == bool:
        if joints.shape != (22,):
            raise MotionError(f"A joint mask must have shape (22,), not {joints.shape}.")
        chosen = joints
    else:
        names = [joints] if isinstance(joints, str) else [str(name) for name in joints]
        unknown = [name for name in names if name not in INDEX and name not in PARTS]
        if unknown:
            raise MotionError(f"There is no joint named {unknown[0]!r}; the joints are {', '.join(JOINTS)}.")
        chosen = np.isin(np.arange(22), [j for name in names for j in PARTS.get(name, (INDEX.get(name, -1),))])
    if not chosen.any():
        raise MotionError("No joint is chosen; choose at least one.")
    return np.append(chosen, chosen[0])


def kept(keep: Iterable[int] | np.ndarray | None, frames: int) -> np.ndarray:
    """Frame indices, or bool (T, 22) for single joints → bool (T, 23)."""
    mask = np.zeros((frames, 23), bool)
    if keep is None:
        return mask
    values = np.atleast_1d(keep if isinstance(keep, np.ndarray | int) else np.asarray(list(keep)))
    if values.dtype == bool:
        if values.shape != (frames, 22):
            raise MotionError(f"A keep mask must have shape ({frames}, 22), not {values.shape}.")
        mask[:, :22] = values
        mask[:, 22] = values[:, 0]
        return mask
    if values.size and not np.issubdtype(values.dtype, np.integer):
        raise MotionError("Frames to keep must be whole numbers counted from the motion's first frame.")
    if values.size and (values.min() < 0 or values.max() >= frames):
        raise MotionError(f"A frame to keep lies outside the motion's {frames} frames; choose frames inside it.")
    mask[values.astype(int)] = True
    return mask
