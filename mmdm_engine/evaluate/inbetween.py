"""Gaps filled by the prior, by interpolation, by Blender's Bézier curves, and by standing still."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import baselines
from ..contract import Motion, MotionError
from ..metrics import Score
from ..pack import Pack
from .entry import Evaluation, Progress, Report, Request, Row, numbers
from .figures import LAFAN1_DEVIATION, categories, gap_figures, lafan1_deviation, summary
from .tables import category_table, figures_table, rows_of
from .windows import CONTEXT, add_take_argument, clips_of, cut, hide, in_batches, remembered, stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from ..priors.recall import Memory

FILLER = "interpolation"
"""The baseline that ratios refer to."""


class Fill(Protocol):
    """A method of in-betweening."""

    def __call__(
        self, motions: list[Motion], start: int, stop: int, keep: list[int], memories: Sequence[Memory | None] = ()
    ) -> list[Motion]:
        """Windows of equal length → the same with [start, stop) filled, except the kept frames.

        memories: the clips that the windows were cut from, for methods that look there; empty = only the windows.
        """


def _array_filler(function: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Fill:
    def fill(
        motions: list[Motion], start: int, stop: int, keep: list[int], memories: Sequence[Memory | None] = ()
    ) -> list[Motion]:
        rotations, root, _ = stack(motions)
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
    from ..priors.inbetween import fill_many

    def fill(
        motions: list[Motion], start: int, stop: int, keep: list[int], memories: Sequence[Memory | None] = ()
    ) -> list[Motion]:
        return fill_many(
            motions, start, stop, keep=keep or None, memories=memories, lock_feet=False, prior=prior, device=device
        )

    return fill


def inbetween(
    pack: Pack,
    gap: int,
    fps: float = 30.0,
    count: int = 320,
    keys: int = 0,
    methods: Mapping[str, Fill] = FILLERS,
    deviation: np.ndarray | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    take: bool = False,
) -> Report:
    """Figures of every method for gaps of ``gap`` frames; with ``keys``, every ``keys``-th frame inside is given.

    methods must hold "interpolation". Given frames are scored with the rest, alike for every method.
    take: let the prior see the whole clip around each gap, as in use, instead of `CONTEXT` seconds.
    """
    if gap < 2:
        raise MotionError("A gap must have at least two frames for a spectrum to compare; choose --gaps of 2 or more.")
    context = max(10, math.ceil(CONTEXT * fps - 1e-6))
    windows = cut(pack, fps, gap + 2 * context, count, seed)
    start, stop = context, context + gap
    kept = list(range(start - 1 + keys, stop, keys)) if keys else []
    truth = [w.motion for w in windows]
    hidden = [hide(m, start, stop, kept) for m in truth]
    gone = np.isin(np.arange(len(truth[0])), np.arange(start, stop)) & ~np.isin(np.arange(len(truth[0])), kept)
    memories = remembered(pack, windows, fps, gone) if take else None
    deviation = LAFAN1_DEVIATION if deviation is None else deviation
    figures: dict[str, dict[str, Score]] = {}
    seconds: dict[str, float] = {}
    for name, method in methods.items():
        begun = time.perf_counter()

        def report(done: int, of: int, name: str = name) -> None:
            if progress:
                progress(f"gap {gap}: {name}", done, of)

        filled = in_batches(partial(method, start=start, stop=stop, keep=kept), hidden, report, memories)
        seconds[name] = (time.perf_counter() - begun) / len(hidden)
        figures[name] = gap_figures(truth, filled, start, stop, deviation)
    clips = clips_of(windows)
    return {
        "gap": gap,
        "fps": fps,
        "keys": keys or None,
        "context": context,
        "take": take,
        "windows": len(windows),
        "clips": len(set(clips)),
        "seconds_per_window": seconds,
        "figures": summary(figures, clips, FILLER, [m for m in methods if m != "ours"]),
        "categories": categories(figures, windows, FILLER, ["table5.l2p", "table5.l2q"]),
    }


# --- command --------------------------------------------------------------------------------------------------------


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gaps", default="5,15,30,45", help="gap lengths in frames (default %(default)s)")
    parser.add_argument("--keys", default="", help="with every n-th frame of the gap given, e.g. 5,10,20")
    add_take_argument(parser)
    parser.add_argument(
        "--tune-data",
        type=Path,
        metavar="PACK.npz",
        help="take the z-scoring from this training pack instead of the constants kept here",
    )


def _measure(request: Request) -> Report:
    args = request.args
    gaps, keys = numbers(args.gaps, "--gaps"), numbers(args.keys, "--keys")
    fillers = dict(FILLERS)
    if request.ours:
        fillers["ours"] = prior_filler(request.prior, args.device)
    tuning = request.tuning()
    deviation = lafan1_deviation(tuning) if tuning else None
    cases = [
        inbetween(
            request.pack,
            gap,
            args.fps,
            args.windows or 320,
            every,
            fillers,
            deviation,
            request.progress,
            request.seed,
            args.take,
        )
        for every in (keys or [0])
        for gap in gaps
    ]
    return {"cases": cases}


def _show(report: Mapping[str, Any], console: Console) -> None:
    for case in report["cases"]:
        given = f", every {case['keys']}th frame given" if case["keys"] else ""
        given += ", in its take" if case["take"] else ""
        title = (
            f"{case['gap']} frames at {case['fps']:g} fps{given}: {case['windows']} windows of {case['clips']} clips"
        )
        console.print(figures_table(title, case["figures"], FILLER))
        if case["categories"]:
            console.print(category_table(case["categories"], FILLER))


def _rows(report: Mapping[str, Any]) -> list[Row]:
    return [
        row
        for case in report["cases"]
        for row in rows_of(case["figures"], FILLER, gap=case["gap"], fps=case["fps"], keys=case["keys"])
    ]


def _draw(report: Mapping[str, Any], figure: Figure) -> None:
    """Ratio to interpolation over the gap's length; a row of panels per density of keys."""
    cases, names = report["cases"], ("table5.l2p", "table5.l2q", "lafan1.npss", "angle_deg")
    keys = list(dict.fromkeys(case["keys"] for case in cases))
    figure.set_size_inches(4 * len(names), 0.5 + 3.5 * len(keys))
    panels = figure.subplots(len(keys), len(names), squeeze=False, sharex=True)
    for row, every in zip(panels, keys, strict=True):
        here = [case for case in cases if case["keys"] == every]
        gaps = [case["gap"] for case in here]
        for panel, name in zip(row, names, strict=True):
            for method in here[0]["figures"][name][f"ratio_to_{FILLER}"]:
                found = np.array([case["figures"][name][f"ratio_to_{FILLER}"][method] for case in here], np.float64)
                spread = np.clip(np.stack([found[:, 0] - found[:, 1], found[:, 2] - found[:, 0]]), 0, None)
                panel.errorbar(gaps, found[:, 0], spread, label=method, marker="o", capsize=3)
            panel.axhline(1, color="black", linewidth=0.8, linestyle=":")
            panel.set_title(name + (f", every {every}th frame given" if every else ""))
            panel.set_ylim(0, min(panel.get_ylim()[1], 2))
            panel.set_xlabel("gap in frames")
        row[0].set_ylabel(f"ratio to {FILLER}")
        row[0].legend()


INBETWEEN = Evaluation(
    "fill gaps beside interpolation and Bézier curves", _add_arguments, _measure, _show, _rows, _draw
)
