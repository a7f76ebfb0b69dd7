"""What an animator has without a model: in-betweens by interpolation and clean-up by filters.

In-betweens work on arrays of NumPy or torch with any leading batch axes and one mask per column (22 joints, then the
root), without a loop over frames. Filters work on NumPy. SciPy is imported by the functions that need it: it takes
longer to load than the rest of the engine's NumPy side together.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import constant, index, namespace
from .contract import Motion
from .rotations import IDENTITY, continuous

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
        latest = xp.concat([latest[..., :step, :], xp.maximum(latest[..., step:, :], latest[..., :-step, :])], axis=-2)
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
    since = xp.where(span > 0, here - before, xp.zeros_like(span))  # 0 where an end is held
    t = since * 1.0 / xp.where(span > 0, span, xp.ones_like(span))
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


# --- Bézier in-betweens ---------------------------------------------------------------------------------------------


def _key_slopes(frames: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Slopes that Blender's default key handles (auto-clamped, continuous acceleration) come to.

    frames: (K,) increasing. values: (K, C). Handles reach a third of the way to the next key, so each segment is a
    cubic in time and one slope per key says all. Acceleration is continuous at every key unless a handle would leave
    the range between its neighbours' values; peaks, and both ends, are flat. Returns (K, C) per frame.

    Solved by projected Jacobi steps: the system is diagonally dominant by two, so 40 of them leave 1e-12.
    """
    step = np.diff(frames)[:, None].astype(float)
    rise = np.diff(values, axis=0) / step
    left, right = rise[:-1], rise[1:]
    limit = np.where(left * right > 0, 3 * np.minimum(np.abs(left), np.abs(right)), 0.0)
    low, high = np.where(left > 0, 0.0, -limit), np.where(left > 0, limit, 0.0)
    weight = 1 / step
    diagonal = 2 * (weight[:-1] + weight[1:])
    target = 3 * (left * weight[:-1] + right * weight[1:])
    slopes = np.zeros_like(values)
    for _ in range(40):
        pull = weight[:-1] * slopes[:-2] + weight[1:] * slopes[2:]
        slopes[1:-1] = np.clip((target - pull) / diagonal, low, high)
    return slopes


def bezier_curve(frames: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """F-curves with Blender's default keys, read at any frames; constant outside the keys.

    frames: (K,) increasing. values: (K, C). at: (M,). Returns (M, C) float64.
    """
    frames, values = np.asarray(frames, float), np.asarray(values, float)
    if len(frames) < 2:
        return np.repeat(values, len(at), axis=0)
    slopes = _key_slopes(frames, values)
    at = np.clip(at, frames[0], frames[-1])
    i = np.clip(np.searchsorted(frames, at, side="right") - 1, 0, len(frames) - 2)
    width = (frames[i + 1] - frames[i])[:, None]
    t = (at - frames[i])[:, None] / width
    return (
        (1 + 2 * t) * (1 - t) ** 2 * values[i]
        + t * t * (3 - 2 * t) * values[i + 1]
        + width * (t * (1 - t) ** 2 * slopes[i] - t * t * (1 - t) * slopes[i + 1])
    )


def bezier(
    rotations: np.ndarray, root: np.ndarray, observed: np.ndarray, channels: str = "quaternion"
) -> tuple[np.ndarray, np.ndarray]:
    """What Blender shows when the unobserved keys are deleted: its default Bézier curve through the others.

    Arguments and result as in `interpolate`, NumPy only. channels: "quaternion" or "euler" (XYZ), the form in which
    the joints would be keyed.
    """
    if channels not in ("quaternion", "euler"):
        raise ValueError(f"channels must be quaternion or euler, not {channels}")
    lead, frames = rotations.shape[:-3], rotations.shape[-3]
    observed = np.broadcast_to(observed, (*lead, frames, 23))
    q_in, q_out = rotations.reshape(-1, frames, 22, 4), rotations.astype(rotations.dtype).reshape(-1, frames, 22, 4)
    r_in, r_out = root.reshape(-1, frames, 3), root.astype(root.dtype).reshape(-1, frames, 3)
    columns = observed.reshape(-1, frames, 23).transpose(0, 2, 1)
    masks, group = np.unique(columns.reshape(-1, frames), axis=0, return_inverse=True)
    group = group.reshape(columns.shape[:2])
    for g, mask in enumerate(masks):
        keys, gap = np.flatnonzero(mask), np.flatnonzero(~mask)
        if not len(gap):
            continue
        batch, joint = np.nonzero(group == g)
        joints, roots = (batch[joint < 22], joint[joint < 22]), batch[joint == 22]
        if not len(keys):
            q_out[joints[0], :, joints[1]] = IDENTITY
            r_out[roots] = 0
            continue
        if len(joints[0]):
            q = q_in[joints[0][:, None], keys[None], joints[1][:, None]]  # (columns, keys, 4)
            filled = _bezier_rotations(keys, q, gap, channels)
            q_out[joints[0][:, None], gap[None], joints[1][:, None]] = filled
        if len(roots):
            values = r_in[roots[:, None], keys[None]].transpose(1, 0, 2).reshape(len(keys), -1)
            r_out[roots[:, None], gap[None]] = (
                bezier_curve(keys, values, gap).reshape(len(gap), -1, 3).transpose(1, 0, 2)
            )
    return q_out.reshape(rotations.shape), r_out.reshape(root.shape)


def _bezier_rotations(keys: np.ndarray, q: np.ndarray, at: np.ndarray, channels: str) -> np.ndarray:
    """q: (N, K, 4) at frames keys → (N, M, 4) at other frames."""
    from scipy.spatial.transform import Rotation

    n = len(q)
    if channels == "quaternion":
        values = continuous(q.astype(float), axis=1)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # at gimbal lock SciPy says that it picks one of many right answers
            euler = Rotation.from_quat(q.reshape(-1, 4)[:, [1, 2, 3, 0]]).as_euler("xyz")
        values = np.unwrap(euler.reshape(n, -1, 3), axis=1)
    width = values.shape[-1]
    curve = bezier_curve(keys, values.transpose(1, 0, 2).reshape(len(keys), -1), at)
    curve = curve.reshape(len(at), n, width).transpose(1, 0, 2)
    if channels == "euler":
        xyzw = Rotation.from_euler("xyz", curve.reshape(-1, 3)).as_quat().reshape(n, len(at), 4)
        return xyzw[..., [3, 0, 1, 2]]
    return curve / np.linalg.norm(curve, axis=-1, keepdims=True)


# --- filters --------------------------------------------------------------------------------------------------------
# Averages of sign-continuous quaternions, renormalised, are the chordal mean on SO(3): it does not depend on the choice
# of axes, unlike filtering Euler angles or rotation vectors.


def _padded(x: np.ndarray, count: int) -> np.ndarray:
    """x (T, ...) with ``count`` frames at both ends, mirrored through the end value so that its slope goes on."""
    return np.pad(x, [(count, count)] + [(0, 0)] * (x.ndim - 1), mode="reflect", reflect_type="odd")


def _gaussian(x: np.ndarray, fps: float, sigma: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    radius = int(np.ceil(4 * sigma * fps))
    padded = _padded(x, radius)
    return gaussian_filter1d(padded, sigma * fps, axis=0, radius=radius)[radius : radius + len(x)]


def _savitzky_golay(x: np.ndarray, fps: float, window: float, order: float) -> np.ndarray:
    from scipy.signal import savgol_filter

    length = 2 * round(window * fps / 2 - 0.5) + 1
    length = min(length, len(x) - 1 + len(x) % 2)
    return x if length <= order + 1 else savgol_filter(x, length, int(order), axis=0, mode="interp")


def _butterworth(x: np.ndarray, fps: float, cutoff: float, order: float) -> np.ndarray:
    from scipy.signal import butter, sosfiltfilt

    if cutoff >= fps / 2:
        return x
    sections = butter(int(order), cutoff, fs=fps, output="sos")
    return sosfiltfilt(sections, x, axis=0, padlen=min(len(x) - 1, int(2 * fps)))


def _one_euro(x: np.ndarray, fps: float, min_cutoff: float, beta: float) -> np.ndarray:
    """Casiez et al. 2012, with the length of the velocity of each joint deciding for all its components.

    Causal: each frame is a step from the last result towards the sample, the faster the joint, the wider.
    """

    def share(cutoff: np.ndarray | float) -> np.ndarray | float:
        return 1 / (1 + fps / (2 * np.pi * cutoff))

    out = np.empty_like(x)
    out[0] = x[0]
    velocity = np.zeros_like(x[0])
    for t in range(1, len(x)):
        velocity = velocity + share(1.0) * ((x[t] - x[t - 1]) * fps - velocity)
        speed = np.linalg.norm(velocity, axis=-1, keepdims=True)
        out[t] = out[t - 1] + share(min_cutoff + beta * speed) * (x[t] - out[t - 1])
    return out


def _pairs(first: str, one: Sequence[float], second: str, two: Sequence[float]) -> list[dict[str, float]]:
    return [{first: a, second: b} for a in one for b in two]


_FILTERS: dict[str, tuple[Callable[..., np.ndarray], list[dict[str, float]]]] = {
    "gaussian": (
        _gaussian,
        [{"sigma": s} for s in (0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.12, 0.15)],
    ),
    "savitzky_golay": (
        _savitzky_golay,
        _pairs("window", (0.1, 0.17, 0.23, 0.3, 0.37, 0.43, 0.5, 0.57, 0.63, 0.77, 0.9, 1.03), "order", (1, 2, 3, 4)),
    ),
    "butterworth": (
        _butterworth,
        _pairs("cutoff", (1, 1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 5, 6, 8), "order", (1, 2, 4)),
    ),
    "one_euro": (
        _one_euro,
        _pairs("min_cutoff", (0.01, 0.04, 0.2, 0.5, 1, 2, 4), "beta", (0, 0.3, 0.7, 1.5, 2, 3, 4, 6, 12)),
    ),
}

FILTERS: tuple[str, ...] = tuple(_FILTERS)


@dataclass(frozen=True)
class Filter:
    """A low-pass filter with its settings for the joints' rotations and, apart, for the root's path.

    kind: one of `FILTERS`. Settings are in seconds and hertz, so that they mean the same at any frame rate:
    gaussian: sigma (s) · savitzky_golay: window (s), order · butterworth (zero-phase): cutoff (Hz), order ·
    one_euro (causal): min_cutoff (Hz), beta (Hz per unit of quaternion or metre a second).
    """

    kind: str
    rotation: Mapping[str, float]
    root: Mapping[str, float]

    def apply_rotations(self, rotations: np.ndarray, fps: float) -> np.ndarray:
        """(..., T, 22, 4) → the same shape and dtype, unit length, sign-continuous."""
        q = continuous(np.moveaxis(np.asarray(rotations, float), -3, 0), axis=0)
        q = q if len(q) < 3 else _FILTERS[self.kind][0](q, fps, **self.rotation)
        q = q / np.linalg.norm(q, axis=-1, keepdims=True)
        return np.moveaxis(q, 0, -3).astype(rotations.dtype)

    def apply_root(self, root: np.ndarray, fps: float) -> np.ndarray:
        """(..., T, 3) → the same shape and dtype."""
        path = np.moveaxis(np.asarray(root, float), -2, 0)
        path = path if len(path) < 3 else _FILTERS[self.kind][0](path, fps, **self.root)
        return np.moveaxis(path, 0, -2).astype(root.dtype)

    def __call__(self, motions: Sequence[Motion]) -> list[Motion]:
        """Filter motions; those of equal length and rate go through in one batch."""
        out: list[Motion] = list(motions)
        batches: dict[tuple[int, float], list[int]] = {}
        for i, motion in enumerate(motions):
            batches.setdefault((len(motion), motion.fps), []).append(i)
        for (_, fps), rows in batches.items():
            q = self.apply_rotations(np.stack([motions[i].rotations for i in rows]), fps)
            p = self.apply_root(np.stack([motions[i].root for i in rows]), fps)
            for i, rotations, root in zip(rows, q, p, strict=True):
                out[i] = motions[i].with_frames(rotations, root)
        return out

    def __str__(self) -> str:
        def text(settings: Mapping[str, float]) -> str:
            return ", ".join(f"{k} {v:g}" for k, v in settings.items())

        return f"{self.kind}({text(self.rotation)}; root {text(self.root)})"


def grid(kind: str) -> list[dict[str, float]]:
    """The settings that `tune` tries for one kind of filter."""
    if kind not in _FILTERS:
        raise ValueError(f"unknown filter {kind}; there are {', '.join(FILTERS)}")
    return [dict(s) for s in _FILTERS[kind][1]]


def tune(
    kind: str,
    noisy: Sequence[Motion],
    clean: Sequence[Motion],
    metric: Callable[[Sequence[Motion], Sequence[Motion]], float],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Filter, float]:
    """The settings of one kind of filter that come nearest to the truth, and how near.

    metric(clean, filtered) → a number, smaller is better. First one setting for rotations and root together, then the
    root's alone, then the rotations' alone.
    """
    settings = grid(kind)
    scores: dict[tuple[int, int], float] = {}
    steps = 3 * len(settings)

    def score(pair: tuple[int, int]) -> float:
        if pair not in scores:
            scores[pair] = metric(clean, Filter(kind, settings[pair[0]], settings[pair[1]])(noisy))
        return scores[pair]

    best = (0, 0)
    for phase in range(3):
        for i in range(len(settings)):
            best = min(best, [(i, i), (best[0], i), (i, best[1])][phase], key=score)
            if progress:
                progress(phase * len(settings) + i + 1, steps)
    return Filter(kind, settings[best[0]], settings[best[1]]), score(best)
