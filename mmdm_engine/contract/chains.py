"""How a chain of more bones than roles follows a change of its role: shared by BVH files and rigs.

Filled, the further bones go from border to border; refined, they share the correction by their own jitter.
"""

from __future__ import annotations

import numpy as np

from .. import rotations as rot


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Half-open ranges of consecutive True in (T,) bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def bridged(q: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Rotations (T, 4) with each run of ``frames`` (T,) bool slerped between its own borders.

    At an end of the take the one border there is is held.
    """
    out = q.copy()
    for start, stop in runs(frames):
        before = q[start - 1] if start > 0 else q[min(stop, len(q) - 1)]
        after = q[stop] if stop < len(q) else before
        out[start:stop] = rot.slerp(before, after, np.arange(1, stop - start + 1) / (stop - start + 1))
    return out


def jitter(q: np.ndarray) -> float:
    """RMS second difference of rotations (T, 4) over the take, radians per frame²."""
    steps = rot.log(rot.multiply(rot.conjugate(q[:-1]), q[1:]))
    return float(np.sqrt(np.mean(np.diff(steps, axis=0) ** 2))) if len(steps) > 1 else 0.0
