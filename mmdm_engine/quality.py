"""Where a motion cannot be trusted: pops, jitter, frozen runs, sliding and sunken feet, without a clean reference.

Every test compares a stretch with the take's own movement around it, so that fast dance and hard landings are movement
and not faults. Time constants are in seconds and lengths in adult leg lengths, so neither the frame rate nor the size
of the character changes the answer. What the figures are was chosen on a training pack with
``python -m mmdm_engine evaluate detect`` and is reported on another: see docs/quality.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy import ndimage

from . import kinematics
from . import rotations as rot
from .contacts import ADULT_LEG, FEET
from .contacts import detect as standing
from .contract import JOINTS, Motion, MotionError
from .contract.chains import runs
from .contract.skeleton import LIMBS
from .metrics import LEAVES

Kind = Literal["pop", "jitter", "frozen", "slide", "penetration"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LEAST_FRAMES = 4

ROOT = 22
"""Column of the root position beside the 22 joints' rotations; its problems are the pelvis's."""
TURN = 1.0
SHIFT = 2.2
"""Radians of a joint's rotation and leg lengths of the root's position that count alike: 1 cm counts like 1.5°."""

LEAF_LEEWAY = 2.0
"""Toes, head and hands, which few markers hold, may shake and jump by so much more."""

POP_SECONDS = 0.11
"""A spike that lasts longer is a movement."""
POP_FLOOR, POP_RATIO, POP_SHARP = np.radians(4.0), 10.0, 3.0
"""A spike jumps by more than this, by so many times the median jump nearby and the jumps just before and after it."""
POP_NEARBY = 0.25

FROZEN_SECONDS = 0.1
"""Movement before and after a frozen run is looked for so far."""
FROZEN_SPEED = np.radians(12.0)
"""Radians per second; what moves slower before or after may as well have stopped."""
CATCH_UP = 2.0
"""The step out of a frozen run is a jump if it is so many times the next one."""
TOGETHER = 3
"""So many columns that stop in one frame leave no doubt."""
FROZEN_STILL = 0.02
"""A frozen step is at most this share of that speed."""

SHAKE_SECONDS, SHAKE_ORDER = 0.04, 3
"""The high-pass of jitter: what so many Gaussian smoothings leave, one after the other."""
SHAKE_NEARBY = 0.2
MEDIAN_LENGTH = 1.538
"""Of a vector of three normal numbers of deviation 1."""
SHAKE_FLOOR, SHAKE_ACCELERATION = np.radians(0.5), 1.3e-3
"""Radians per axis that any movement may shake by, and seconds² of its acceleration on top."""
SHAKE_MOVEMENT = 0.08
"""Standard deviation, seconds, of the smoothing that tells the movement from its shake."""
SHAKE_BEGINS, SHAKE_SURE = 1.0, 2.0
"""Multiples of the allowed shake at which doubt begins and at which nothing is trusted."""
SHAKE_CLOSED = 0.3
"""Half the seconds of movement between two shaken stretches that are taken as shaken too."""
SHAKE_BODY = 0.25, 0.5
"""Mean doubt over the joints at which that of the whole body begins, and is complete."""
SHAKE_SHORTEST, SHAKE_BRIDGED = 0.15, 0.1

FOOT_SECONDS = 0.03
SLIDE_LOW, SLIDE_HIGH = 0.2, 1.0
"""Metres per second, at an adult's size: slower feet stand, faster ones swing."""
SLIDE_CLIMB = 0.12
SLIDE_HEIGHT = 0.035
SLIDE_SHORTEST = 0.2
FLOOR_SECONDS = 3.0
"""The floor under a foot is where it stood so long before and after, the lower of the two."""
SUNKEN = 0.03
SUNKEN_SHORTEST = 0.06

BLEND_SECONDS = 0.1
"""Doubt about a foot fades out over so long beside the fault."""

HALF: dict[Kind, float] = {
    "pop": np.radians(20.0), "jitter": np.radians(3.0), "frozen": np.radians(15.0), "slide": 0.3, "penetration": 0.06,
}  # fmt: skip
"""The size of a fault of severity 0.5: radians (jump, shake, movement missed), metres per second, metres."""


@dataclass(frozen=True)
class Problem:
    """A fault of one joint in frames [start, stop).

    severity: size / (size + `HALF`), so 0 is nothing, 0.5 is plain to see.
    """

    kind: Kind
    joint: str
    start: int
    stop: int
    severity: float


@dataclass(frozen=True, eq=False)
class Quality:
    """What `detect` found.

    confidence: (T, 22) float32 in [0, 1], 1 = trusted; the pelvis's covers the root position too. problems: in order
    of their first frame.
    """

    confidence: np.ndarray
    problems: tuple[Problem, ...]

    def lost(self) -> np.ndarray:
        """(T, 23) bool: what a pop or a frozen run has overwritten and must be made up anew; column 22 the root."""
        mask = np.zeros((len(self.confidence), 23), bool)
        for problem in self.problems:
            if problem.kind in ("pop", "frozen"):
                mask[problem.start : problem.stop, JOINTS.index(problem.joint)] = True
        mask[:, ROOT] = mask[:, 0]
        return mask


def detect(motion: Motion) -> Quality:
    """Find the faults of a motion of four frames or more, at any frame rate.

    A joint that the character lacks is trusted. Raises `MotionError` on NaN and on shorter motions.
    """
    if len(motion) < LEAST_FRAMES:
        raise MotionError("Finding problems needs at least four frames; choose a longer take.")
    motion.require_finite()
    x = _channels(motion)
    fps = motion.fps
    frozen = _frozen(x, fps)
    pop = np.where(frozen > 0, 0.0, _pops(_bridged(x, frozen > 0), fps))
    shake, doubt = _shake(_bridged(x, (frozen > 0) | (pop > 0)), motion.skeleton.exists, fps)
    shaken = _long_runs(doubt > 0.5, SHAKE_SHORTEST * fps, SHAKE_BRIDGED * fps)
    doubt = np.where(_touching(doubt > 0, shaken), doubt, 0.0)
    doubt[(pop > 0) | (frozen > 0)] = 1.0
    confidence = 1 - _per_joint(doubt)
    found = _problems("pop", pop > 0, pop) + _problems("frozen", frozen > 0, frozen)
    found += _problems("jitter", shaken, shake)
    slide, sunken = _feet(motion, _per_joint(doubt) > 0.5)
    feet: dict[Kind, np.ndarray] = {"slide": slide, "penetration": sunken}
    for kind, size in feet.items():
        for side, limb in enumerate(LIMBS[:2]):
            foot = _problems(kind, size[:, [side]] > 0, size[:, [side]], (limb[2],))
            found += foot
            trust = _trust(foot, len(motion), fps)
            confidence[:, limb] = np.minimum(confidence[:, limb], trust[:, None])
    found.sort(key=lambda p: (p.start, p.stop, JOINTS.index(p.joint)))
    return Quality(confidence.astype(np.float32), tuple(found))


def shaken(motion: Motion) -> np.ndarray:
    """(T, 23) doubt in [0, 1] by jitter alone; column 22 the root's."""
    return _shake(_channels(motion), motion.skeleton.exists, motion.fps)[1]


def _channels(motion: Motion) -> np.ndarray:
    """(T, 23, 4) whose differences are radians of turn, and leg lengths of the root times `SHIFT`."""
    x = np.zeros((len(motion), 23, 4))
    x[:, :ROOT] = 2 * rot.continuous(rot.normalize(motion.rotations.astype(np.float64)))
    x[:, :ROOT][:, ~motion.skeleton.exists] = 0
    root = motion.root.astype(np.float64)
    x[:, ROOT, :3] = SHIFT * (root - root[0]) / motion.skeleton.leg_length
    return x


def _per_joint(columns: np.ndarray) -> np.ndarray:
    """(T, 23) → (T, 22): the pelvis answers for the root too."""
    joints = columns[:, :ROOT].copy()
    joints[:, 0] = np.maximum(joints[:, 0], columns[:, ROOT])
    return joints


def _length(x: np.ndarray) -> np.ndarray:
    return np.sqrt((x * x).sum(axis=-1))


def _leeway() -> np.ndarray:
    """(23,) what the columns' floors are multiplied with."""
    leeway = np.ones(23)
    leeway[list(LEAVES)] = LEAF_LEEWAY
    return leeway


def _reach(seconds: float, fps: float) -> int:
    """Frames on each side that a stretch of so many seconds on each side holds, at least one."""
    return max(1, round(seconds * fps))


def _median(values: np.ndarray, reach: int) -> np.ndarray:
    """Running median over 2 · reach + 1 rows of (T, C)."""
    return ndimage.median_filter(values, (2 * reach + 1, 1), mode="nearest")


def _bridged(x: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """(T, C, 4) with holes (T, C) bool filled on the straight line between what is around them."""
    if not holes.any():
        return x
    frames = np.arange(len(x))[:, None]
    before = np.maximum.accumulate(np.where(holes, -1, frames), axis=0)
    after = np.minimum.accumulate(np.where(holes, len(x), frames)[::-1], axis=0)[::-1]
    first, last = np.where(before < 0, after, before), np.where(after == len(x), before, after)
    first, last = np.clip(first, 0, len(x) - 1), np.clip(last, 0, len(x) - 1)
    part = (frames - first) / np.maximum(last - first, 1)
    a, b = (np.take_along_axis(x, i[..., None], axis=0) for i in (first, last))
    return np.where(holes[..., None], a + part[..., None] * (b - a), x)


def _frozen(x: np.ndarray, fps: float) -> np.ndarray:
    """(T, 23) radians of movement that each frozen run has missed, 0 where nothing is frozen.

    Frozen are frames that repeat the one before them while the column moves just before and just after, if it then
    goes on in its direction, jumps to where it should be, or others do the same in that frame: a movement that turns
    round stands for a moment, and one that a joint's limit has stopped comes back softly, but not several at once.
    """
    steps = np.diff(x, axis=0)
    speed = _length(steps)
    reach, least = _reach(FROZEN_SECONDS, fps), FROZEN_SPEED / fps
    padded = np.pad(speed, ((reach, reach), (0, 0)), mode="edge")
    # row i: of the steps just before i
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, reach, axis=0), axis=-1)
    still = speed <= FROZEN_STILL * least
    edges = np.diff(np.pad(still.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (column, a), b = np.nonzero(edges == 1), np.nonzero(edges == -1)[1]
    inner = (a > 0) & (b < len(steps))
    column, a, b = column[inner], a[inner], b[inner]
    into, out_of, next_one = speed[a - 1, column], speed[b, column], speed[np.minimum(b + 1, len(speed) - 1), column]
    usual = np.minimum(np.minimum(median[a, column], median[b + reach, column]), into)
    frozen = usual >= least
    along = (steps[a - 1, column] * steps[b, column]).sum(axis=-1) >= 0.5 * into * out_of
    clear = along | ((b - a > 1) & (b + 1 < len(speed)) & (out_of > CATCH_UP * next_one))
    missed = [np.zeros(x.shape[:2]) for _ in range(2)]
    for i in np.flatnonzero(frozen):
        missed[int(clear[i])][a[i] + 1 : b[i] + 1, column[i]] = usual[i] * (b[i] - a[i])
    unclear, certain = missed
    together = ((certain > 0) | (unclear > 0)).sum(axis=1, keepdims=True) >= TOGETHER
    return np.where(together, np.maximum(certain, unclear), certain)


def _pops(x: np.ndarray, fps: float) -> np.ndarray:
    """(T, 23) radians by which a spike of one or few frames sticks out, 0 elsewhere.

    A spike is a jump away and a jump back. A jump is a step unlike both its neighbours.
    """
    steps = np.diff(x, axis=0)
    padded = np.pad(steps, ((1, 1), (0, 0), (0, 0)), mode="edge")
    jump = steps - (padded[:-2] + padded[2:]) / 2
    size = _length(jump)
    reach = _reach(POP_NEARBY, fps)
    usual = _median(size, reach)
    allowed = np.maximum(POP_FLOOR * _leeway(), POP_RATIO * usual)
    out = np.zeros(x.shape[:2])
    largest = size >= 0.8 * ndimage.maximum_filter1d(size, 3, axis=0, mode="nearest")  # beside a jump is a false one
    two = np.maximum(size[1:], size[:-1])
    # two and three steps before and after a sharp spike nothing jumps; a quick movement begins and ends there
    before, after = np.pad(two, ((3, 0), (0, 0)))[: len(size)], np.pad(two, ((0, 3), (0, 0)))[2:]
    sharp_away = largest & (size > np.maximum(allowed, POP_SHARP * before))
    sharp_back = largest & (size > np.maximum(allowed, POP_SHARP * after))
    for length in range(1, max(1, int(POP_SECONDS * fps)) + 1):
        away, back = jump[:-length], jump[length:]
        least = np.minimum(size[:-length], size[length:])
        opposite = (away * back).sum(axis=-1) < -0.6 * size[:-length] * size[length:]
        spike = opposite & sharp_away[:-length] & sharp_back[length:]
        sticks = np.where(spike, least / (1.5 if length == 1 else 1.0), 0.0)
        for offset in range(length):
            frames = slice(1 + offset, 1 + offset + len(sticks))
            out[frames] = np.maximum(out[frames], sticks)
    return out


def _smooth(x: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian smoothing over time, deviation in frames; ends are continued in their own direction."""
    reach = int(np.ceil(4 * deviation))
    y = np.pad(x, ((reach, reach), *[(0, 0)] * (x.ndim - 1)), mode="reflect", reflect_type="odd")
    return ndimage.gaussian_filter1d(y, deviation, axis=0)[reach:-reach]


def _shake(x: np.ndarray, exists: np.ndarray, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """(T, 23) radians per axis of shake nearby, and doubt in [0, 1] where the take's own movement does not explain it.

    exists: (22,) bool.
    """
    reach = _reach(SHAKE_NEARBY, fps)
    level = _median(_length(_rough(x, fps)), reach)
    # what white noise of deviation 1 per axis would show: the filter's gain, and the median length in three dimensions
    impulse = np.zeros((2 * _reach(0.5, fps) + 1, 1, 1))
    impulse[len(impulse) // 2] = 1
    gain = MEDIAN_LENGTH * np.sqrt((_rough(impulse, fps) ** 2).sum())
    velocity = np.gradient(_smooth(x, SHAKE_MOVEMENT * fps), axis=0) * fps
    acceleration = (np.gradient(velocity, axis=0) ** 2).sum(axis=-1) * fps**2
    mean = ndimage.uniform_filter1d(acceleration, 2 * reach + 1, axis=0, mode="nearest")
    allowed = SHAKE_FLOOR * _leeway() * gain + SHAKE_ACCELERATION * np.sqrt(np.maximum(mean, 0.0))
    doubt = _rise(level / allowed, SHAKE_BEGINS, SHAKE_SURE)
    # a quick movement between two shaken stretches is shaken too, and so is the rest of a body that shakes
    doubt = ndimage.grey_closing(doubt, (2 * _reach(SHAKE_CLOSED, fps) + 1, 1), mode="nearest")
    body = _rise(doubt[:, :ROOT][:, exists].mean(axis=1, keepdims=True), *SHAKE_BODY)
    return level / gain, np.where(np.append(exists, True), np.maximum(doubt, body), 0.0)


def _rise(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below low, 1 above high, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _rough(x: np.ndarray, fps: float) -> np.ndarray:
    """(T, C, 4) without what is slow: high-pass of order `SHAKE_ORDER`."""
    for _ in range(SHAKE_ORDER):
        x = x - _smooth(x, SHAKE_SECONDS * fps)
    return x


def _feet(motion: Motion, explained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, 2) m/s by which the left and the right foot slide and (T, 2) metres by which they are under their floor.

    At an adult's size; 0 where all is well, and where a fault of the leg or of the pelvis explains it already.
    explained: (T, 22) bool.
    """
    fps, size = motion.fps, motion.skeleton.leg_length / ADULT_LEG
    points = kinematics.joint_positions(motion)
    feet = _smooth(points[:, list(FEET)] / size, FOOT_SECONDS * fps)
    velocity = np.gradient(feet, axis=0) * fps
    over, climb = _length(velocity[..., [0, 2]]), np.abs(velocity[..., 1])
    height = feet[..., 1]
    ground = ndimage.minimum_filter1d(height, 2 * _reach(0.25, fps) + 1, axis=0, mode="nearest")
    low = (height - ground < SLIDE_HEIGHT) & (climb < SLIDE_CLIMB)
    planted = standing(motion)
    slowest = np.where(low, over, np.inf).reshape(-1, 2, 2).min(axis=2)
    sliding = (slowest > SLIDE_LOW) & (slowest < SLIDE_HIGH)
    sunken = np.maximum(_floor(height, planted, fps) - height, 0).reshape(-1, 2, 2).max(axis=2)
    legs = np.stack([explained[:, [0, *limb]].any(axis=1) for limb in LIMBS[:2]], axis=1)
    sliding = _long_runs(sliding & ~legs, SLIDE_SHORTEST * fps, 0)
    under = _long_runs((sunken > SUNKEN) & ~legs, SUNKEN_SHORTEST * fps, 0.05 * fps)
    return np.where(sliding, np.where(np.isfinite(slowest), slowest, 0), 0.0), np.where(under, sunken, 0.0)


def _floor(height: np.ndarray, planted: np.ndarray, fps: float) -> np.ndarray:
    """(T, 4) height of the floor under each foot joint; minus infinity where it has not stood nearby.

    The lower of the medians of where it stands within `FLOOR_SECONDS` before and after, so that stairs and slopes are
    floor too.
    """
    reach = _reach(FLOOR_SECONDS, fps)
    out = np.full(height.shape, -np.inf)
    for column in range(4):
        stood = np.flatnonzero(planted[:, column])
        if not len(stood):
            continue
        levels = height[stood, column]
        frames = np.arange(len(height))
        sides = []
        for first, last in ((frames - reach, frames), (frames, frames + reach)):
            a, b = np.searchsorted(stood, first), np.searchsorted(stood, last, side="right")
            sides.append(np.array([np.median(levels[i:j]) if j > i else np.nan for i, j in zip(a, b, strict=True)]))
        lower = np.fmin(*sides)
        out[:, column] = np.where(np.isnan(lower), -np.inf, lower)
    return out


def _long_runs(flags: np.ndarray, shortest: float, bridged: float) -> np.ndarray:
    """(T, C) bool without runs shorter than ``shortest`` frames, after gaps of up to ``bridged`` are closed."""
    out = np.zeros_like(flags)
    for column in range(flags.shape[1]):
        held: list[tuple[int, int]] = []
        for a, b in runs(flags[:, column]):
            if held and a - held[-1][1] <= bridged:
                held[-1] = (held[-1][0], b)
            else:
                held.append((a, b))
        for a, b in held:
            if b - a >= min(shortest, len(flags)):
                out[a:b, column] = True
    return out


def _touching(wide: np.ndarray, narrow: np.ndarray) -> np.ndarray:
    """(T, C) bool: the runs of ``wide`` that hold a frame of ``narrow``, and ``narrow`` itself."""
    out = narrow.copy()
    for column in np.flatnonzero(narrow.any(axis=0)):
        for a, b in runs(wide[:, column]):
            if narrow[a:b, column].any():
                out[a:b, column] = True
    return out


def _problems(kind: Kind, flags: np.ndarray, size: np.ndarray, joints: Sequence[int] | None = None) -> list[Problem]:
    """One problem per run. flags: (T, C) bool. size: (T, C). joints: the column's joints; None = 22 and the root."""
    if joints is None:
        flags, size, joints = _per_joint(flags), _per_joint(size), range(22)
    found = []
    for column, joint in enumerate(joints):
        for a, b in runs(flags[:, column]):
            largest = float(size[a:b, column].max())
            found.append(Problem(kind, JOINTS[joint], a, b, round(largest / (largest + HALF[kind]), 3)))
    return found


def _trust(problems: Sequence[Problem], frames: int, fps: float) -> np.ndarray:
    """(T,) 1 − severity in the problems' frames, rising to 1 beside them."""
    index = np.arange(frames)
    trust = np.ones(frames)
    for p in problems:
        away = np.maximum(np.maximum(p.start - index, index - (p.stop - 1)), 0) / (BLEND_SECONDS * fps + 1)
        trust = np.minimum(trust, 1 - p.severity * np.clip(1 - away, 0, 1))
    return trust


# --- command --------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m mmdm_engine detect``."""
    parser.add_argument("input", type=Path, metavar="IN.bvh")
    parser.add_argument("--scale", type=float, help="metres per unit of the file (default: inferred)")
    parser.add_argument("--kind", choices=KINDS, help="only problems of this kind")
    parser.add_argument(
        "--severity", type=float, default=0.0, metavar="S", help="only problems at least this severe, 0 (default) to 1"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(args: argparse.Namespace) -> int:
    """Print the problems of a take, one line each."""
    from . import load_bvh

    if args.scale is not None and not args.scale > 0:
        raise MotionError(f"--scale must be a positive number of metres, not {args.scale:g}.")
    motion = load_bvh(args.input, scale=args.scale)
    quality = detect(motion)
    chosen = [p for p in quality.problems if p.severity >= args.severity and args.kind in (None, p.kind)]
    mean = float(quality.confidence.mean())
    if args.json:
        report = {"input": str(args.input), "frames": len(motion), "fps": motion.fps, "mean_confidence": mean}
        json.dump({**report, "problems": [asdict(p) for p in chosen]}, sys.stdout)
        sys.stdout.write("\n")
        return 0
    for p in chosen:
        frames = f"{p.start}-{p.stop - 1}" if p.stop - p.start > 1 else str(p.start)
        print(f"{frames:>12}  {p.kind:<11}  {p.joint:<15}  {p.severity:.2f}")
    word = "problem" if len(chosen) == 1 else "problems"
    print(f"{len(chosen)} {word} in {len(motion)} frames, mean confidence {mean:.3f}")
    return 0
