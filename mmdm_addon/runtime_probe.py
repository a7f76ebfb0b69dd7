"""A small job for the engine that shows whether it works: a made-up walk with a hole in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .engine_link import (
    CANONICAL_DIRECTIONS,
    INDEX,
    JOINTS,
    PARENTS,
    Motion,
    MotionError,
    Skeleton,
    protocol,
    rotations,
)

FPS, FRAMES, START, STOP = 30.0, 90, 30, 60
_LENGTHS = {"hip": 0.42, "knee": 0.41, "ankle": 0.14, "shoulder": 0.27, "elbow": 0.25}
_TORSO = 0.12
_HIP, _ANGLE = 0.09, 0.5


def walk() -> Motion:
    """Three seconds of legs and arms that swing while the body moves on."""
    offsets = np.zeros((22, 3))
    for j, parent in enumerate(PARENTS):
        if parent >= 0:
            segment = JOINTS[parent].partition("_")[2]  # without its side
            offsets[j] = CANONICAL_DIRECTIONS[parent] * _LENGTHS.get(segment, _TORSO)
    for side, sign in (("left", 1), ("right", -1)):
        offsets[INDEX[f"{side}_hip"]] = (sign * _HIP, -0.05, 0)
        offsets[INDEX[f"{side}_collar"]] = (sign * 0.05, 0.06, 0)
    phase = 2 * np.pi * np.arange(FRAMES) / FPS
    turns = np.zeros((FRAMES, 22, 3))
    for side, sign in (("left", 1), ("right", -1)):
        turns[:, INDEX[f"{side}_hip"], 0] = sign * _ANGLE * np.sin(phase)
        turns[:, INDEX[f"{side}_knee"], 0] = _ANGLE * (1 + np.sin(phase + sign * np.pi / 2))
        turns[:, INDEX[f"{side}_shoulder"], 2] = -sign * 1.2
        turns[:, INDEX[f"{side}_elbow"], 1] = -sign * _ANGLE
    root = np.stack([0.02 * np.sin(phase), 0.92 + 0.02 * np.cos(2 * phase), np.arange(FRAMES) / FPS], axis=1)
    return Motion(rotations.exp(turns).astype(np.float32), root.astype(np.float32), Skeleton(offsets), FPS)


def request() -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Method, params and arrays for the worker: fill the hole."""
    return "fill_gap", {"fps": FPS, "start": START, "stop": STOP}, protocol.motion_arrays(walk())


def judge(arrays: dict[str, np.ndarray]) -> None:
    """Raises `MotionError` where the answer is no motion that fits the hole."""
    given = walk()
    outside = np.r_[0:START, STOP:FRAMES]
    for name, before in (("rotations", given.rotations), ("root", given.root)):
        after = arrays[name][0]
        if after.shape != before.shape or not np.isfinite(after).all():
            raise MotionError("The engine's answer is not a motion; install the engine again.")
        if not np.array_equal(after[outside], before[outside]):
            raise MotionError("The engine changed frames that it was to keep; install the engine again.")
    inside = slice(START - 1, STOP + 1)
    if np.linalg.norm(np.diff(arrays["root"][0][inside], axis=0), axis=1).max() > 0.5:
        raise MotionError("The engine's answer jumps; install the engine again.")
