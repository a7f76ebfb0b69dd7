"""What to expect here: the prior tried out on holes that are punched into good motion of the same take.

The holes have the gap's own pattern of hidden joints and kept frames. Their errors correct the usual error of gaps as
hard as this one (`difficulty`); where the prior loses to a curve, `blended` mixes the curve in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import baselines
from .. import rotations as rot
from ..contract import PARENTS, Motion, MotionError
from ..contract.chains import runs
from ..kinematics import positions
from ..metrics import BODY
from . import difficulty
from .difficulty import METHODS, SMALLEST, Formula
from .inbetween import finish, hidden_by, load_network
from .network import InbetweenNetwork, Progress
from .recall import Memory
from .solve import CONTEXT, Job, longest_run, solve

HOLES = 8
REACH = 15.0
"""Seconds on each side of the gap in which holes are looked for."""
CANDIDATES = 48
LEAST_CONTEXT = 0.13
"""Seconds of good motion that a hole needs on each side where the gap has them."""
FROZEN = 0.1
"""Seconds of exactly equal frames that make them repeats and not a pose that is held."""
LIKENESS, NEARNESS, TRUST = 3.0, 5.0, 4.0
"""How unlike (mean squared deviations) and how far away (seconds) a hole may be before it counts e times less, and
the weight of the formula against that of the holes."""
LEAN = 0.04
"""By how much (log) a prediction stays below the median, so that as many truths lie 30 % above it as below."""
SHARES = (0.25, 0.5, 0.75, 1.0)
CAUTION = 0.06
"""Part of the error that the whole curve must gain on the holes to be used; shares of it need the same share."""

LEAST_HOLES = 3
CURVES = METHODS[1:]

Pose = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Expected:
    """Mean distance of joints in centimetres, and mean angle of local rotations (leaves apart) in degrees."""

    position_cm: float
    angle_deg: float

    def __str__(self) -> str:
        return f"{self.position_cm:.1f} cm / {self.angle_deg:.{0 if self.angle_deg >= 3 else 1}f}°"


@dataclass(frozen=True)
class Trial:
    """The expected error in one gap, of what is delivered and of the two curves an animator has anyway.

    holes: how many were tried; 0 = there was too little good motion, and the figures are those of gaps as hard as this
    one in other takes. blend: share of ``towards`` ("bezier" or "interpolation") that `blended` mixes in, 0 = none,
    which ``ours`` already counts in. unblended: the prior alone. hidden (T, 23): what is generated.
    """

    start: int
    stop: int
    holes: int
    ours: Expected
    bezier: Expected
    interpolation: Expected
    unblended: Expected
    blend: float
    towards: str
    hidden: np.ndarray = field(repr=False, compare=False)

    @property
    def sentence(self) -> str:
        """For the panel: "expected 2.1 cm / 6°, Bézier 4.8 cm / 13°"."""
        text = f"expected {self.ours}, Bézier {self.bezier}"
        if self.blend:
            text += f" (with {100 * self.blend:.0f} % {'Bézier' if self.towards == 'bezier' else self.towards})"
        if not self.holes:
            text += "; too little good motion nearby to try it out, so judged by other takes"
        return text

    def report(self) -> dict[str, Any]:
        """The figures and the sentence as plain numbers and text."""
        methods = {name: asdict(getattr(self, name)) for name in ("ours", "bezier", "interpolation", "unblended")}
        return {
            "start": self.start, "stop": self.stop, "holes": self.holes, **methods,
            "blend": self.blend, "towards": self.towards, "sentence": self.sentence,
        }  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """A gap and the holes like it, filled by every method.

    features (1 + H, F), the gap's first; errors (H, 3, 2) of `METHODS` and blended (H, 2, S, 2) of Bézier and
    interpolation in every share, against the truth, in leg lengths and degrees; weights (H,): how much a hole tells.
    gap: its fillings by `METHODS`, (1, n, …). hidden (T, 23): what is generated. leg: metres.
    """

    features: np.ndarray
    errors: np.ndarray
    blended: np.ndarray
    weights: np.ndarray
    gap: tuple[Pose, ...]
    hidden: np.ndarray
    leg: float


@dataclass(frozen=True)
class Place:
    """Frames [start, stop) to be filled, seen from the window [first, last)."""

    start: int
    stop: int
    first: int
    last: int


def trial(
    motion: Motion,
    start: int,
    stop: int,
    *,
    keep: Iterable[int] | np.ndarray | None = None,
    joints: Iterable[str] | np.ndarray | None = None,
    label: str = "",
    prior: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Trial:
    """Expect the error of `fill_gap` with the same arguments, before the foot lock, by trying it out nearby.

    Unlike there, whole frames outside the gap may be NaN (other gaps): they are neither shown to the prior nor tried
    on, and a gap may touch an end of the take.

    Raises `MotionError` for a range outside the motion, a gap without any context, or unusable weights.
    """
    found = attempt(
        motion, start, stop, keep=keep, joints=joints, label=label, prior=prior, device=device, progress=progress
    )
    return judged(found, start, stop, Formula.shipped())


def blended(take: Motion, found: Trial, *, lock_feet: bool = True) -> Motion:
    """A take of `fill_gap` with the share of the curve that the trial found good; untouched where that is none.

    Fill without the foot lock and let it be done here, since blending would loosen it. What is not generated keeps its
    bits. A blend of motions that hit the borders hits them.
    """
    if len(take) != len(found.hidden):
        raise MotionError(
            f"The trial is of a take of {len(found.hidden)} frames, not {len(take)}; try it out on this one."
        )
    rotations, root = take.rotations.astype(np.float64), take.root.astype(np.float64)
    if found.blend:
        curve = baselines.bezier if found.towards == "bezier" else baselines.interpolate
        rotations, root = mixed((rotations, root), curve(rotations, root, ~found.hidden), found.blend)
    elif not lock_feet:
        return take
    return finish(take, found.hidden, rotations, root, lock_feet=lock_feet)


# --- holes ----------------------------------------------------------------------------------------------------------


def attempt(
    motion: Motion,
    start: int,
    stop: int,
    *,
    keep: Iterable[int] | np.ndarray | None = None,
    joints: Iterable[str] | np.ndarray | None = None,
    label: str = "",
    prior: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Attempt:
    """Fill the gap and up to `HOLES` holes in one batch; see `trial`."""
    network = load_network(prior, device)
    finite = np.isfinite(motion.rotations).all(axis=(1, 2)) & np.isfinite(motion.root).all(axis=1)
    outside = (np.arange(len(motion)) < start) | (np.arange(len(motion)) >= stop)
    whole = motion.with_frames(
        np.where((outside & ~finite)[:, None, None], rot.IDENTITY, motion.rotations).astype(np.float32),
        np.where((outside & ~finite)[:, None], 0, motion.root).astype(np.float32),
    )
    hidden = hidden_by(whole, start, stop, keep, joints, one_sided=True)
    good = finite & outside & ~_frozen(motion)
    near = slice(max(0, start - round(REACH * motion.fps)), min(len(motion), stop + round(REACH * motion.fps)))
    course = difficulty.course(whole.slice(near.start, near.stop), good[near])
    gap = Place(*(f - near.start for f in (start, stop, *_window(finite & outside, start, stop, motion.fps))))
    if gap.first == gap.start and gap.last == gap.stop:
        raise MotionError("The gap has no good motion next to it; leave at least one frame before or after it.")
    pattern = hidden[start:stop]
    holes, weights = _choose(course, gap)
    places, take = [gap, *holes], whole.slice(near.start, near.stop)
    filled = _fill(network, take, places, good[near], pattern, label, progress)
    truth = stacked([(take.rotations[p.start : p.stop], take.root[p.start : p.stop]) for p in holes])
    leg = motion.skeleton.leg_length
    measure = Measure(motion, pattern)
    seconds = longest_run(pattern) / motion.fps
    apart = np.stack([measure(filled[a], filled[b]) for a, b in difficulty.PAIRS], axis=1)
    near_gaps = np.stack([difficulty.around(course, p.start, p.stop) for p in places])
    detail = difficulty.detail(filled, motion.skeleton, motion.fps)
    features = np.stack(
        [difficulty.features(n, a, d, seconds) for n, a, d in zip(near_gaps, apart, detail, strict=True)]
    )
    ours, *curves = [(q[1:], r[1:]) for q, r in filled]
    errors = np.stack([measure(m, truth) for m in (ours, *curves)], axis=1)
    blends = np.stack([np.stack([measure(mixed(ours, c, s), truth) for s in SHARES], axis=1) for c in curves], axis=1)
    return Attempt(features, errors, blends, weights, tuple((q[:1], r[:1]) for q, r in filled), hidden, leg)


def _frozen(motion: Motion) -> np.ndarray:
    """(T,) frames in a run of repeats: nobody stands as still as that."""
    still = (np.abs(np.diff(motion.rotations, axis=0)) < 1e-6).all(axis=(1, 2))
    still &= (np.abs(np.diff(motion.root, axis=0)) < 1e-6).all(axis=1)
    frozen = np.zeros(len(motion), bool)
    for a, b in runs(still):
        if b - a >= max(2, FROZEN * motion.fps):
            frozen[a : b + 1] = True
    return frozen


def _window(good: np.ndarray, start: int, stop: int, fps: float) -> tuple[int, int]:
    """The frames around [start, stop) that are good without a break, up to the context on each side."""
    context = max(3, round(CONTEXT * fps))
    before = good[max(0, start - context) : start][::-1]
    after = good[stop : stop + context]
    return start - int((np.cumprod(before)).sum()), stop + int((np.cumprod(after)).sum())


def _choose(course: difficulty.Course, gap: Place) -> tuple[list[Place], np.ndarray]:
    """The holes that look most like the gap, are near it and do not cover one another, and what each of them tells."""
    frames, length = len(course.good), gap.stop - gap.start
    context = max(3, round(CONTEXT * course.fps))
    least = max(1, round(LEAST_CONTEXT * course.fps))
    before, after = min(least, gap.start - gap.first), min(least, gap.last - gap.stop)
    bad = np.concatenate([[0], np.cumsum(~course.good)])
    starts = np.arange(before, frames - length - after + 1)
    starts = starts[bad[starts + length + after] == bad[starts - before]]
    if not len(starts):
        return [], np.zeros(0)
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, CANDIDATES).round().astype(int))]
    places = [
        Place(int(s), int(s) + length, *_window(course.good, int(s), int(s) + length, course.fps)) for s in starts
    ]
    own = difficulty.around(course, gap.start, gap.stop)
    unlike = np.array([np.square(difficulty.around(course, p.start, p.stop) - own).mean() for p in places])
    away = np.abs(starts - gap.start) / course.fps
    short = np.array([2 * context - (p.last - p.first - length) for p in places]) / context
    score = unlike / LIKENESS + away / NEARNESS
    order, cost = [], score + short
    for _ in range(min(HOLES, len(places))):
        order.append(int(np.argmin(cost)))
        cost = cost + 2 * np.clip(1 - np.abs(starts - starts[order[-1]]) / length, 0, 1)
        cost[order[-1]] = np.inf
    return [places[i] for i in order], np.exp(-(score[order] - score[order].min()))


def _fill(
    network: InbetweenNetwork,
    take: Motion,
    places: Sequence[Place],
    good: np.ndarray,
    pattern: np.ndarray,
    label: str,
    progress: Progress | None,
) -> list[Pose]:
    """Every place filled by every one of `METHODS`: rotations (P, n, 22, 4), root (P, n, 3).

    good (T,): frames of the take that may be looked at; each hole's own are hidden from it besides.
    """
    jobs, memory = [], Memory.of(take, ~good, next(network.parameters()).device)
    for p in places:
        part = take.slice(p.first, p.last)
        hidden = np.zeros((len(part), 23), bool)
        hidden[p.start - p.first : p.stop - p.first] = pattern
        rotations = np.where(hidden[:, :22, None], np.nan, part.rotations)  # so that nothing of the truth gets in
        jobs.append(
            Job(
                part.with_frames(rotations, np.where(hidden[:, 22:], np.nan, part.root)),
                hidden,
                memory and memory.without(p.start, p.stop),
            )
        )
    curves = [[curve(*_float(j), ~j.hidden) for j in jobs] for curve in (baselines.bezier, baselines.interpolate)]
    inside = [slice(p.start - p.first, p.stop - p.first) for p in places]
    answers = [solve(network, jobs, label=label, progress=progress), *curves]
    return [stacked([(q[i], r[i]) for (q, r), i in zip(answer, inside, strict=True)]) for answer in answers]


def _float(job: Job) -> Pose:
    return job.motion.rotations.astype(np.float64), job.motion.root.astype(np.float64)


def stacked(parts: Sequence[Pose]) -> Pose:
    """Equally long stretches → rotations (P, n, 22, 4), root (P, n, 3), float64."""
    if not parts:
        return np.zeros((0, 1, 22, 4)), np.zeros((0, 1, 3))
    return np.stack([q for q, _ in parts]).astype(np.float64), np.stack([r for _, r in parts]).astype(np.float64)


def mixed(ours: Pose, curve: Pose, share: float) -> Pose:
    """On the shortest arc between the two, ``share`` of the way to the curve."""
    part = np.full(ours[0].shape[:-1], share)
    return rot.slerp(ours[0], np.asarray(curve[0]), part), ours[1] + share * (np.asarray(curve[1]) - ours[1])


class Measure:
    """Mean distances between stretches: of the joints that can move, and of the rotations that are generated."""

    def __init__(self, motion: Motion, pattern: np.ndarray):
        moved = pattern.any(axis=0)
        free = moved[:22].copy()
        for j in range(1, 22):
            free[j] |= free[PARENTS[j]]
        self._moves = free | moved[22]
        self._rows = pattern.any(axis=1)
        turned = pattern[:, :22] & np.isin(np.arange(22), BODY)
        self._turned = turned if turned.any() else pattern[:, :22]
        self._offsets = motion.skeleton.offsets.astype(np.float64)
        self._leg = motion.skeleton.leg_length

    def __call__(self, a: Pose, b: Pose) -> np.ndarray:
        """(P, n, …) each → (P, 2) leg lengths and degrees."""
        if not len(a[0]):
            return np.zeros((0, 2))
        places = [positions(q, r, self._offsets) for q, r in (a, b)]
        distance = np.linalg.norm(places[0] - places[1], axis=-1)[:, self._rows][:, :, self._moves]
        turn = np.degrees(rot.angle(rot.normalize(a[0]), rot.normalize(b[0])))[:, self._turned]
        angle = turn.mean(axis=1) if self._turned.any() else np.zeros(len(turn))
        return np.stack([distance.mean(axis=(1, 2)) / self._leg, angle], axis=1)


# --- judgement ------------------------------------------------------------------------------------------------------


def judged(found: Attempt, start: int, stop: int, formula: Formula) -> Trial:
    """From what the holes showed to what the gap will."""
    usual = formula(found.features)  # (1 + H, 3, 2)
    weights = found.weights
    blend, towards = _best_blend(found)

    def expected(errors: np.ndarray, method: int) -> Expected:
        """errors (H, 2): the formula's answer for the gap, shifted by what it misses on the holes."""
        missed = np.log(errors + SMALLEST) - usual[1:, method]
        shift = (weights[:, None] * missed).sum(axis=0) / (weights.sum() + TRUST)
        size = np.maximum(np.exp(usual[0, method] + shift - LEAN) - SMALLEST, 0)
        return Expected(float(100 * found.leg * size[0]), float(size[1]))

    plain = [expected(found.errors[:, i], i) for i in range(len(METHODS))]
    ours = expected(found.blended[:, CURVES.index(towards), SHARES.index(blend)], 0) if blend else plain[0]
    return Trial(start, stop, len(weights), ours, plain[1], plain[2], plain[0], blend, towards, found.hidden)


def _best_blend(found: Attempt) -> tuple[float, str]:
    """The share and the curve that would have served the holes best, where neither figure suffers; else (0, …)."""
    if len(found.weights) < LEAST_HOLES:
        return 0.0, CURVES[0]
    total = np.einsum("h,hcsk->csk", found.weights, found.blended)
    ratio = total / np.maximum(found.weights @ found.errors[:, 0], 1e-9)
    cost = ratio.mean(axis=-1) + CAUTION * np.array(SHARES)
    cost[(ratio > 1).any(axis=-1)] = np.inf
    curve, share = np.unravel_index(int(np.argmin(cost)), cost.shape)
    if cost[curve, share] >= 1:
        return 0.0, CURVES[0]
    return SHARES[share], CURVES[curve]
