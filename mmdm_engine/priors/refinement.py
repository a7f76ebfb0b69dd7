"""Refine: take the shake out of a motion without being told how strong it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from .. import contacts, quality
from .. import rotations as rot
from ..baselines import Filter
from ..contract import Motion, MotionError
from ..contract.skeleton import LEGS
from . import residual, store
from .network import InbetweenNetwork, Progress, RefinementNetwork, Windows
from .selection import joint_columns
from .solve import BATCH, TOP_RATE, Job, solve, taper
from .window import Bodies

PRIOR, FILLER = "refinement", "inbetween"
WINDOW = 64
"""Frames of a window; neighbours overlap by half and are cross-faded."""
RAMP = 0.12
"""Seconds over which the correction fades in at a border inside the take."""
CALM = Filter("gaussian", {"sigma": 0.07}, {"sigma": 0.07})
"""The filter for shake that the prior has left; of 0.05, 0.07 and 0.1 s the best on jitter put into training clips."""
CAPTURED_SECONDS = 0.1
"""Deviation of the filter over a capture's confidence, which flickers; corrections that flicker with it would shake."""
FAST_SMOOTHING = 0.5 / TOP_RATE
"""Standard deviation, seconds, of the filter before decimation of takes above the top rate."""


def refine(
    motion: Motion,
    start: int = 0,
    stop: int | None = None,
    *,
    joints: Iterable[str] | np.ndarray | None = None,
    strength: float = 1.0,
    confidence: np.ndarray | None = None,
    captured: np.ndarray | None = None,
    lock_feet: bool = True,
    prior: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Motion:
    """Clean frames [start, stop); outside, and in joints not chosen, bits are untouched.

    strength: 0 = identity, 1 = the prior's answer; in between along the shortest way. confidence: (T, 22) in [0, 1];
    the correction of a joint and frame is scaled by 1 − confidence. None = what `quality.detect` finds, and what pops
    and frozen runs have overwritten is made up anew from what is around it. captured: (T, 22) in [0, 1], how sure a
    capture was of each joint; what it doubts is doubted even where the motion shows nothing. joints, prior, device,
    progress: as for `fill_gap`.
    """
    stop = len(motion) if stop is None else stop
    _check(motion, start, stop, strength)
    lost = np.zeros((len(motion), 23), bool)
    if confidence is None:
        found = quality.detect(motion)
        confidence, lost = found.confidence, found.lost()
    if captured is not None:
        sure = gaussian_filter1d(_shares(captured, len(motion)), CAPTURED_SECONDS * motion.fps, axis=0, mode="nearest")
        confidence = np.minimum(_shares(confidence, len(motion)), sure)
    weight = _weights(motion, start, stop, strength, joints, confidence)
    if not weight.any():
        return motion
    margin = round(motion.fps)
    first, last = max(0, start - margin), min(len(motion), stop + margin)
    part = motion.slice(first, last)
    network = _network(prior, device)
    restored = _restored([part], [lost[first:last]], device, _half(progress, 0))
    clean = _calmed(part, _clean(network, restored, _half(progress, 1))[0])
    return _blend(motion, first, part, clean, weight, lock_feet)


def refine_many(
    motions: Sequence[Motion],
    *,
    lock_feet: bool = True,
    prior: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Motion]:
    """Whole motions of any lengths in shared batches; for evaluation."""
    for motion in motions:
        _check(motion, 0, len(motion), 1.0)
    network = _network(prior, device)
    found = [quality.detect(motion) for motion in motions]
    restored = _restored(motions, [q.lost() for q in found], device, _half(progress, 0))
    out = []
    for motion, clean, q in zip(motions, _clean(network, restored, _half(progress, 1)), found, strict=True):
        weight = _weights(motion, 0, len(motion), 1.0, None, q.confidence)
        out.append(_blend(motion, 0, motion, _calmed(motion, clean), weight, lock_feet))
    return out


def _calmed(motion: Motion, clean: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The prior's answer, smoothed where it still shakes.

    The prior was trained on bodies that shake as a whole; where one joint of a quiet body does, it sees little to do.
    """
    answer = motion.with_frames(rot.continuous(clean[0]), clean[1])
    doubt = quality.shaken(answer)
    if not doubt.any():
        return clean
    smooth = CALM([answer])[0]
    rotations = rot.slerp(clean[0], rot.normalize(smooth.rotations.astype(np.float64)), doubt[:, :22])
    return rotations, clean[1] + doubt[:, 22:] * (smooth.root - clean[1])


def _half(progress: Progress | None, part: int) -> Progress | None:
    """Progress of the first (0) or the second half (1) of the work as progress of the whole."""
    if progress is None:
        return None
    return lambda done, of: progress(part * of + done, 2 * of)


def _restored(
    motions: Sequence[Motion], lost: Sequence[np.ndarray], device: str, progress: Progress | None
) -> list[Motion]:
    """The motions with what is lost in them, (T, 23) bool each, made up by the in-betweening prior.

    A column that is lost from end to end has nothing to start from and stays as it is.
    """
    out = list(motions)
    hidden = [mask & ~mask.all(axis=0) for mask in lost]
    wanted = [i for i, mask in enumerate(hidden) if mask.any()]
    if wanted:
        filler = store.load(FILLER, "inbetween", device)
        assert isinstance(filler, InbetweenNetwork)
        jobs = [Job(motions[i], hidden[i]) for i in wanted]
        for i, (rotations, root) in zip(wanted, solve(filler, jobs, progress=progress), strict=True):
            out[i] = _over(motions[i], hidden[i], rotations, root)
    return out


def _network(prior: str | Path | None, device: str) -> RefinementNetwork:
    network = store.load(prior or PRIOR, "refinement", device)
    assert isinstance(network, RefinementNetwork)
    return network


def _check(motion: Motion, start: int, stop: int, strength: float) -> None:
    if not 0 <= start < stop <= len(motion):
        raise MotionError(
            f"The range from {start} to {stop} does not lie inside the motion's {len(motion)} frames; "
            "choose a range inside it."
        )
    if not 0 <= strength <= 1:
        raise MotionError(f"The strength must lie between 0 and 1, not at {strength}.")
    if len(motion) < 4:
        raise MotionError("Refining needs at least four frames; choose a longer take.")
    motion.require_finite()


def _weights(
    motion: Motion,
    start: int,
    stop: int,
    strength: float,
    joints: Iterable[str] | np.ndarray | None,
    confidence: np.ndarray | None,
) -> np.ndarray:
    """(T, 23) share of the correction that is applied; fades in at borders that lie inside the take."""
    frames = len(motion)
    index = np.arange(frames)
    ramp = max(RAMP * motion.fps, 1.0)
    inside = (index >= start) & (index < stop)
    left = np.ones(frames) if start == 0 else np.clip((index - start + 1) / (ramp + 1), 0, 1)
    right = np.ones(frames) if stop == frames else np.clip((stop - index) / (ramp + 1), 0, 1)
    fade = np.sin(np.minimum(left, right) * np.pi / 2) ** 2 * inside
    weight = strength * fade[:, None] * joint_columns(joints)
    if confidence is not None:
        doubt = 1 - _shares(confidence, frames)
        weight = weight * np.concatenate([doubt, doubt[:, :1]], axis=1)
    return weight


def _shares(confidence: np.ndarray, frames: int) -> np.ndarray:
    """A confidence in [0, 1] as float64. Raises `MotionError` where it does not belong to a motion of ``frames``."""
    confidence = np.asarray(confidence, np.float64)
    if confidence.shape != (frames, 22) or not np.isfinite(confidence).all():
        raise MotionError(f"The confidence must be finite and of shape ({frames}, 22), not {confidence.shape}.")
    return np.clip(confidence, 0, 1)


def _clean(
    network: RefinementNetwork, motions: Sequence[Motion], progress: Progress | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The prior's answer for every frame: (rotations, root) float64 per motion."""
    strides = [min(max(1, math.ceil(m.fps / TOP_RATE - 0.01)), max(1, (len(m) - 1) // 3)) for m in motions]
    full = [_presmoothed(m, stride) for m, stride in zip(motions, strides, strict=True)]
    grids = [_grid(len(m), stride) for m, stride in zip(motions, strides, strict=True)]
    taken = [(r[g], p[g]) for (r, p), g in zip(full, grids, strict=True)]
    solved = _solve(network, motions, strides, taken, progress)
    out = []
    for (r, p), grid, stride, base, new in zip(full, grids, strides, taken, solved, strict=True):
        if stride == 1:
            out.append(new)
            continue
        turn = rot.log(rot.multiply(rot.conjugate(base[0]), new[0]))
        frames = np.clip(np.arange(len(r)), 0, grid[-1])  # never beyond the last node
        turn = CubicSpline(grid, turn, axis=0)(frames)
        shift = CubicSpline(grid, new[1] - base[1], axis=0)(frames)
        out.append((rot.multiply(r, rot.exp(turn)), p + shift))
    return out


def _presmoothed(motion: Motion, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Float64 sign-continuous arrays; takes that will be decimated are band-limited first."""
    rotations = rot.continuous(rot.normalize(motion.rotations.astype(np.float64)))
    root = motion.root.astype(np.float64)
    if stride > 1:
        sigma = FAST_SMOOTHING * motion.fps
        rotations = rot.normalize(gaussian_filter1d(rotations, sigma, axis=0, mode="nearest"))
        root = gaussian_filter1d(root, sigma, axis=0, mode="nearest")
    return rotations, root


def _grid(frames: int, stride: int) -> np.ndarray:
    """Every ``stride``-th frame, as many as fit, from the first."""
    return np.arange(0, frames, stride)


def _solve(
    network: RefinementNetwork,
    motions: Sequence[Motion],
    strides: Sequence[int],
    taken: Sequence[tuple[np.ndarray, np.ndarray]],
    progress: Progress | None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Overlapping windows through the network; the corrections of overlapping windows are cross-faded."""
    device = next(network.parameters()).device
    places: dict[int, list[tuple[int, int]]] = {}
    for i, (rotations, _) in enumerate(taken):
        length = min(WINDOW, len(rotations))
        count = max(1, math.ceil((len(rotations) - length) / (WINDOW // 2)) + 1)
        for k in range(count):
            begin = round(k * (len(rotations) - length) / max(count - 1, 1))
            places.setdefault(length, []).append((i, begin))
    batches = [(length, group[k : k + BATCH]) for length, group in places.items() for k in range(0, len(group), BATCH)]
    totals = [np.zeros((len(r), 22, 6)) for r, _ in taken]
    weights = [np.zeros((len(r), 1, 1)) for r, _ in taken]
    for done, (length, group) in enumerate(batches):
        windows = _windows(length, group, motions, strides, taken, device)
        with torch.inference_mode():
            condition = network.condition(windows)
            state = network.predict(condition)
            clean = residual.add(condition.base_rotations, condition.base_hips, state)
            new_rotations, new_root = condition.frame.leave(*clean)
            turn = rot.log(rot.multiply(rot.conjugate(windows.rotations), new_rotations))
            shift = new_root - windows.root
        correction = np.zeros((len(group), length, 22, 6))
        correction[..., :3] = turn.cpu().double().numpy()
        correction[:, :, 0, 3:] = shift.cpu().double().numpy()
        weight = taper(length)
        for (i, begin), values in zip(group, correction, strict=True):
            totals[i][begin : begin + length] += weight * values
            weights[i][begin : begin + length] += weight
        if progress is not None:
            progress(done + 1, len(batches))
    out = []
    for (rotations, root), total, weight in zip(taken, totals, weights, strict=True):
        mean = total / weight
        out.append((rot.multiply(rotations, rot.exp(mean[..., :3])), root + mean[:, 0, 3:]))
    return out


def _windows(
    length: int,
    group: Sequence[tuple[int, int]],
    motions: Sequence[Motion],
    strides: Sequence[int],
    taken: Sequence[tuple[np.ndarray, np.ndarray]],
    device: torch.device,
) -> Windows:
    rotations = np.stack([taken[i][0][b : b + length] for i, b in group])
    root = np.stack([taken[i][1][b : b + length] for i, b in group])
    root = root - root.mean(axis=1, keepdims=True)
    count = len(group)
    skeletons = [motions[i].skeleton for i, _ in group]
    bodies = Bodies(
        torch.from_numpy(np.stack([s.offsets for s in skeletons])).to(device),
        torch.from_numpy(np.stack([s.exists for s in skeletons])).to(device),
    )
    zero = torch.zeros((count, length, 23), device=device)
    return Windows(
        torch.from_numpy(rotations).float().to(device),
        torch.from_numpy(root).float().to(device),
        torch.ones((count, length, 23), dtype=torch.bool, device=device),
        zero,
        zero,
        torch.ones((count, length, 22), device=device),
        bodies,
        torch.tensor([strides[i] / motions[i].fps for i, _ in group], dtype=torch.float32, device=device),
    )


def _blend(
    motion: Motion,
    first: int,
    part: Motion,
    clean: tuple[np.ndarray, np.ndarray],
    weight: np.ndarray,
    lock_feet: bool,
) -> Motion:
    """Apply the weighted correction to the motion; entries of weight zero keep their bits."""
    last = first + len(part)
    w = weight[first:last]
    source = part.rotations.astype(np.float64)
    turn = rot.log(rot.multiply(rot.conjugate(rot.normalize(source)), clean[0]))
    rotations = motion.rotations.astype(np.float64)
    root = motion.root.astype(np.float64)
    rotations[first:last] = rot.multiply(rot.normalize(source), rot.exp(turn * w[:, :22, None]))
    root[first:last] += (clean[1] - root[first:last]) * w[:, 22:]
    refined = _over(motion, weight > 0, rotations, root)
    hold = _leg_weights(weight)
    if lock_feet and hold.any():
        locked = contacts.lock_feet(refined, hold.any(axis=1))
        free = refined.rotations.astype(np.float64)
        held = rot.log(rot.multiply(rot.conjugate(free), locked.rotations.astype(np.float64)))
        rotations = rot.multiply(free, rot.exp(held * hold[:, :22, None]))
        refined = _over(motion, weight > 0, rotations, refined.root.astype(np.float64))
    return refined


def _leg_weights(weight: np.ndarray) -> np.ndarray:
    """(T, 23) weights of the foot lock: a leg is bent as a whole, by the least weight of its joints."""
    hold = np.zeros_like(weight)
    for leg in LEGS:
        hold[:, leg] = weight[:, leg].min(axis=1, keepdims=True)
    return hold


def _over(motion: Motion, changed: np.ndarray, rotations: np.ndarray, root: np.ndarray) -> Motion:
    """Changed entries over the source's bits; the hemisphere of the source is kept."""
    sign = np.where((rotations * motion.rotations).sum(axis=-1, keepdims=True) < 0, -1.0, 1.0)
    return motion.with_frames(
        np.where(changed[:, :22, None], (rotations * sign).astype(np.float32), motion.rotations),
        np.where(changed[:, 22:], root.astype(np.float32), motion.root),
    )
