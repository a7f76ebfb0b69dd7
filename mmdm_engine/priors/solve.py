"""From whole motions to windows and back: coarse to fine over long gaps, overlapping windows, many motions at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.interpolate import CubicSpline, PchipInterpolator

from .. import rotations as rot
from ..baselines import interpolate
from ..contract import Motion, MotionError
from ..contract.chains import runs
from ..masking import nearest_trusted
from .network import InbetweenNetwork, Progress, Windows
from .passage import AROUND
from .recall import Memory
from .unmoved import left_alone
from .window import Bodies

CONTEXT = 0.4
"""Seconds of trusted motion that a window takes along on each side."""
LONGEST_FRAMES = 60
"""Frames of the longest gap in training (at 30 fps; fewer above); a gap of more is solved on fewer frames."""
COARSE_RATE = 5.0
"""Frames per second of the first pass over long gaps."""
TOP_RATE = 60.0
"""Highest rate the network was trained at."""
BATCH = 64


@dataclass(frozen=True)
class Job:
    """A motion and what to generate in it: hidden (T, 23) bool, columns 0-21 joints, 22 root position.

    memory: the take that it is a part of, to be searched for the like of what is hidden.
    """

    motion: Motion
    hidden: np.ndarray
    memory: Memory | None = None

    def remembering(self, device: torch.device) -> Job:
        """The same with a memory of what its own motion shows, unless it has one."""
        return self if self.memory else replace(self, memory=Memory.of(self.motion, self.hidden, device))

    def base(self) -> tuple[np.ndarray, np.ndarray]:
        """The interpolation of what is not hidden: (rotations, root) float64."""
        rotations = rot.normalize(self.motion.rotations.astype(np.float64))
        return interpolate(rotations, self.motion.root.astype(np.float64), ~self.hidden)


@dataclass(frozen=True)
class Part:
    """Rows (T,) bool of one job that are solved together; its own job may already know coarse frames of them."""

    of: int
    job: Job
    rows: np.ndarray


@dataclass(frozen=True)
class Base:
    """What residuals are added to, and the interpolation that it grew from: rotations (T, 22, 4) and root (T, 3)."""

    rotations: np.ndarray
    root: np.ndarray
    plain: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Span:
    """One window of one part: frames [start, stop)."""

    part: int
    start: int
    stop: int


@dataclass(frozen=True)
class Sampling:
    """How the network is read out. steps, seed: of DDIM. label (1, label): what is done, None = unsaid."""

    steps: int = 1
    seed: int = 0
    label: torch.Tensor | None = None
    guidance: float = 1.0

    def labels(self, count: int) -> torch.Tensor | None:
        """The label for each of ``count`` windows."""
        return None if self.label is None else self.label.expand(count, -1)


def encoded(network: InbetweenNetwork, label: str) -> torch.Tensor | None:
    """A label as the network's vector (1, label); None for the empty one. Raises `MotionError` for an unknown one."""
    if not label.strip():
        return None
    if network.text is None:
        raise MotionError("This prior was trained without labels; leave the label empty.")
    with torch.inference_mode():
        return network.text.encode([label])


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
    label: str = "",
    guidance: float = 1.0,
    progress: Progress | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Generate what is hidden. Returns (rotations (T, 22, 4), root (T, 3)) float64 per job; observed entries as given.

    The base of every window is the interpolation over the whole motion, so residuals of overlapping windows can be
    averaged before they are applied. label, guidance: what is done, and how much more than trained it is to count.
    """
    device = next(network.parameters()).device
    jobs = [job.remembering(device) for job in jobs]
    solved = _solve_jobs(network, jobs, Sampling(steps, seed, encoded(network, label), guidance), progress)
    return [left_alone(job.motion, job.hidden, *answer) for job, answer in zip(jobs, solved, strict=True)]


def _solve_jobs(
    network: InbetweenNetwork, jobs: Sequence[Job], sampling: Sampling, progress: Progress | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Long runs coarse to fine, then everything at each take's own rate."""
    coarse = [
        (i, run)
        for i, job in enumerate(jobs)
        for run in runs(job.hidden.any(axis=1))
        if _stride(job, run, network.longest)
    ]
    parts, rest = [], [job.hidden.any(axis=1) for job in jobs]
    for stage, (i, run) in enumerate(coarse):
        known = _coarse_first(network, jobs[i], run, sampling, _share(progress, stage, len(coarse) + 1))
        if known is not None:
            rows = np.zeros(len(rest[i]), bool)
            rows[slice(*run)] = True
            rest[i] = rest[i] & ~rows
            parts.append(Part(i, known, rows))
    parts += [Part(i, job, rows) for i, (job, rows) in enumerate(zip(jobs, rest, strict=True))]

    out = [job.base() for job in jobs]
    for part, (rotations, root) in zip(
        parts, _solve_parts(network, parts, sampling, _share(progress, len(coarse), len(coarse) + 1)), strict=True
    ):
        out[part.of][0][part.rows] = rotations[part.rows]
        out[part.of][1][part.rows] = root[part.rows]
    return out


def _share(progress: Progress | None, stage: int, stages: int) -> Progress | None:
    """Progress of one stage of several as progress of the whole."""
    if progress is None:
        return None
    return lambda done, of: progress(stage * of + done, stages * of)


def _solve_parts(
    network: InbetweenNetwork, parts: Sequence[Part], sampling: Sampling, progress: Progress | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """One pass of the network over all windows of all parts, at each take's own rate."""
    bases, residuals, weights = [], [], []
    all_spans: list[Span] = []
    times = []
    for i, part in enumerate(parts):
        job, fps = part.job, part.job.motion.fps
        before, after = nearest_trusted(torch.from_numpy(~job.hidden))
        times.append((before / fps, after / fps))
        bases.append(_guessed(network, part, times[-1]))
        residuals.append(np.zeros((len(job.motion), 22, 6)))
        weights.append(np.zeros((len(job.motion), 1, 1)))
        all_spans += [Span(i, a, b) for a, b in spans(job.hidden.any(axis=1) & part.rows, fps)]

    groups = batches(all_spans)
    device = next(network.parameters()).device
    steps = sampling.steps
    generator = torch.Generator().manual_seed(sampling.seed)
    total = max(len(groups), 1) * steps
    for done, batch in enumerate(groups):
        windows = replace(_windows(batch, parts, bases, times, device), label=sampling.labels(len(batch)))

        def tick(step: int, _: int, done: int = done) -> None:
            if progress is not None:
                progress(done * steps + step, total)

        with torch.inference_mode():
            condition = network.condition(windows)
            state = network.sample(condition, steps, generator, tick, sampling.guidance)
            back = rot.conjugate(condition.frame.turn)[:, None]
            shift = rot.rotate(back, state[:, :, 0, 3:]) * windows.bodies.leg[:, None, None]
        correction = state.cpu().double().numpy()
        correction[:, :, 0, 3:] = shift.cpu().double().numpy()
        for span, values in zip(batch, correction, strict=True):
            weight = taper(span.stop - span.start)
            residuals[span.part][span.start : span.stop] += weight * values
            weights[span.part][span.start : span.stop] += weight
    if progress is not None and not groups:
        progress(total, total)
    return [
        _apply(part.job, base, residual / np.maximum(weight, 1e-12))
        for part, base, residual, weight in zip(parts, bases, residuals, weights, strict=True)
    ]


def _guessed(network: InbetweenNetwork, part: Part, times: tuple[torch.Tensor, torch.Tensor]) -> Base:
    """The base of a part: what the network guesses over all of its gaps, from what lies around them."""
    plain = part.job.base()
    rotations, root = plain[0].copy(), plain[1].copy()
    rows = np.flatnonzero(part.job.hidden.any(axis=1) & part.rows)
    if len(rows) and network.passage is not None:
        around = math.ceil((AROUND[-1] + 0.05) * part.job.motion.fps) + 1
        near = Span(0, max(0, int(rows[0]) - around), min(len(root), int(rows[-1]) + 1 + around))
        inside = slice(near.start, near.stop)
        device = next(network.parameters()).device
        windows = _windows([near], [part], [Base(*plain, plain)], [times], device)
        guess = network.guess(replace(windows, memories=[part.job.memory]))
        hidden = part.job.hidden[inside]
        turned = guess.rotations[0].cpu().double().numpy()
        moved = guess.root[0].cpu().double().numpy() + root[inside].mean(axis=0)
        root[inside] = np.where(hidden[:, 22:], moved, root[inside])
        rotations[inside] = np.where(hidden[:, :22, None], turned, rotations[inside])
    return Base(rotations, root, plain)


def _stride(job: Job, run: tuple[int, int], longest: float) -> float:
    """How much coarser a run has to be solved first; 0 where the network takes it at the take's own rate."""
    fps = job.motion.fps
    length = longest_run(job.hidden[slice(*run)])
    if length > longest * fps and fps > 1.5 * COARSE_RATE:
        return fps / COARSE_RATE
    stride = max(fps / TOP_RATE, length / LONGEST_FRAMES)
    return stride if stride > 1.3 else 0.0  # resampling to the borders moves the rate by a little as it is


def _coarse_first(
    network: InbetweenNetwork, job: Job, run: tuple[int, int], sampling: Sampling, progress: Progress | None
) -> Job | None:
    """The job with what a coarser grid can tell about one run made known; None where the take is too short for it.

    In a run of too many seconds one frame in every fifth of a second becomes known and the rest is left to be filled
    between them. Else (too high a rate, too many frames) the residual over interpolation is upsampled and every frame
    becomes known. Columns whose own keys lie close enough inside the run are left to the take's own rate.
    """
    first, last = run
    fps, inside = job.motion.fps, slice(first, last)
    stride = _stride(job, run, network.longest)
    margin = round(3 * stride + CONTEXT * fps)
    small, grid = _resampled(
        job, slice(max(0, first - margin), min(len(job.motion), last + margin)), first, last, stride
    )
    if small is None:
        return None
    solved = _solve_jobs(network, [small], sampling, progress)[0]
    turn, shift = _upsampled(small, solved, grid, first, last)
    base = job.base()
    turned = rot.multiply(base[0][inside], rot.exp(turn))
    moved = base[1][inside] + shift
    done = np.ones(last - first, bool)
    if longest_run(job.hidden[inside]) > network.longest * fps:
        nodes = np.round(grid[(grid >= first) & (grid < last)]).astype(int) - first
        done = np.isin(np.arange(last - first), nodes)
    wanted = np.array([longest_run(column[:, None]) for column in job.hidden[inside].T]) * 1.3 > (last - first) / stride
    mask = job.hidden[inside] & done[:, None] & wanted
    rotations, root, hidden = base[0], base[1], job.hidden.copy()
    rotations[inside] = np.where(mask[:, :22, None], turned, rotations[inside])
    root[inside] = np.where(mask[:, 22:], moved, root[inside])
    hidden[inside] &= ~mask
    return replace(job, motion=job.motion.with_frames(rotations, root), hidden=hidden)


def _resampled(job: Job, part: slice, first: int, last: int, stride: float) -> tuple[Job | None, np.ndarray]:
    """The job around one run on a coarser even grid that hits the run's trusted borders, and the grid's frames."""
    start = first - 1 if first > 0 else last
    span = last - first + 1
    step = span / max(round(span / stride), 1) if first > 0 and last < len(job.motion) else stride
    if step < 1.05:  # so short a run gets no coarser between its borders
        return None, np.zeros(0)
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
    rotations, root = job.base()
    taken = rot.slerp(rotations[low], rotations[low + 1], np.broadcast_to(t[:, None], (len(t), 22)))
    moved = root[low] + t[:, None] * (root[low + 1] - root[low])
    motion = Motion(rot.continuous(taken), moved, job.motion.skeleton, job.motion.fps / step)
    return Job(motion, ~seen, job.memory), grid


def _upsampled(
    small: Job, solved: tuple[np.ndarray, np.ndarray], grid: np.ndarray, first: int, last: int
) -> tuple[np.ndarray, np.ndarray]:
    """The coarse solution's residual over its interpolation at frames [first, last): rotation vectors, root shift.

    A cubic through the run and its borders alone, so that its slope at a border is the residual's own and not that of
    the zeros outside.
    """
    base = small.base()
    residual = np.concatenate(
        [rot.log(rot.multiply(rot.conjugate(base[0]), solved[0])).reshape(len(grid), -1), solved[1] - base[1]], axis=1
    )
    own = (grid > first - 1.5) & (grid < last + 0.5)
    at = np.clip(np.arange(first, last), grid[own][0], grid[own][-1])
    curve = CubicSpline if own.sum() > 3 else PchipInterpolator
    values = curve(grid[own], residual[own], axis=0)(at) if own.sum() > 1 else np.repeat(residual[own], len(at), 0)
    return values[:, :66].reshape(-1, 22, 3), values[:, 66:]


def batches(all_spans: list[Span]) -> list[list[Span]]:
    """Windows of equal length together."""
    by_length: dict[int, list[Span]] = {}
    for span in all_spans:
        by_length.setdefault(span.stop - span.start, []).append(span)
    return [group[i : i + BATCH] for group in by_length.values() for i in range(0, len(group), BATCH)]


def taper(frames: int) -> np.ndarray:
    """(T, 1, 1) weight of a window's frames where windows overlap: falls towards the edges, never to zero."""
    rise = np.minimum(np.arange(1, frames + 1), np.arange(frames, 0, -1))
    return rise[:, None, None] / rise.max()


def _windows(
    batch: list[Span],
    parts: Sequence[Part],
    bases: list[Base],
    times: list[tuple[torch.Tensor, torch.Tensor]],
    device: torch.device,
) -> Windows:
    def stack(arrays: Iterable[np.ndarray | torch.Tensor]) -> torch.Tensor:
        return torch.stack([torch.as_tensor(a) for a in arrays])

    def number(arrays: Iterable[np.ndarray | torch.Tensor]) -> torch.Tensor:
        return stack(arrays).float().to(device)

    cut = [(s.part, slice(s.start, s.stop)) for s in batch]
    motions = [parts[s.part].job.motion for s in batch]
    origins = [bases[i].root[c].mean(axis=0) for i, c in cut]  # near them float32 is fine
    observed = stack(~parts[i].job.hidden[c] for i, c in cut).to(device)
    return Windows(
        number(bases[i].rotations[c] for i, c in cut),
        number(bases[i].root[c] - origin for (i, c), origin in zip(cut, origins, strict=True)),
        observed,
        number(times[i][0][c] for i, c in cut),
        number(times[i][1][c] for i, c in cut),
        torch.ones((*observed.shape[:2], 22), device=device),
        Bodies(number(m.skeleton.offsets for m in motions), stack(m.skeleton.exists for m in motions).to(device)),
        torch.tensor([1 / m.fps for m in motions], dtype=torch.float32, device=device),
        plain=(
            number(bases[i].plain[0][c] for i, c in cut),
            number(bases[i].plain[1][c] - origin for (i, c), origin in zip(cut, origins, strict=True)),
        ),
    )


def _apply(job: Job, base: Base, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Base and residual (rotation vectors, and the hips' shift in world metres) to rotations and pelvis positions."""
    rotations, root = base.rotations, base.root
    centre = job.motion.skeleton.hip_centre.astype(np.float64)
    turned = rot.normalize(rot.multiply(rotations, rot.exp(residual[..., :3])))
    turned = np.where(job.hidden[:, :22, None], turned, rotations)
    hips = root + rot.rotate(rotations[:, 0], centre[None]) + residual[:, 0, 3:]
    moved = hips - rot.rotate(turned[:, 0], centre[None])
    return turned, np.where(job.hidden[:, 22:], moved, root)
