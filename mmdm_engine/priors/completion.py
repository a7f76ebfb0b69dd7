"""Complete: any joints over any frames made up from the rest of the body, all else bit-identical.

A window of this prior knows only itself, as in training: what is lost in it is interpolated between what the window
shows, and a joint that it never shows starts from the rest pose. So windows that overlap have bases of their own, and
it is their rotations that are averaged. Only the body's place and heading are carried over from the whole take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from .. import contacts
from .. import rotations as rot
from ..baselines import interpolate
from ..contract import Motion, MotionError
from ..contract.chains import runs
from ..contract.skeleton import LEGS
from ..masking import nearest_trusted
from . import store
from .inbetween import over
from .network import InbetweenNetwork, Progress, Windows
from .recall import Memory
from .solve import CONTEXT, LONGEST_FRAMES, TOP_RATE, Job, Sampling, Span, batches, encoded, longest_run, taper
from .unmoved import bendable, left_alone
from .window import Bodies

PRIOR = "completion"
FRAMES = 84
"""Window length in frames; the length of training."""
LEAST_CONTEXT = 8
"""Frames beside a loss that a window has at least, where it shows both ends of it."""
LOWEST_RATE = 20.0
"""Lowest rate the network was trained at: how coarse a long loss in a fast take may become."""
PLACE = (0, 22)
"""The columns of the body's place: the pelvis's rotation and the root position."""


def complete(
    motion: Motion,
    mask: np.ndarray,
    *,
    root_mask: np.ndarray | None = None,
    lock_feet: bool = True,
    steps: int | None = None,
    seed: int = 0,
    label: str = "",
    prior: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Motion:
    """Generate the rotations where ``mask`` (T, 22) bool is true, and the root position where ``root_mask`` (T,) is.

    What is generated is ignored on input and may be NaN; everything else comes back with identical bits. Joints that
    the character lacks stay as they are.

    root_mask: None = where the pelvis is masked.
    lock_feet: hold planted feet still by two-bone IK, where a whole leg is generated.
    steps: DDIM steps, drawn with ``seed``; None or 1 = the deterministic result.
    label: what is done, in words that the prior was trained with; "" = unsaid.
    prior: weights by name or path. progress: called with (done, of).

    Raises `MotionError` for masks that do not fit or that hide the pelvis throughout, NaN in what is kept, or unusable
    weights.
    """
    return complete_many(
        [motion], [mask], root_masks=[root_mask], lock_feet=lock_feet, steps=steps, seed=seed, label=label,
        prior=prior, device=device, progress=progress,
    )[0]  # fmt: skip


def complete_many(
    motions: Sequence[Motion],
    masks: Sequence[np.ndarray],
    *,
    root_masks: Sequence[np.ndarray | None] | None = None,
    memories: Sequence[Memory | None] = (),
    lock_feet: bool = True,
    steps: int | None = None,
    seed: int = 0,
    label: str = "",
    prior: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Motion]:
    """Several motions of any lengths in shared batches; see `complete`.

    memories: of the takes that the motions are parts of, without what is to be made up.
    """
    root_masks = root_masks if root_masks is not None else [None] * len(motions)
    known = memories or [None] * len(motions)
    jobs = [
        replace(_job(motion, mask, root_mask), memory=memory)
        for motion, mask, root_mask, memory in zip(motions, masks, root_masks, known, strict=True)
    ]
    network = store.load(prior or PRIOR, "completion", device)
    assert isinstance(network, InbetweenNetwork)
    steps = 1 if steps is None else steps
    if not 1 <= steps <= network.schedule.steps:
        raise MotionError(f"Between 1 and {network.schedule.steps} sampling steps are possible, not {steps}.")
    sampling = Sampling(steps, seed, encoded(network, label))
    out = []
    for job, solved in zip(jobs, _solve(network, jobs, sampling, progress), strict=True):
        whole = over(job.motion, job.hidden, *left_alone(job.motion, job.hidden, *solved))
        out.append(_locked(whole, job) if lock_feet else whole)
    return out


def _job(motion: Motion, mask: np.ndarray, root_mask: np.ndarray | None) -> Job:
    """The motion and its (T, 23) mask of what to generate, after checking that there is something to go by."""
    frames, mask = len(motion), np.asarray(mask)
    if frames < 2:
        raise MotionError("Completion needs at least two frames; choose a longer take.")
    if mask.dtype != bool or mask.shape != (frames, 22):
        raise MotionError(f"The mask must be bool of shape ({frames}, 22), not {mask.dtype} {mask.shape}.")
    root_mask = mask[:, 0] if root_mask is None else np.asarray(root_mask)
    if root_mask.dtype != bool or root_mask.shape != (frames,):
        raise MotionError(f"The root mask must be bool of shape ({frames},), not {root_mask.dtype} {root_mask.shape}.")
    lacking = ~motion.skeleton.exists
    unset = mask & lacking & ~np.isfinite(motion.rotations).all(axis=-1)
    if unset.any():  # a joint that is not there carries the identity
        motion = motion.with_frames(
            np.where(unset[..., None], np.array(rot.IDENTITY, np.float32), motion.rotations), motion.root
        )
    hidden = np.concatenate([mask & ~lacking, root_mask[:, None]], axis=1)
    motion.require_finite(~hidden)
    if hidden[:, PLACE].all(axis=0).any():
        raise MotionError("The pelvis is hidden in every frame; leave its rotation and place in at least one of them.")
    return Job(motion, hidden)


def _locked(whole: Motion, job: Job) -> Motion:
    """Standing feet held, leg by leg, in frames in which the whole leg was generated."""
    for side, leg in enumerate(LEGS):
        changed = job.hidden[:, leg].all(axis=1)
        if changed.any():
            standing = contacts.detect(whole, contacts.SLIDING_SPEED) & bendable(job.motion, job.hidden)
            standing[:, [2 - 2 * side, 3 - 2 * side]] = False
            held = contacts.lock_feet(whole, changed, standing)
            whole = over(whole, job.hidden, held.rotations.astype(np.float64), held.root.astype(np.float64))
    return whole


# --- pieces and windows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A stretch of losses that is solved on an even grid of the take's frames.

    of: the job. grid: (G,) frames of the take. hidden: (G, 23) on the grid. start, stop: the frames to be filled.
    """

    of: int
    grid: np.ndarray
    hidden: np.ndarray
    start: int
    stop: int

    @property
    def stride(self) -> int:
        """The take's frames from one of the grid to the next."""
        return int(self.grid[1] - self.grid[0]) if len(self.grid) > 1 else 1


def stride(hidden: np.ndarray, fps: float) -> int:
    """How many of the take's frames make one of the grid's.

    As few as bring the longest loss into one window at a rate that the network knows; a loss of the body's place has to
    fit at any rate, since a window that does not know where the body is going can only guess.
    """
    least = max(1, math.ceil(fps / TOP_RATE - 0.01))
    most = max(least, math.floor(fps / LOWEST_RATE + 0.01))
    wanted = math.ceil(longest_run(hidden) / LONGEST_FRAMES)
    return max(min(max(wanted, least), most), math.ceil(longest_run(hidden[:, PLACE]) / LONGEST_FRAMES))


def pieces(job: Job, of: int = 0) -> list[Piece]:
    """The stretches of losses with what lies around them; losses near one another go together."""
    rows = np.flatnonzero(job.hidden.any(axis=1))
    if not len(rows):
        return []
    frames, fps = len(job.motion), job.motion.fps
    cuts = np.flatnonzero(np.diff(rows) > 2 * max(3, round(CONTEXT * fps)))
    out = []
    for first, last in zip(rows[np.r_[0, cuts + 1]], rows[np.r_[cuts, len(rows) - 1]] + 1, strict=True):
        step = min(stride(job.hidden[first:last], fps), max(1, (frames - 1) // 3))
        begin = max(first - 1, 0)  # the last good frame is on the grid
        grid = begin + step * np.arange(-min(FRAMES, begin // step), (frames - 1 - begin) // step + 1)
        grid = grid[grid < last + FRAMES * step]
        out.append(Piece(of, grid, job.hidden[grid], int(first), int(last)))
    return out


def spans(hidden: np.ndarray, fps: float) -> list[tuple[int, int]]:
    """Windows [start, stop) that show every loss of hidden (G, 23), with both its ends where it is short enough.

    The longest losses come first; one that a window shows already, with context, needs no other.
    """
    frames = len(hidden)
    size = min(FRAMES, frames)
    losses = {run for column in hidden.T for run in runs(column)}
    out: list[tuple[int, int]] = []
    for start, stop in sorted(losses, key=lambda run: (run[0] - run[1], run)):
        context = max(LEAST_CONTEXT, min(round(CONTEXT * fps), (size - stop + start) // 2))
        near, far = max(0, start - context), min(frames, stop + context)
        if any(a <= near and far <= b for a, b in out):
            continue
        if far - near <= size:
            begin = min(max((near + far - size) // 2, 0), frames - size)
            out.append((begin, begin + size))
        else:
            count = math.ceil((far - near - size) / (size / 2)) + 1
            starts = [near + round(i * (far - near - size) / (count - 1)) for i in range(count)]
            out += [(a, a + size) for a in starts]
    return out


@dataclass
class _Blend:
    """Weighted sums of what the windows of a piece say. turns (G, 22, 4), shift (G, 3) of the hips in world metres."""

    turns: np.ndarray
    turn_weight: np.ndarray
    shift: np.ndarray
    shift_weight: np.ndarray

    @classmethod
    def empty(cls, frames: int) -> _Blend:
        return cls(
            np.zeros((frames, 22, 4)), np.zeros((frames, 22, 1)), np.zeros((frames, 3)), np.zeros((frames, 1))
        )  # fmt: skip

    def add(self, start: int, turns: np.ndarray, shift: np.ndarray, doubt: np.ndarray) -> None:
        """One window from frame ``start``; doubt (T, 23): how far it may be off, in any units.

        A window that shows the end of a loss knows more about the frames near it than one that does not, so weights go
        by one over the squared doubt; they fade towards the window's ends.
        """
        inside = slice(start, start + len(turns))
        weight = taper(len(turns))[:, 0] / (doubt**2 + 1e-10)
        sign = np.where((self.turns[inside] * turns).sum(axis=-1, keepdims=True) < 0, -1.0, 1.0)
        self.turns[inside] += weight[:, :22, None] * sign * turns
        self.turn_weight[inside] += weight[:, :22, None]
        self.shift[inside] += weight[:, 22:] * shift
        self.shift_weight[inside] += weight[:, 22:]


def _solve(
    network: InbetweenNetwork, jobs: Sequence[Job], sampling: Sampling, progress: Progress | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What is hidden, made up: (rotations (T, 22, 4), root (T, 3)) float64 per job; observed entries as given."""
    device = next(network.parameters()).device
    jobs = [job.remembering(device) for job in jobs]
    bases = [job.base() for job in jobs]
    everything = [piece for i, job in enumerate(jobs) for piece in pieces(job, i)]
    blends = [_Blend.empty(len(piece.grid)) for piece in everything]
    all_spans = [
        Span(i, *span)
        for i, piece in enumerate(everything)
        for span in spans(piece.hidden, jobs[piece.of].motion.fps / piece.stride)
    ]
    groups = batches(all_spans)
    generator = torch.Generator().manual_seed(sampling.seed)
    total = max(len(groups), 1) * sampling.steps
    for done, group in enumerate(groups):

        def tick(step: int, _: int, done: int = done) -> None:
            if progress is not None:
                progress(done * sampling.steps + step, total)

        windows = _windows(group, everything, jobs, bases, network)
        windows = replace(windows, label=sampling.labels(len(group)))
        for span, *said in zip(group, *_read_out(network, windows, sampling, generator, tick), strict=True):
            blends[span.part].add(span.start, *said)
    if progress is not None and not groups:
        progress(total, total)
    out = [(base[0].copy(), base[1].copy()) for base in bases]
    for piece, blend in zip(everything, blends, strict=True):
        _apply(jobs[piece.of], piece, blend, bases[piece.of], out[piece.of])
    return out


def _windows(
    group: Sequence[Span],
    everything: Sequence[Piece],
    jobs: Sequence[Job],
    bases: Sequence[tuple[np.ndarray, np.ndarray]],
    network: InbetweenNetwork,
) -> Windows:
    """A batch of equally long windows, each interpolated by itself but for the body's place."""
    device = next(network.parameters()).device
    owners = [everything[span.part] for span in group]
    frames = [piece.grid[span.start : span.stop] for piece, span in zip(owners, group, strict=True)]
    motions = [jobs[piece.of].motion for piece in owners]
    observed = ~np.stack([jobs[piece.of].hidden[rows] for piece, rows in zip(owners, frames, strict=True)])
    raw = np.stack([m.rotations[rows] for m, rows in zip(motions, frames, strict=True)]).astype(np.float64)
    place = [bases[piece.of] for piece in owners]
    root = np.stack([base[1][rows] for base, rows in zip(place, frames, strict=True)])
    rotations, _ = interpolate(rot.normalize(np.where(observed[..., :22, None], raw, rot.IDENTITY)), root, observed)
    unseen = ~observed[..., :22].any(axis=1)[:, None, :, None]
    rotations = np.where(unseen, network.scale.rest.cpu().numpy(), rotations)
    rotations[:, :, 0] = np.stack([base[0][rows, 0] for base, rows in zip(place, frames, strict=True)])

    step = np.array([piece.stride / m.fps for piece, m in zip(owners, motions, strict=True)])
    seconds = [side.numpy() * step[:, None, None] for side in nearest_trusted(torch.from_numpy(observed))]
    for i, (piece, rows, motion) in enumerate(zip(owners, frames, motions, strict=True)):
        whole = nearest_trusted(torch.from_numpy(~jobs[piece.of].hidden[:, PLACE]))
        for side, far in zip(seconds, whole, strict=True):
            side[i][:, PLACE] = far.numpy()[rows] / motion.fps

    def number(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).float().to(device)

    return Windows(
        number(rotations),
        number(root - root.mean(axis=1, keepdims=True)),  # near the origin, where float32 is fine
        torch.from_numpy(observed).to(device),
        number(seconds[0]),
        number(seconds[1]),
        torch.ones((*observed.shape[:2], 22), device=device),
        Bodies(
            number(np.stack([m.skeleton.offsets for m in motions])),
            torch.from_numpy(np.stack([m.skeleton.exists for m in motions])).to(device),
        ),
        number(step),
        memories=[jobs[piece.of].memory for piece in owners],
    )


def _read_out(
    network: InbetweenNetwork, windows: Windows, sampling: Sampling, generator: torch.Generator, progress: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Local rotations (B, T, 22, 4), the hips' shift from the base (B, T, 3) in world metres, doubt (B, T, 23)."""
    with torch.inference_mode():
        condition = network.condition(network.guess(windows))
        state = network.sample(condition, sampling.steps, generator, progress, sampling.guidance)
        turn, shift = _departure(windows, *network.motion(condition, state))
        doubt = torch.cat(
            [condition.scale[..., :3].norm(dim=-1), condition.scale[:, :, :1, 3:].norm(dim=-1)], dim=-1
        )  # fmt: skip
    base = windows.rotations.cpu().double().numpy()
    return rot.normalize(rot.multiply(base, rot.exp(turn))), shift, doubt.cpu().double().numpy()


def _departure(windows: Windows, rotations: torch.Tensor, root: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """From windows' own motion to another: rotation vectors (B, T, 22, 3), shift (B, T, 3) of the hips in metres."""
    centre = windows.bodies.hip_centre[:, None]
    turn = rot.log(rot.multiply(rot.conjugate(windows.rotations), rotations))
    before, after = (
        place + rot.rotate(q[:, :, 0], centre) for q, place in ((windows.rotations, windows.root), (rotations, root))
    )
    return turn.cpu().double().numpy(), (after - before).cpu().double().numpy()


# --- back to the take -----------------------------------------------------------------------------------------------


def _apply(
    job: Job, piece: Piece, blend: _Blend, base: tuple[np.ndarray, np.ndarray], out: tuple[np.ndarray, np.ndarray]
) -> None:
    """Write a piece's rotations and root into ``out``, at the take's own rate."""
    rows = slice(piece.start, piece.stop)
    hidden = job.hidden[rows]
    known = base[0][piece.grid]
    solved = np.where(piece.hidden[:, :22, None], blend.turns / np.maximum(blend.turn_weight, 1e-300), known)
    off = rot.multiply(rot.conjugate(known), rot.normalize(solved))
    shift = np.where(piece.hidden[:, 22:], blend.shift / np.maximum(blend.shift_weight, 1e-300), 0.0)
    if piece.stride > 1:
        off, shift = _upsampled(job.hidden, piece, off, shift)
    else:
        inside = slice(piece.start - piece.grid[0], piece.stop - piece.grid[0])
        off, shift = off[inside], shift[inside]
    turned = rot.normalize(rot.multiply(base[0][rows], off))
    centre = job.motion.skeleton.hip_centre.astype(np.float64)
    out[0][rows] = np.where(hidden[:, :22, None], turned, base[0][rows])
    hips = base[1][rows] + rot.rotate(base[0][rows, 0], centre) + shift
    out[1][rows] = np.where(hidden[:, 22:], hips - rot.rotate(out[0][rows, 0], centre), base[1][rows])


def _upsampled(hidden: np.ndarray, piece: Piece, off: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals over the take's base (G, 22, 4) and (G, 3) from a coarse grid to the piece's own frames.

    A loss may begin and end between frames of the grid. What the curve would say in the good frames beside it is taken
    back over the first and last few frames, so that nothing jumps there. hidden: (T, 23), the take's.
    """
    wide = slice(max(piece.start - 1, 0), min(piece.stop + 1, len(hidden)))
    at = np.clip(np.arange(wide.start, wide.stop), piece.grid[0], piece.grid[-1])
    values = np.concatenate([rot.continuous(off).reshape(len(off), 88), shift], axis=1)
    values = CubicSpline(piece.grid, values, axis=0)(at)
    turns, moved = rot.normalize(values[:, :88].reshape(-1, 22, 4)), values[:, 88:]
    vectors = np.concatenate([rot.log(turns), np.zeros((len(at), 1, 3))], axis=1)
    vectors[:, 22] = moved
    reach = np.arange(len(at))
    for column in range(23):
        for start, stop in runs(hidden[wide, column]):
            for border, inside in ((start - 1, slice(start, stop)), (stop, slice(start, stop))):
                if not 0 <= border < len(at):
                    continue
                fade = np.clip(1 - np.abs(reach[inside] - border) / (2 * piece.stride), 0, 1)[:, None]
                if column < 22:
                    back = rot.exp(-vectors[border, column] * fade)
                    turns[inside, column] = rot.multiply(turns[inside, column], back)
                else:
                    moved[inside] -= vectors[border, column] * fade
    own = slice(piece.start - wide.start, piece.stop - wide.start)
    return turns[own], moved[own]
