"""Fill gaps: motion that fits both sides, hits every kept key exactly, and leaves all else bit-identical."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .. import baselines, contacts
from .. import rotations as rot
from ..contract import Motion, MotionError
from ..contract.skeleton import LEGS
from ..masking import gap
from . import store
from .network import InbetweenNetwork, Progress
from .recall import Memory
from .selection import joint_columns, kept
from .solve import Job, encoded, solve
from .unmoved import bendable

PRIOR = "inbetween"
TAKE_STEPS = 8
"""DDIM steps of takes after the first."""


def fill_gap(
    motion: Motion,
    start: int,
    stop: int,
    *,
    keep: Iterable[int] | np.ndarray | None = None,
    joints: Iterable[str] | np.ndarray | None = None,
    takes: int = 1,
    seed: int = 0,
    steps: int | None = None,
    label: str = "",
    guidance: float = 1.0,
    blend: tuple[float, str] | None = None,
    one_sided: bool = False,
    lock_feet: bool = True,
    prior: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Motion]:
    """Generate frames [start, stop) of a motion, one result per take.

    What is generated is ignored on input and may be NaN; everything else comes back with identical bits.

    keep: frames inside the range, or bool (T, 22) for single joints, that are hit exactly and condition the rest.
    joints: generate only these (names or bool (22,)); the root position goes with the pelvis.
    takes: take 0 is the deterministic one-pass result; further takes use eight DDIM steps with seed + i.
    steps: DDIM steps for every take, 1 = one pass.
    label: what is done in the gap, in words that the prior was trained with ("walk", "boxing"); "" = unsaid. guidance:
        how much the label counts, 1 = as trained.
    blend: share and name of the curve ("bezier", "interpolation") to mix in, as a `trial` of this gap found good.
    one_sided: allow a range that touches the motion's first or last frame.
    lock_feet: hold planted feet still by two-bone IK, where the legs are generated.
    prior: weights by name or path. progress: called with (done, of).

    Raises `MotionError` for a range outside the motion or without context, NaN in the context, or unusable weights.
    """
    hidden = hidden_by(motion, start, stop, keep, joints, one_sided)
    network = load_network(prior, device)
    encoded(network, label)  # an unknown label is refused before anything is computed
    if not (math.isfinite(guidance) and guidance >= 0):
        raise MotionError(f"The guidance must be zero or a positive number, not {guidance}.")
    curve = _curve(motion, hidden, *blend) if blend else None
    if takes < 1:
        raise MotionError("At least one take is needed.")
    job = Job(motion, hidden).remembering(next(network.parameters()).device)
    results = []
    for take in range(takes):
        count = steps if steps is not None else (1 if take == 0 else TAKE_STEPS)
        if not 1 <= count <= network.schedule.steps:
            raise MotionError(f"Between 1 and {network.schedule.steps} sampling steps are possible, not {count}.")

        def tick(done: int, of: int, take: int = take) -> None:
            if progress is not None:
                progress(take * of + done, takes * of)

        solved = solve(network, [job], steps=count, seed=seed + take, label=label, guidance=guidance, progress=tick)[0]
        if blend and curve:
            from .trial import mixed  # which imports this module

            solved = mixed(solved, curve, blend[0])
        results.append(finish(motion, hidden, *solved, lock_feet=lock_feet))
    return results


def _curve(motion: Motion, hidden: np.ndarray, share: float, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The curve through what is observed that is to be mixed in."""
    curves = {"bezier": baselines.bezier, "interpolation": baselines.interpolate}
    if name not in curves or not 0 <= share <= 1:
        raise MotionError(f"Blending takes a share from 0 to 1 and one of {', '.join(curves)}, not {share} of {name}.")
    return curves[name](motion.rotations.astype(np.float64), motion.root.astype(np.float64), ~hidden)


def fill_many(
    motions: Sequence[Motion],
    start: int,
    stop: int,
    *,
    keep: Iterable[int] | np.ndarray | None = None,
    label: str = "",
    guidance: float = 1.0,
    memories: Sequence[Memory | None] = (),
    lock_feet: bool = True,
    prior: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Motion]:
    """The same range of several motions in one batch, first takes only; for evaluation.

    memories: of the takes that the motions are parts of, without what is to be filled.
    """
    network = load_network(prior, device)
    known = memories or [None] * len(motions)
    jobs = [
        Job(m, hidden_by(m, start, stop, keep, None, False), memory) for m, memory in zip(motions, known, strict=True)
    ]
    solved = solve(network, jobs, label=label, guidance=guidance, progress=progress)
    return [
        finish(job.motion, job.hidden, *answer, lock_feet=lock_feet) for job, answer in zip(jobs, solved, strict=True)
    ]


def load_network(prior: str | Path | None, device: str) -> InbetweenNetwork:
    """The in-betweening network by name or path; None = the shipped one."""
    network = store.load(prior or PRIOR, "inbetween", device)
    assert isinstance(network, InbetweenNetwork)
    return network


def hidden_by(
    motion: Motion,
    start: int,
    stop: int,
    keep: Iterable[int] | np.ndarray | None,
    joints: Iterable[str] | np.ndarray | None,
    one_sided: bool,
) -> np.ndarray:
    """(T, 23) mask of what to generate, after checking that there is context for it."""
    frames = len(motion)
    hidden = gap(frames, start, stop).numpy() & joint_columns(joints) & ~kept(keep, frames)
    if not hidden.any():
        raise MotionError("Every frame of the gap is kept, so there is nothing to fill; keep fewer frames.")
    motion.require_finite(~hidden)
    if hidden.all(axis=0).any():
        raise MotionError("The gap leaves no frame of the motion to start from; choose a shorter range.")
    if not one_sided and (hidden[0].any() or hidden[-1].any()):
        side = "before" if hidden[0].any() else "after"
        raise MotionError(
            f"The gap has no motion {side} it; leave at least one frame there, or allow filling from one side."
        )
    return hidden


def finish(motion: Motion, hidden: np.ndarray, rotations: np.ndarray, root: np.ndarray, lock_feet: bool) -> Motion:
    """Generated values over the source, float32, sign-continuous with what comes before; feet held if asked."""
    filled = over(motion, hidden, rotations, root)
    legs = hidden[:, [*LEGS[0], *LEGS[1]]]
    if lock_feet and legs.any(axis=0).all():
        changed = legs.all(axis=1)
        standing = contacts.detect(filled, contacts.SLIDING_SPEED) & bendable(motion, hidden)
        locked = contacts.lock_feet(filled, changed, standing)
        filled = over(motion, hidden, locked.rotations.astype(np.float64), locked.root.astype(np.float64))
    return filled


def over(motion: Motion, hidden: np.ndarray, rotations: np.ndarray, root: np.ndarray) -> Motion:
    """The motion with its hidden entries replaced; the others keep their bits, sign included.

    Generated signs follow the frame before, so a source whose own signs change across the gap changes at its end.
    """
    turned = rot.normalize(rotations)
    mask = hidden[:, :22]
    out = np.where(mask[..., None], turned, motion.rotations)
    for t in range(1, len(out)):  # signs follow the frame before, in generated entries only
        flip = mask[t] & ((out[t] * out[t - 1]).sum(axis=-1) < 0)
        out[t, flip] *= -1
    for j in np.flatnonzero(mask[0]):  # a gap at the take's start follows its first kept frame instead
        stop = int(np.argmin(mask[:, j])) or len(out)
        if stop < len(out) and (out[stop, j] * out[stop - 1, j]).sum() < 0:
            out[:stop, j] *= -1
    rotations32 = np.where(mask[..., None], out.astype(np.float32), motion.rotations)
    root32 = np.where(hidden[:, 22:], root.astype(np.float32), motion.root)
    return motion.with_frames(rotations32, root32)
