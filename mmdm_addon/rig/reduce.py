"""Few Bézier keys for many frames: cubic segments within a tolerance.

With both handles a third of the way along, a Bézier segment is a cubic Hermite curve in time, so a key is a value and a
slope. Slopes are those of the motion itself; a segment that strays too far is split where it strays most.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def slopes(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(N,), (N, C) → (N, C) change per frame; one-sided at the ends."""
    if len(times) < 2:
        return np.zeros_like(values)
    return np.gradient(values, times, axis=0)


def hermite(times: np.ndarray, values: np.ndarray, slope: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Cubic through (N,) times, (N, C) values and slopes, evaluated at (M,) times → (M, C)."""
    i = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    width = times[i + 1] - times[i]
    u = ((at - times[i]) / width)[:, None]
    h = width[:, None]
    return (
        (1 + 2 * u) * (1 - u) ** 2 * values[i]
        + u * (1 - u) ** 2 * h * slope[i]
        + u**2 * (3 - 2 * u) * values[i + 1]
        + u**2 * (u - 1) * h * slope[i + 1]
    )


def knots(times: np.ndarray, values: np.ndarray, slope: np.ndarray, tolerance: float, fixed: np.ndarray) -> np.ndarray:
    """Indices of the frames that become keys.

    times: (N,). values, slope: (N, C). tolerance: largest distance of any channel at any frame. fixed: (N,) bool,
    frames that must be keys; the first and the last always are.
    """
    chosen = np.asarray(fixed, bool).copy()
    chosen[[0, -1]] = True
    waiting = list(pairwise(np.flatnonzero(chosen).tolist()))
    while waiting:
        a, b = waiting.pop()
        if b - a < 2:
            continue
        ends = [a, b]
        curve = hermite(times[ends], values[ends], slope[ends], times[a + 1 : b])
        error = np.abs(curve - values[a + 1 : b]).max(axis=-1)
        worst = int(np.argmax(error))
        if error[worst] > tolerance:
            split = a + 1 + worst
            chosen[split] = True
            waiting += [(a, split), (split, b)]
    return np.flatnonzero(chosen)
