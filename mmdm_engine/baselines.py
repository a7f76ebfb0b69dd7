"""What an animator has without a model: in-betweens by interpolation and clean-up by filters.

In-betweens work on arrays of NumPy or torch with any leading batch axes and one mask per column (22 joints, then the
root), without a loop over frames. Filters work on NumPy.
"""

from __future__ import annotations

from typing import Any

from .arrays import constant, index, namespace
from .rotations import IDENTITY

Array = Any


def _last_true(xp: Any, mask: Array) -> Array:
    """(..., T, C) bool → int64: the latest frame ≤ t that is true, -1 where there is none.

    A running maximum in log2(T) steps, since the array standard has none.
    """
    frames = mask.shape[-2]
    number = index(xp, range(frames), mask)[:, None]
    latest = xp.where(mask, number, xp.full_like(number, -1))
    step = 1
    while step < frames:
        latest = xp.concat(
            [latest[..., :step, :], xp.maximum(latest[..., step:, :], latest[..., :-step, :])], axis=-2
        )
        step *= 2
    return latest


def neighbours(observed: Array) -> tuple[Array, Array]:
    """The observed frames around every frame.

    observed: (..., T, C) bool. Returns two int64 (..., T, C): the latest observed frame ≤ t and the earliest ≥ t; at
    the ends, where one of them is missing, both are the one that exists, and -1 in a column that is never observed.
    """
    xp = namespace(observed)
    frames = observed.shape[-2]
    before = _last_true(xp, observed)
    after = xp.flip(_last_true(xp, xp.flip(observed, axis=-2)), axis=-2)
    after = xp.where(after < 0, after, frames - 1 - after)
    return xp.where(before < 0, after, before), xp.where(after < 0, before, after)


def _at(xp: Any, values: Array, frames: Array) -> Array:
    """values (..., T, C, k) at frames (..., T, C), which may lack some of the leading axes."""
    where = xp.broadcast_to(frames[..., None], values.shape)
    return xp.take_along_axis(values, where, axis=-3)


def _slerp_fast(xp: Any, a: Array, b: Array, t: Array) -> Array:
    """Shortest slerp by sine weights, safe for equal rotations and their gradients. t: (...), a and b: (..., 4)."""
    dot = xp.sum(a * b, axis=-1)
    sign = xp.where(dot < 0, -xp.ones_like(dot), xp.ones_like(dot))
    cosine = dot * sign
    square = 1 - cosine * cosine
    near = square < 1e-6
    sine = xp.sqrt(xp.where(near, xp.ones_like(square), square))
    angle = xp.atan2(sine, cosine)
    wa = xp.where(near, 1 - t, xp.sin((1 - t) * angle) / sine)
    wb = xp.where(near, t, xp.sin(t * angle) / sine)
    q = wa[..., None] * a + (wb * sign)[..., None] * b
    return q / xp.sqrt(xp.sum(q * q, axis=-1, keepdims=True))


def interpolate(rotations: Array, root: Array, observed: Array) -> tuple[Array, Array]:
    """SLERP of rotations and LERP of the root between observed frames, held at the ends.

    rotations: (..., T, 22, 4) unit quaternions; root: (..., T, 3); observed: (..., T, 23) bool, columns 0-21 the
    joints, 22 the root; its leading axes may be fewer. What is not observed is ignored and may be NaN. Observed
    entries come back with the same bits; a column that is never observed becomes the identity or zero. Interpolated
    quaternions lie in the hemisphere of the earlier key.
    """
    xp = namespace(rotations, root, observed)
    before, after = neighbours(observed)
    none = before < 0
    here = index(xp, range(rotations.shape[-3]), rotations)[:, None]
    before, after = xp.where(none, here, before), xp.where(none, here, after)
    span = after - before
    t = (here - before) * 1.0 / xp.where(span > 0, span, xp.ones_like(span))
    t = xp.astype(t, rotations.dtype)

    ends = [xp.where(none[..., :22, None], constant(xp, IDENTITY, rotations), _at(xp, rotations, k[..., :22]))
            for k in (before, after)]  # fmt: skip
    filled = _slerp_fast(xp, ends[0], ends[1], t[..., :22])
    filled = xp.where(observed[..., :22, None], rotations, filled)

    column = root[..., None, :]
    ends = [xp.where(none[..., 22:, None], constant(xp, (0.0,) * 3, root), _at(xp, column, k[..., 22:]))
            for k in (before, after)]  # fmt: skip
    w = xp.astype(t[..., 22:, None], root.dtype)
    filled_root = xp.where(observed[..., 22:, None], column, ends[0] * (1 - w) + ends[1] * w)
    return filled, filled_root[..., 0, :]


def zero_velocity(rotations: Array, root: Array, observed: Array) -> tuple[Array, Array]:
    """Repeat the last observed frame of each column (before the first one: the first). See `interpolate`."""
    xp = namespace(rotations, root, observed)
    before, _ = neighbours(observed)
    none = before < 0
    before = xp.where(none, xp.zeros_like(before), before)
    held = xp.where(none[..., :22, None], constant(xp, IDENTITY, rotations), _at(xp, rotations, before[..., :22]))
    column = _at(xp, root[..., None, :], before[..., 22:])
    column = xp.where(none[..., 22:, None], constant(xp, (0.0,) * 3, root), column)
    return held, column[..., 0, :]
