"""From whole motions to windows and back: coarse to fine over long gaps, overlapping windows, many motions at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator

from .. import rotations as rot
from ..baselines import interpolate
from ..contract import Motion
from ..masking import nearest_trusted
from .network import InbetweenNetwork, Progress, Windows
from .window import Bodies

CONTEXT = 0.4
"""Seconds of trusted motion that a window takes along on each side."""
LONGEST = 2.0
"""Seconds of gap that are filled in one go."""
COARSE_RATE = 5.0
"""Frames per second of the first pass over longer gaps."""
TOP_RATE = 60.0
"""Priors are trained up to this rate; faster takes are filled on every n-th frame and the residual is upsampled."""
BATCH = 64


@dataclass(frozen=True)
class Job:
    """A motion and what to generate in it: hidden (T, 23) bool, columns 0-21 joints, 22 root position."""

    motion: Motion
    hidden: np.ndarray


@dataclass(frozen=True)
class Span:
    """One window of one job: frames [start, stop)."""

    job: int
    start: int
    stop: int


def longest_run(hidden: np.ndarray) -> int:
    """Length in frames of the longest run of hidden values in any column."""
    padded = np.zeros((len(hidden) + 2, hidden.shape[1]), np.int8)
    padded[1:-1] = hidden
    change = np.diff(padded, axis=0)
    starts, stops = np.argwhere(change.T == 1), np.argwhere(change.T == -1)
    return int((stops[:, 1] - starts[:, 1]).max(initial=0))


def spans(hidden_rows: np.ndarray, fps: float) -> list[tuple[int, int]]:
    """Windows that cover every hidden frame with context; long stretches are cut into overlapping ones.

    hidden_rows: (T,) bool. Windows of one stretch that does not fit overlap by half.
    """
    frames = len(hidden_rows)
    context = max(3, round(CONTEXT * fps))
    index = np.flatnonzero(hidden_rows)
    if not len(index):
        return []
    cuts = np.flatnonzero(np.diff(index) > 2 * context)
    stretches = zip(index[np.r_[0, cuts + 1]], index[np.r_[cuts, len(index) - 1]] + 1, strict=True)
    limit = max(round((LONGEST if fps > 1.5 * COARSE_RATE else 2 * COARSE_RATE) * fps), 2)
    out = []
    for first, last in stretches:
        count = 1 if last - first <= limit else math.ceil((last - first - limit) / (limit / 2)) + 1
        for i in range(count):
            start = first if count == 1 else first + round(i * (last - first - limit) / (count - 1))
            stop = min(last, start + limit)
            out.append((max(0, int(start) - context), min(frames, int(stop) + context)))
    return out


def solve(
    network: InbetweenNetwork,
    jobs: Sequence[Job],
    *,
    steps: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Generate what is hidden. Returns (rotations (T, 22, 4), root (T, 3)) float64 per job; observed entries as given.

    The base of every window is the interpolation over the whole motion, so residuals of overlapping windows can be
    averaged before they are applied.
    """
    jobs = [_through_decimation(network, job, steps, seed, progress) for job in jobs]
    bases, residuals, weights = [], [], []
    all_spans: list[Span] = []
    times = []
    for i, job in enumerate(jobs):
        observed = ~job.hidden
        rotations, root = interpolate(
            job.motion.rotations.astype(np.float64), job.motion.root.astype(np.float64), observed
        )
        bases.append((rotations, root))
        before, after = nearest_trusted(torch.from_numpy(observed))
        times.append((before / job.motion.fps, after / job.motion.fps))
        frames = len(job.motion)
        residuals.append(np.zeros((frames, 22, 6)))
        weights.append(np.zeros((frames, 1, 1)))
        all_spans += [Span(i, a, b) for a, b in spans(job.hidden.any(axis=1), job.motion.fps)]

    batches = _batches(all_spans)
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    total = len(batches) * steps
    for done, batch in enumerate(batches):
        windows = _windows(batch, jobs, bases, times, device)

        def tick(step: int, _: int, done: int = done) -> None:
            if progress is not None:
                progress(done * steps + step, total)

        with torch.inference_mode():
            condition = network.condition(windows)
            state = network.sample(condition, steps, generator, tick)
            back = rot.conjugate(condition.frame.turn)[:, None]
            shift = rot.rotate(back, state[:, :, 0, 3:]) * windows.bodies.leg[:, None, None]
        state = state.double().cpu().numpy()
        state[:, :, 0, 3:] = shift.double().cpu().numpy()
        for span, values in zip(batch, state, strict=True):
            taper = _taper(span.stop - span.start)
            residuals[span.job][span.start : span.stop] += taper * values
            weights[span.job][span.start : span.stop] += taper
    return [
        _apply(job, base, residual / np.maximum(weight, 1e-12))
        for job, base, residual, weight in zip(jobs, bases, residuals, weights, strict=True)
    ]


def _through_decimation(network: InbetweenNetwork, job: Job, steps: int, seed: int, progress: Progress | None) -> Job:
    """Reduce a job that the network cannot take as it is: too fast a frame rate, or too long a gap.

    The job is solved on every n-th frame first. For a long gap these frames become known and the rest is left to be
    filled; above the top rate the residual is upsampled and nothing is left.
    """
    motion, hidden = job.motion, job.hidden
    fps = motion.fps
    long = longest_run(hidden) > LONGEST * fps and fps > 1.5 * COARSE_RATE
    fast = fps > TOP_RATE * 1.01
    if not (long or fast) or not hidden.any():
        return job
    stride = math.ceil(fps / TOP_RATE - 0.01) if fast else round(fps / COARSE_RATE)
    first = max(int(np.flatnonzero(hidden.any(axis=1))[0]) - 1, 0)
    grid = np.arange(first % stride, len(motion), stride)
    rotations, root = interpolate(motion.rotations.astype(np.float64), motion.root.astype(np.float64), ~hidden)
    small = Motion(rotations[grid], root[grid], motion.skeleton, fps / stride)
    if not (~hidden[grid]).any(axis=0).all():  # no trusted value of some column falls on the grid: too short a take
        return job
    solved_rotations, solved_root = solve(
        network, [Job(small, hidden[grid])], steps=steps, seed=seed, progress=progress
    )[0]
    if fast:
        turn = np.zeros((len(motion), 22, 3))
        shift = np.zeros((len(motion), 3))
        turn[grid] = rot.log(rot.multiply(rot.conjugate(rotations[grid]), solved_rotations))
        shift[grid] = solved_root - root[grid]
        nodes = np.union1d(grid, np.flatnonzero(~hidden.any(axis=1)))
        frames = np.arange(len(motion))
        turn = PchipInterpolator(nodes, turn[nodes], axis=0, extrapolate=False)(frames)
        shift = PchipInterpolator(nodes, shift[nodes], axis=0, extrapolate=False)(frames)
        inside = (frames >= nodes[0]) & (frames <= nodes[-1])
        turn[~inside], shift[~inside] = _hold(turn, inside), _hold(shift, inside)
        rotations = rot.multiply(rotations, rot.exp(turn))
        root = root + shift
        return Job(motion.with_frames(*_restored(motion, hidden, rotations, root)), np.zeros_like(hidden))
    rotations[grid], root[grid] = solved_rotations, solved_root
    left = hidden.copy()
    left[grid] = False
    return Job(motion.with_frames(*_restored(motion, hidden, rotations, root)), left)


def _hold(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """What lies outside the nodes takes the nearest inside value."""
    index = np.flatnonzero(inside)
    outside = np.flatnonzero(~inside)
    return values[np.clip(outside, index[0], index[-1])]


def _restored(
    motion: Motion, hidden: np.ndarray, rotations: np.ndarray, root: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Generated values where hidden, the motion's own elsewhere."""
    return (
        np.where(hidden[:, :22, None], rotations, motion.rotations),
        np.where(hidden[:, 22:], root, motion.root),
    )


def _batches(all_spans: list[Span]) -> list[list[Span]]:
    """Windows of equal length together."""
    by_length: dict[int, list[Span]] = {}
    for span in all_spans:
        by_length.setdefault(span.stop - span.start, []).append(span)
    return [group[i : i + BATCH] for group in by_length.values() for i in range(0, len(group), BATCH)]


def _taper(frames: int) -> np.ndarray:
    """(T, 1, 1) weight of a window's frames where windows overlap: falls towards the edges, never to zero."""
    rise = np.minimum(np.arange(1, frames + 1), np.arange(frames, 0, -1))
    return rise[:, None, None] / rise.max()


def _windows(
    batch: list[Span],
    jobs: Sequence[Job],
    bases: list[tuple[np.ndarray, np.ndarray]],
    times: list[tuple[torch.Tensor, torch.Tensor]],
    device: torch.device,
) -> Windows:
    def stack(parts: list) -> torch.Tensor:
        return torch.stack([torch.as_tensor(p) for p in parts]).to(device)

    cut = [slice(s.start, s.stop) for s in batch]
    motions = [jobs[s.job].motion for s in batch]
    observed = stack([~jobs[s.job].hidden[c] for s, c in zip(batch, cut, strict=True)])
    return Windows(
        stack([bases[s.job][0][c] for s, c in zip(batch, cut, strict=True)]).float(),
        stack([bases[s.job][1][c] - bases[s.job][1][c].mean(axis=0) for s, c in zip(batch, cut, strict=True)]).float(),
        observed,
        stack([times[s.job][0][c] for s, c in zip(batch, cut, strict=True)]).float(),
        stack([times[s.job][1][c] for s, c in zip(batch, cut, strict=True)]).float(),
        torch.ones_like(observed[..., :22], dtype=torch.float32),
        Bodies(stack([m.skeleton.offsets for m in motions]), stack([m.skeleton.exists for m in motions])),
        torch.tensor([1 / m.fps for m in motions], dtype=torch.float32, device=device),
    )


def _apply(job: Job, base: tuple[np.ndarray, np.ndarray], residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Base and residual (rotation vectors, and the hips' shift in world metres) to rotations and pelvis positions."""
    rotations, root = base
    centre = job.motion.skeleton.hip_centre.astype(np.float64)
    turned = rot.normalize(rot.multiply(rotations, rot.exp(residual[..., :3])))
    turned = np.where(job.hidden[:, :22, None], turned, rotations)
    hips = root + rot.rotate(rotations[:, 0], centre[None]) + residual[:, 0, 3:]
    moved = hips - rot.rotate(turned[:, 0], centre[None])
    return turned, np.where(job.hidden[:, 22:], moved, root)
