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
"""Seconds of gap that are filled in one go; longer ones get coarse frames first."""
LONGEST_FRAMES = 60
"""Frames of gap that the network was trained on; at high rates a gap is solved on fewer frames."""
COARSE_RATE = 5.0
"""Frames per second of the first pass over long gaps."""
TOP_RATE = 60.0
"""Highest rate the network was trained at."""
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
    limit = LONGEST_FRAMES
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
    jobs = [_stepwise(network, job, steps, seed) for job in jobs]
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
        correction = state.double().cpu().numpy()
        correction[:, :, 0, 3:] = shift.double().cpu().numpy()
        for span, values in zip(batch, correction, strict=True):
            taper = _taper(span.stop - span.start)
            residuals[span.job][span.start : span.stop] += taper * values
            weights[span.job][span.start : span.stop] += taper
    return [
        _apply(job, base, residual / np.maximum(weight, 1e-12))
        for job, base, residual, weight in zip(jobs, bases, residuals, weights, strict=True)
    ]


def _stepwise(network: InbetweenNetwork, job: Job, steps: int, seed: int) -> Job:
    """Solve what the network cannot take at the take's own rate, run by run, on a coarser grid first.

    A gap at too high a rate, or of too many frames, is solved on fewer frames and the residual over interpolation is
    upsampled. A gap of too many seconds gets one frame in every fifth of a second, which become known, and the rest is
    left to be filled between them.
    """
    fps, frames = job.motion.fps, len(job.motion)
    hidden = job.hidden.copy()
    rotations, root = job.motion.rotations, job.motion.root
    for first, last in _runs(job.hidden.any(axis=1)):
        length = longest_run(job.hidden[first:last])
        long = length > LONGEST * fps and fps > 1.5 * COARSE_RATE
        stride = fps / COARSE_RATE if long else max(fps / TOP_RATE, length / LONGEST_FRAMES)
        if stride < 1.3:  # resampling to borders already moves the rate by a little
            continue
        margin = round(3 * stride + CONTEXT * fps)
        part = slice(max(0, first - margin), min(frames, last + margin))
        small, grid = _resampled(job, part, first, last, stride)
        if small is None:
            continue
        solved = solve(network, [small], steps=steps, seed=seed)[0]
        filled = interpolate(rotations.astype(np.float64), root.astype(np.float64), ~hidden)
        up = _upsampled(small, solved, grid, np.arange(first, last))
        inside = slice(first, last)
        turned = rot.multiply(filled[0][inside], rot.exp(up[0]))
        moved = filled[1][inside] + up[1]
        done = np.ones(last - first, bool)
        if long:
            done[:] = False
            nodes = np.round(grid[(grid >= first) & (grid < last)]).astype(int) - first
            done[np.clip(nodes, 0, last - first - 1)] = True
        mask = job.hidden[inside] & done[:, None]
        rotations, root = rotations.copy(), root.copy()
        rotations[inside] = np.where(mask[:, :22, None], turned, rotations[inside])
        root[inside] = np.where(mask[:, 22:], moved, root[inside])
        hidden[inside] &= ~mask
    return Job(job.motion.with_frames(rotations, root), hidden)


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Half-open runs of true rows."""
    change = np.flatnonzero(np.diff(np.r_[False, rows, False].astype(np.int8)))
    return [(int(a), int(b)) for a, b in change.reshape(-1, 2)]


def _resampled(job: Job, part: slice, first: int, last: int, stride: float) -> tuple[Job | None, np.ndarray]:
    """The job around one run on a coarser even grid that hits the run's trusted borders, and the grid's frames."""
    start = first - 1 if first > 0 else last
    span = last - first + 1
    step = span / max(round(span / stride), 1) if first > 0 and last < len(job.motion) else stride
    count = [int((start - part.start) / step + 1e-6), int((part.stop - 1 - start) / step + 1e-6)]
    grid = np.clip(start + step * np.arange(-count[0], count[1] + 1), 0, len(job.motion) - 1)
    low = np.minimum(np.floor(grid + 1e-6).astype(int), len(job.motion) - 2)
    t = np.clip(grid - low, 0, 1)
    t[t < 1e-5] = 0
    observed = ~job.hidden
    seen = np.where((t == 0)[:, None], observed[low], observed[low] & observed[low + 1])
    seen[t > 1 - 1e-5] = observed[low + 1][t > 1 - 1e-5]
    if not seen.any(axis=0).all():
        return None, grid
    rotations, root = interpolate(job.motion.rotations.astype(np.float64), job.motion.root.astype(np.float64), observed)
    taken = rot.slerp(rotations[low], rotations[low + 1], np.broadcast_to(t[:, None], (len(t), 22)))
    moved = root[low] + t[:, None] * (root[low + 1] - root[low])
    motion = Motion(rot.continuous(taken), moved, job.motion.skeleton, job.motion.fps / step)
    return Job(motion, ~seen), grid


def _upsampled(
    small: Job, solved: tuple[np.ndarray, np.ndarray], grid: np.ndarray, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The coarse solution's residual over its interpolation, at other frames: rotation vectors and root shift."""
    base = interpolate(small.motion.rotations.astype(np.float64), small.motion.root.astype(np.float64), ~small.hidden)
    turn = rot.log(rot.multiply(rot.conjugate(base[0]), solved[0]))
    shift = solved[1] - base[1]
    at = np.clip(frames, grid[0], grid[-1])
    return PchipInterpolator(grid, turn, axis=0)(at), PchipInterpolator(grid, shift, axis=0)(at)


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
