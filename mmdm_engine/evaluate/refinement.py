"""Jitter taken out by the prior and by filters, each kind tuned on training data."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import baselines
from ..baselines import Filter
from ..contract import Motion, MotionError
from ..metrics import Score
from ..pack import Pack
from . import noise
from .entry import Evaluation, Progress, Report, Request, Row
from .figures import categories, clean_figures, mean_mpjpe, summary
from .filters import KEPT, TUNED
from .noise import Spoil, add_noise
from .tables import category_table, figures_table, rows_of
from .windows import clips_of, cut, in_batches

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console


REFINE_SECONDS = 3.0
"""Length of a window."""

Clean = Callable[[list[Motion]], list[Motion]]
"""A method of refinement."""


def prior_cleaner(prior: str | None, device: str) -> Clean:
    """Our refinement prior, not told the level of the noise, without the foot lock."""
    from ..priors.refinement import refine_many

    def clean(motions: list[Motion]) -> list[Motion]:
        return refine_many(motions, lock_feet=False, prior=prior, device=device)

    return clean


def tune_filters(
    pack: Pack,
    fps: float = 30.0,
    count: int = 200,
    spoil: Spoil = add_noise,
    progress: Progress | None = None,
) -> list[tuple[Filter, float]]:
    """Every kind of filter with its best settings on this pack, and the MPJPE in mm that it reaches; best first."""
    clean = [w.motion for w in cut(pack, fps, round(REFINE_SECONDS * fps), count)]
    noisy = [spoil(m, 10_000 + i) for i, m in enumerate(clean)]
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
    spoil: Spoil = add_noise,
    progress: Progress | None = None,
    seed: int = 0,
) -> Report:
    """Figures for noisy input, every filter and ours; ratios refer to the filter that is named first (the best)."""
    filters = TUNED if filters is None else filters
    windows = cut(pack, fps, round(REFINE_SECONDS * fps), count, seed)
    clean = [w.motion for w in windows]
    noisy = [spoil(m, 1_000_000 * seed + i) for i, m in enumerate(clean)]
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
        figures[name] = clean_figures(clean, in_batches(cleaner, noisy, report))
        seconds[name] = (time.perf_counter() - begun) / len(clean)
        moved[name] = 0.0 if name == "noisy" else mean_mpjpe(clean, in_batches(cleaner, clean, report))
    clips = clips_of(windows)
    reference = filters[0].kind
    return {
        "fps": fps,
        "windows": len(windows),
        "clips": len(set(clips)),
        "seconds_per_window": seconds,
        "filters": [{"kind": f.kind, "rotation": dict(f.rotation), "root": dict(f.root)} for f in filters],
        "best_filter": reference,
        "figures": summary(figures, clips, reference, [f.kind for f in filters]),
        "clean_input_moves_mm": moved,
        "categories": categories(figures, windows, reference, ["mpjpe_mm", "angle_deg"]),
    }


# --- command --------------------------------------------------------------------------------------------------------


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    noise.add_arguments(parser)
    parser.add_argument(
        "--tune-data",
        type=Path,
        metavar="PACK.npz",
        help="tune the filters on this training pack instead of taking the settings kept here",
    )


def _measure(request: Request) -> Report:
    args, progress = request.args, request.progress
    words, spoil = noise.chosen(args)
    tuning, filters = request.tuning(), None
    if tuning:
        filters = [f for f, _ in tune_filters(tuning, args.fps, 200, spoil, progress)]
    elif words in KEPT:
        filters = list(KEPT[words])
    else:
        raise MotionError("No filters are kept for this size of jitter; give --tune-data PACK.npz to tune them for it.")
    cleaner = prior_cleaner(request.prior, args.device) if request.ours else None
    report = refine(request.pack, args.fps, args.windows or 120, filters, cleaner, spoil, progress, request.seed)
    return {"case": words, **report}


def _show(report: Mapping[str, Any], console: Console) -> None:
    title = f"{report['case']}, at {report['fps']:g} fps: {report['windows']} windows of {report['clips']} clips"
    console.print(figures_table(title, report["figures"], report["best_filter"]))
    for f in report["filters"]:
        console.print(f"  {Filter(f['kind'], f['rotation'], f['root'])}")
    moved = ", ".join(f"{k} {v:.2f} mm" for k, v in report["clean_input_moves_mm"].items() if k != "noisy")
    console.print(f"clean input moves by: {moved}")
    if report["categories"]:
        console.print(category_table(report["categories"], report["best_filter"]))


def _rows(report: Mapping[str, Any]) -> list[Row]:
    rows = rows_of(report["figures"], report["best_filter"], fps=report["fps"])
    for method, moved in report["clean_input_moves_mm"].items():
        rows.append({"fps": report["fps"], "figure": "clean_input_moves_mm", "method": method, "value": moved})
    return rows


def _draw(report: Mapping[str, Any], figure: Figure) -> None:
    """A bar per method in every figure, as a ratio to the best filter."""
    names, reference = ("mpjpe_mm", "accel_mm", "angle_deg", "leaf_angle_deg"), report["best_filter"]
    figure.set_size_inches(4 * len(names), 4)
    for panel, name in zip(figure.subplots(1, len(names)), names, strict=True):
        values = {m: v for m, v in report["figures"][name]["values"].items() if m != "noisy"}
        ratios = [v / values[reference] for v in values.values()]
        panel.bar_label(panel.bar(list(values), ratios), fmt="%.2f")
        panel.axhline(1, color="black", linewidth=0.8, linestyle=":")
        panel.tick_params(axis="x", rotation=45)
        panel.set_title(f"{name} / {reference}")


REFINEMENT = Evaluation(
    "take jitter out beside filters that were tuned for it", _add_arguments, _measure, _show, _rows, _draw
)
