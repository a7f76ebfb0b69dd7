"""Measure the priors beside what an animator has without them, on any pack: ``python -m mmdm_engine evaluate``.

Every method gets the same windows, in which what it must make up has been replaced by NaN. A method is a function of a
list of motions, so a new prior or baseline is one entry in a dictionary.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import baselines, contacts, metrics
from . import rotations as rot
from .baselines import Filter
from .contract import Motion, MotionError
from .metrics import Score
from .pack import Pack, resample

CONTEXT = 0.4
"""Seconds of motion on each side of a gap."""
REFINE_SECONDS = 3.0
"""Length of a refinement window."""
NOISE_DEGREES, NOISE_METRES = 5.0, 0.02
BATCH = 32
"""Windows given to a prior at once."""
FILLER = "interpolation"
"""The in-betweening baseline that ratios refer to."""

# Constants that `evaluate calibrate` prints for the CMU training pack, so that measuring needs no training data.
LAFAN1_DEVIATION = np.array(
    [
        (0.2112, 0.1945, 0.1015), (0.2143, 0.1759, 0.1075), (0.2162, 0.1779, 0.1077), (0.2112, 0.1945, 0.1015),
        (0.2399, 0.1901, 0.1340), (0.2455, 0.1904, 0.1365), (0.2089, 0.1791, 0.1006), (0.2761, 0.2052, 0.1479),
        (0.2852, 0.2026, 0.1574), (0.2108, 0.1786, 0.1041), (0.2779, 0.2040, 0.1548), (0.2886, 0.2013, 0.1662),
        (0.2199, 0.1762, 0.1116), (0.2230, 0.1762, 0.1128), (0.2223, 0.1761, 0.1134), (0.2267, 0.1759, 0.1183),
        (0.2338, 0.1811, 0.1315), (0.2358, 0.1869, 0.1306), (0.2664, 0.2346, 0.1663), (0.2720, 0.2445, 0.1669),
        (0.2857, 0.3343, 0.2088), (0.2961, 0.3536, 0.2161),
    ]
)  # fmt: skip
"""(22, 3) metres: spread of the joints' global coordinates, with which the `lafan1` family z-scores."""

TUNED: tuple[Filter, ...] = (
    Filter("savitzky_golay", {"window": 0.37, "order": 1}, {"window": 0.3, "order": 1}),
    Filter("butterworth", {"cutoff": 1.75, "order": 2}, {"cutoff": 2, "order": 2}),
    Filter("gaussian", {"sigma": 0.1}, {"sigma": 0.08}),
    Filter("one_euro", {"min_cutoff": 0.5, "beta": 2}, {"min_cutoff": 0.01, "beta": 12}),
)
"""Every kind of filter at the noise above and 30 fps, tuned for MPJPE; the best first."""


class Fill(Protocol):
    """A method of in-betweening."""

    def __call__(self, motions: list[Motion], start: int, stop: int, keep: list[int]) -> list[Motion]:
        """Windows of equal length → the same with [start, stop) filled, except the kept frames."""


Clean = Callable[[list[Motion]], list[Motion]]
Progress = Callable[[str, int, int], None]


# --- windows --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """A stretch of one clip. clip: its number in the pack; category: what kind of movement it shows."""

    motion: Motion
    clip: int
    category: str


def category(name: str, label: str) -> str:
    """A clip's kind of movement: its label's first words, or the content of a ``set_content_style_id`` name."""
    if label:
        return re.split(r"\s+-\s+|[,/;(]", label.strip().lower())[0].strip()
    parts = name.split("_")
    return parts[1].lower() if len(parts) >= 4 else ""


def cut(pack: Pack, fps: float, frames: int, count: int) -> list[Window]:
    """About ``count`` windows of ``frames`` frames, evenly over the pack: the same ones on every call.

    Raises `MotionError` where no clip is long enough.
    """
    room = [int((n - 1) * fps / f + 1e-6) + 2 - frames for n, f in zip(pack.length, pack.fps, strict=True)]
    total = sum(max(r, 0) for r in room)
    if total == 0:
        raise MotionError(
            f"No clip of {pack.path.name} holds {frames} frames at {fps:g} fps; choose shorter gaps or longer takes."
        )
    stride = max(1, total // count)
    windows, place = [], stride // 2
    for clip, starts in enumerate(room):
        here = range(place, max(starts, 0), stride)
        place -= max(starts, 0)
        if not here:
            continue
        place += len(here) * stride
        motion = resample(pack.decode(clip), fps)
        kind = category(pack.names[clip], pack.labels[clip])
        windows += [Window(motion.slice(start, start + frames), clip, kind) for start in here]
    return windows


def _stack(motions: Sequence[Motion]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equally long motions → rotations (N, T, 22, 4), root (N, T, 3), offsets (N, 22, 3)."""
    return (
        np.stack([m.rotations for m in motions]),
        np.stack([m.root for m in motions]),
        np.stack([m.skeleton.offsets for m in motions]),
    )


# --- methods --------------------------------------------------------------------------------------------------------


def _array_filler(function: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Fill:
    def fill(motions: list[Motion], start: int, stop: int, keep: list[int]) -> list[Motion]:
        rotations, root, _ = _stack(motions)
        observed = np.ones((rotations.shape[1], 23), bool)
        observed[start:stop] = False
        observed[keep] = True
        q, p = function(rotations, root, observed)
        return [m.with_frames(a, b) for m, a, b in zip(motions, q, p, strict=True)]

    return fill


FILLERS: dict[str, Fill] = {
    "interpolation": _array_filler(baselines.interpolate),
    "zero velocity": _array_filler(baselines.zero_velocity),
    "bezier": _array_filler(baselines.bezier),
}


def prior_filler(prior: str | None, device: str) -> Fill:
    """Our in-betweening prior: its deterministic first take, without the foot lock."""
    from .priors.inbetween import fill_many

    def fill(motions: list[Motion], start: int, stop: int, keep: list[int]) -> list[Motion]:
        return fill_many(motions, start, stop, keep=keep or None, lock_feet=False, prior=prior, device=device)

    return fill


def prior_cleaner(prior: str | None, device: str) -> Clean:
    """Our refinement prior, not told the level of the noise, without the foot lock."""
    from .priors.refinement import refine_many

    def clean(motions: list[Motion]) -> list[Motion]:
        return refine_many(motions, lock_feet=False, prior=prior, device=device)

    return clean


def _in_batches(
    function: Callable[[list[Motion]], list[Motion]], motions: list[Motion], progress: Callable[[int, int], None]
) -> list[Motion]:
    out: list[Motion] = []
    while len(out) < len(motions):
        out += function(motions[len(out) : len(out) + BATCH])
        progress(len(out), len(motions))
    return out


# --- figures --------------------------------------------------------------------------------------------------------


def bootstrap_ratio(
    ours: Score, base: Score, clips: np.ndarray, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """ours / base with the 2.5 and 97.5 % points of its paired bootstrap, clips drawn with replacement.

    clips: (N,) the clip of each sequence. Windows of one clip go together, since they resemble one another.
    """
    numbers = np.unique(clips, return_inverse=True)[1]
    sums = np.stack([np.bincount(numbers, weights=x) for x in (ours.total, ours.weight, base.total, base.weight)])
    count = sums.shape[1]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    a, aw, b, bw = sums @ drawn.T
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (a / aw) / (b / bw)
    ratios = ratios[np.isfinite(ratios)]
    low, high = np.percentile(ratios, [2.5, 97.5]) if len(ratios) else (float("nan"), float("nan"))
    return ours.value / base.value if base.value else float("nan"), float(low), float(high)


def gap_figures(
    truth: Sequence[Motion], filled: Sequence[Motion], start: int, stop: int, deviation: np.ndarray
) -> dict[str, Score]:
    """All in-betweening figures on frames [start, stop); see `metrics`."""
    q_true, p_true, offsets = _stack(truth)
    q, p, _ = _stack(filled)
    inside = slice(start, stop)
    few = (q[:, inside], p[:, inside], q_true[:, inside], p_true[:, inside], offsets)
    out = {f"table5.{k}": v for k, v in metrics.table5(*few).items()}
    out |= {f"lafan1.{k}": v for k, v in metrics.lafan1(*few, q_true[:, start - 1, 0], deviation).items()}
    positions, positions_true = metrics.forward(q, p, offsets), metrics.forward(q_true, p_true, offsets)
    feet, edges = list(metrics.FEET), slice(start - 1, stop + 1)
    standing = np.stack([contacts.detect(m) for m in truth])[:, edges]
    out["mpjpe_mm"] = metrics.mpjpe(positions[:, inside], positions_true[:, inside])
    out["angle_deg"] = metrics.angle(q[:, inside], q_true[:, inside], metrics.BODY)
    out["leaf_angle_deg"] = metrics.angle(q[:, inside], q_true[:, inside], metrics.LEAVES)
    out["foot_slide_cm_s"] = metrics.foot_slide(positions[:, edges][:, :, feet], standing, truth[0].fps)
    return out


def clean_figures(truth: Sequence[Motion], cleaned: Sequence[Motion]) -> dict[str, Score]:
    """All refinement figures, on whole windows."""
    q_true, p_true, offsets = _stack(truth)
    q, p, _ = _stack(cleaned)
    positions, positions_true = metrics.forward(q, p, offsets), metrics.forward(q_true, p_true, offsets)
    return {
        "mpjpe_mm": metrics.mpjpe(positions, positions_true),
        "accel_mm": metrics.accel(positions, positions_true),
        "angle_deg": metrics.angle(q, q_true, metrics.BODY),
        "leaf_angle_deg": metrics.angle(q, q_true, metrics.LEAVES),
        "jitter_m_s3": metrics.jitter(positions, truth[0].fps),
    }


def _summary(
    figures: Mapping[str, Mapping[str, Score]], clips: np.ndarray, reference: str, baselines_: Sequence[str]
) -> dict[str, Any]:
    """figures[method][figure] → values, ratios to the reference with bounds, ratio to the best baseline."""
    names = list(next(iter(figures.values())))
    out: dict[str, Any] = {}
    for name in names:
        values = {method: scores[name].value for method, scores in figures.items()}
        ratios = {
            method: bootstrap_ratio(scores[name], figures[reference][name], clips)
            for method, scores in figures.items()
            if method != reference
        }
        best = min((m for m in baselines_ if np.isfinite(values[m])), key=values.__getitem__, default=reference)
        entry: dict[str, Any] = {"values": values, f"ratio_to_{reference}": ratios, "best_baseline": best}
        if "ours" in figures:
            entry["ours_to_best"] = bootstrap_ratio(figures["ours"][name], figures[best][name], clips)
        out[name] = entry
    return out


def _categories(
    figures: Mapping[str, Mapping[str, Score]], windows: Sequence[Window], reference: str, names: Sequence[str]
) -> dict[str, Any]:
    """The figures ``names`` per kind of movement; kinds with fewer than ten windows are put together as "other"."""
    sizes = Counter(w.category for w in windows)
    kinds = np.array([w.category if sizes[w.category] >= 10 and w.category else "other" for w in windows])
    clips = np.array([w.clip for w in windows])
    out: dict[str, Any] = {}
    if len(set(kinds)) < 2:
        return out
    for kind in sorted(set(kinds), key=lambda k: (k == "other", k)):
        rows = np.flatnonzero(kinds == kind)
        parts = {m: {n: s[n].of(rows) for n in names} for m, s in figures.items()}
        out[kind] = {
            "windows": len(rows),
            "clips": len(set(clips[rows])),
            "values": {n: {m: s[n].value for m, s in parts.items()} for n in names},
            f"ratio_to_{reference}": {
                n: {
                    m: bootstrap_ratio(s[n], parts[reference][n], clips[rows])
                    for m, s in parts.items()
                    if m != reference
                }
                for n in names
            },
        }
    return out


# --- in-betweening --------------------------------------------------------------------------------------------------


def inbetween(
    pack: Pack,
    gap: int,
    fps: float = 30.0,
    count: int = 320,
    keys: int = 0,
    methods: Mapping[str, Fill] = FILLERS,
    deviation: np.ndarray | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Figures of every method for gaps of ``gap`` frames; with ``keys``, every ``keys``-th frame inside is given.

    methods must hold "interpolation". Given frames are scored with the rest, alike for every method.
    """
    if gap < 2:
        raise MotionError("A gap must have at least two frames for a spectrum to compare; choose --gaps of 2 or more.")
    context = max(10, math.ceil(CONTEXT * fps - 1e-6))
    windows = cut(pack, fps, gap + 2 * context, count)
    start, stop = context, context + gap
    kept = list(range(start - 1 + keys, stop, keys)) if keys else []
    truth = [w.motion for w in windows]
    hidden = [_hide(m, start, stop, kept) for m in truth]
    deviation = LAFAN1_DEVIATION if deviation is None else deviation
    figures: dict[str, dict[str, Score]] = {}
    seconds: dict[str, float] = {}
    for name, method in methods.items():
        begun = time.perf_counter()

        def report(done: int, of: int, name: str = name) -> None:
            if progress:
                progress(f"gap {gap}: {name}", done, of)

        filled = _in_batches(partial(method, start=start, stop=stop, keep=kept), hidden, report)
        seconds[name] = (time.perf_counter() - begun) / len(hidden)
        figures[name] = gap_figures(truth, filled, start, stop, deviation)
    clips = np.array([w.clip for w in windows])
    return {
        "gap": gap,
        "fps": fps,
        "keys": keys or None,
        "context": context,
        "windows": len(windows),
        "clips": len(set(clips)),
        "seconds_per_window": seconds,
        "figures": _summary(figures, clips, FILLER, [m for m in methods if m != "ours"]),
        "categories": _categories(figures, windows, FILLER, ["table5.l2p", "table5.l2q"]),
    }


def _hide(motion: Motion, start: int, stop: int, kept: Iterable[int]) -> Motion:
    rotations, root = motion.rotations.copy(), motion.root.copy()
    gone = np.setdiff1d(np.arange(start, stop), list(kept))
    rotations[gone], root[gone] = np.nan, np.nan
    return motion.with_frames(rotations, root)


# --- refinement -----------------------------------------------------------------------------------------------------


def add_noise(motion: Motion, seed: int, degrees: float = NOISE_DEGREES, metres: float = NOISE_METRES) -> Motion:
    """Jitter as in a bad capture: a normal rotation vector per joint and frame on the right, a normal root shift.

    degrees: per axis of the rotation vector. metres: per axis of the root.
    """
    rng = np.random.default_rng(seed)
    turn = rng.normal(scale=np.radians(degrees), size=(len(motion), 22, 3))
    turn[:, ~motion.skeleton.exists] = 0
    rotations = rot.continuous(rot.multiply(motion.rotations.astype(np.float64), rot.exp(turn)))
    root = motion.root + rng.normal(scale=metres, size=(len(motion), 3))
    return motion.with_frames(rotations, root)


def mean_mpjpe(clean: Sequence[Motion], other: Sequence[Motion]) -> float:
    """Mean joint distance in millimetres between equally long motions."""
    q_true, p_true, offsets = _stack(clean)
    q, p, _ = _stack(other)
    return metrics.mpjpe(metrics.forward(q, p, offsets), metrics.forward(q_true, p_true, offsets)).value


def tune_filters(
    pack: Pack,
    fps: float = 30.0,
    count: int = 200,
    degrees: float = NOISE_DEGREES,
    metres: float = NOISE_METRES,
    progress: Progress | None = None,
) -> list[tuple[Filter, float]]:
    """Every kind of filter with its best settings on this pack, and the MPJPE in mm that it reaches; best first."""
    clean = [w.motion for w in cut(pack, fps, round(REFINE_SECONDS * fps), count)]
    noisy = [add_noise(m, 10_000 + i, degrees, metres) for i, m in enumerate(clean)]
    found = []
    for kind in baselines.FILTERS:

        def report(done: int, of: int, kind: str = kind) -> None:
            if progress:
                progress(f"tuning {kind}", done, of)

        found.append(baselines.tune(kind, noisy, clean, mean_mpjpe, report))
    return sorted(found, key=lambda pair: pair[1])


def refine(
    pack: Pack,
    fps: float = 30.0,
    count: int = 120,
    filters: Sequence[Filter] | None = None,
    ours: Clean | None = None,
    degrees: float = NOISE_DEGREES,
    metres: float = NOISE_METRES,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Figures for noisy input, every filter and ours; ratios refer to the filter that is named first (the best)."""
    filters = TUNED if filters is None else filters
    windows = cut(pack, fps, round(REFINE_SECONDS * fps), count)
    clean = [w.motion for w in windows]
    noisy = [add_noise(m, i, degrees, metres) for i, m in enumerate(clean)]
    cleaners: dict[str, Clean] = {"noisy": list, **{f.kind: f for f in filters}}
    if ours is not None:
        cleaners["ours"] = ours
    figures: dict[str, dict[str, Score]] = {}
    moved: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for name, cleaner in cleaners.items():

        def report(done: int, of: int, name: str = name) -> None:
            if progress:
                progress(name, done, of)

        begun = time.perf_counter()
        figures[name] = clean_figures(clean, _in_batches(cleaner, noisy, report))
        seconds[name] = (time.perf_counter() - begun) / len(clean)
        moved[name] = 0.0 if name == "noisy" else mean_mpjpe(clean, _in_batches(cleaner, clean, report))
    clips = np.array([w.clip for w in windows])
    reference = filters[0].kind
    return {
        "fps": fps,
        "noise_degrees": degrees,
        "noise_metres": metres,
        "windows": len(windows),
        "clips": len(set(clips)),
        "seconds_per_window": seconds,
        "filters": [{"kind": f.kind, "rotation": dict(f.rotation), "root": dict(f.root)} for f in filters],
        "best_filter": reference,
        "figures": _summary(figures, clips, reference, [f.kind for f in filters]),
        "clean_input_moves_mm": moved,
        "categories": _categories(figures, windows, reference, ["mpjpe_mm", "angle_deg"]),
    }


def lafan1_deviation(pack: Pack) -> np.ndarray:
    """(22, 3) metres: the z-scoring of the `lafan1` family, from a training pack's windows of 50 frames, 20 apart."""
    windows: list[Motion] = []
    for clip in range(len(pack)):
        motion = resample(pack.decode(clip), 30.0)
        windows += [motion.slice(s, s + 50) for s in range(0, len(motion) - 49, 20)]
    if not windows:
        raise MotionError(f"No clip of {pack.path.name} holds 50 frames at 30 fps; calibrate on longer takes.")
    return metrics.lafan1_statistics(*_stack(windows))


# --- command --------------------------------------------------------------------------------------------------------

EXAMPLE = """examples:
  python -m mmdm_engine evaluate inbetween --data val.npz --gaps 5,15,30,45
  python -m mmdm_engine evaluate inbetween --data val.npz --gaps 60 --keys 5,10,20 --prior none
  python -m mmdm_engine evaluate refine --data val.npz --tune-data train.npz --json
  python -m mmdm_engine evaluate calibrate --data train.npz
"""


def machine() -> str:
    """The processor, its cores and the system, for the foot of a table."""
    name = platform.processor() or platform.machine()
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found.group(1).strip() if found else name
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    parser.add_argument(
        "task", choices=("inbetween", "refine", "calibrate"), help="calibrate prints the constants kept here"
    )
    parser.add_argument("--data", required=True, type=Path, metavar="PACK.npz", help="the pack to measure on")
    parser.add_argument(
        "--gaps", default="5,15,30,45", help="in-betweening: gap lengths in frames (default %(default)s)"
    )
    parser.add_argument(
        "--keys", default="", help="in-betweening: also with every n-th frame of the gap given, e.g. 5,10,20"
    )
    parser.add_argument("--fps", type=float, default=30.0, help="frame rate to measure at (default %(default)s)")
    parser.add_argument("--windows", type=int, help="how many windows, evenly over the pack (default 320, refine 120)")
    parser.add_argument(
        "--prior", default="", metavar="NAME|PATH", help="a prior, or none for the baselines alone (default: shipped)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    parser.add_argument(
        "--tune-data",
        type=Path,
        metavar="PACK.npz",
        help="tune filters and z-scoring on this training pack instead of taking the constants kept here",
    )
    parser.add_argument(
        "--noise", type=float, default=NOISE_DEGREES, help="refine: degrees per axis (default %(default)s)"
    )
    parser.add_argument(
        "--root-noise", type=float, default=100 * NOISE_METRES, help="refine: cm per axis (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _numbers(text: str, option: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = [-1]
    if any(n < 1 for n in numbers):
        raise MotionError(f"{option} takes whole numbers with commas, like 5,15,30, not {text}.")
    return numbers


def run(args: argparse.Namespace) -> int:
    """Carry the command out; returns the exit status. Raises `MotionError` on bad input."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    if not (math.isfinite(args.fps) and args.fps > 0):
        raise MotionError(f"--fps must be a positive number, not {args.fps}.")
    if args.windows is not None and args.windows < 1:
        raise MotionError(f"--windows must be at least 1, not {args.windows}.")
    gaps, keys = _numbers(args.gaps, "--gaps"), _numbers(args.keys, "--keys")
    pack = Pack.load(args.data)
    tuning = Pack.load(args.tune_data) if args.tune_data else None
    ours = args.prior.lower() != "none" and args.task != "calibrate"
    report: dict[str, Any] = {
        "task": args.task, "data": args.data.name, "prior": (Path(args.prior).name or "shipped") if ours else None,
        "tuned_on": args.tune_data.name if tuning else None, "machine": machine(), "date": date.today().isoformat(),
    }  # fmt: skip
    bar = Bar(console=Console(stderr=True), transient=True)
    tasks: dict[str, Any] = {}

    def progress(what: str, done: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=of)
        bar.update(tasks[what], completed=done, total=of, visible=done < of)

    with bar:
        if args.task == "inbetween":
            fillers = dict(FILLERS)
            if ours:
                fillers["ours"] = prior_filler(args.prior or None, args.device)
            deviation = lafan1_deviation(tuning) if tuning else None
            report["cases"] = [
                inbetween(pack, gap, args.fps, args.windows or 320, every, fillers, deviation, progress)
                for every in (keys or [0])
                for gap in gaps
            ]
        elif args.task == "refine":
            degrees, metres = args.noise, args.root_noise / 100
            filters = None
            if tuning:
                filters = [f for f, _ in tune_filters(tuning, args.fps, 200, degrees, metres, progress)]
            cleaner = prior_cleaner(args.prior or None, args.device) if ours else None
            report |= refine(pack, args.fps, args.windows or 120, filters, cleaner, degrees, metres, progress)
        else:
            found = tune_filters(pack, args.fps, args.windows or 200, args.noise, args.root_noise / 100, progress)
            report["filters"] = [
                {"kind": f.kind, "rotation": dict(f.rotation), "root": dict(f.root), "mpjpe_mm": e} for f, e in found
            ]
            report["lafan1_deviation"] = np.round(lafan1_deviation(pack), 4).tolist()
    if args.json:
        json.dump(_plain(report), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        _print(report)
    return 0


def _plain(value: Any) -> Any:
    """For JSON, which knows neither NumPy nor NaN."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def _bounds(ratio: Sequence[float], clips: int = 3) -> str:
    """With its bounds, which two clips cannot give."""
    return f"{ratio[0]:.3f} [{ratio[1]:.3f}, {ratio[2]:.3f}]" if clips > 2 else f"{ratio[0]:.3f}"


def _figures_table(title: str, figures: Mapping[str, Any], reference: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    methods = list(next(iter(figures.values()))["values"])
    table.add_column("figure", no_wrap=True)
    for method in methods:
        table.add_column(method, justify="right")
    compared = methods[-1]
    table.add_column(f"{compared} / {reference}", justify="right")
    if "ours" in methods:
        table.add_column("ours / best", justify="right")
    for name, entry in figures.items():
        cells = [f"{v:.4g}" for v in entry["values"].values()] + [_bounds(entry[f"ratio_to_{reference}"][compared])]
        if "ours" in methods:
            cells.append(f"{entry['ours_to_best'][0]:.3f} ({entry['best_baseline']})")
        table.add_row(name, *cells)
    return table


def _category_table(categories: Mapping[str, Any], reference: str) -> Any:
    from rich.table import Table

    first = next(iter(categories.values()))
    names, methods = list(first["values"]), list(next(iter(first["values"].values())))
    compared = methods[-1]
    table = Table(title=f"{compared} / {reference} by kind of movement", title_justify="left")
    for column in ("kind", "clips", "windows", *names):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind, entry in categories.items():
        ratios = [_bounds(entry[f"ratio_to_{reference}"][n][compared], entry["clips"]) for n in names]
        table.add_row(kind, str(entry["clips"]), str(entry["windows"]), *ratios)
    return table


def _print(report: Mapping[str, Any]) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    if report["task"] == "calibrate":
        for f in report["filters"]:
            console.print(f"{Filter(f['kind'], f['rotation'], f['root'])}: {f['mpjpe_mm']:.2f} mm")
        console.print("lafan1_deviation =", report["lafan1_deviation"])
    for case in report.get("cases", ()):
        given = f", every {case['keys']}th frame given" if case["keys"] else ""
        title = (
            f"{case['gap']} frames at {case['fps']:g} fps{given}: {case['windows']} windows of {case['clips']} clips"
        )
        console.print(_figures_table(title, case["figures"], FILLER))
        if case["categories"]:
            console.print(_category_table(case["categories"], FILLER))
    if report["task"] == "refine":
        title = (
            f"noise {report['noise_degrees']:g}° and {100 * report['noise_metres']:g} cm per axis "
            f"at {report['fps']:g} fps: {report['windows']} windows of {report['clips']} clips"
        )
        console.print(_figures_table(title, report["figures"], report["best_filter"]))
        for f in report["filters"]:
            console.print(f"  {Filter(f['kind'], f['rotation'], f['root'])}")
        moved = ", ".join(f"{k} {v:.2f} mm" for k, v in report["clean_input_moves_mm"].items() if k != "noisy")
        console.print(f"clean input moves by: {moved}")
        if report["categories"]:
            console.print(_category_table(report["categories"], report["best_filter"]))
    prior = f", prior {report['prior']}" if report["prior"] else ""
    console.print(f"{report['data']}{prior} · {report['machine']} · {report['date']}")
