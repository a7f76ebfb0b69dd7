"""Does `trial` foretell the error? Gaps of known truth, tried out in their own takes, and the prediction beside it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import MotionError
from ..metrics import Score
from ..pack import Pack, resample
from .entry import Evaluation, Progress, Report, Request, Row, numbers
from .figures import bootstrap_ratio
from .windows import clips_of, cut, hide

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from ..priors.difficulty import Formula
    from ..priors.trial import Attempt

CONTEXT = 0.4
"""Seconds that a gap keeps at least from the ends of its clip."""
CLOSE = 0.3
"""A prediction is close when it is off by at most this part of the true error."""
FIGURES = ("position_cm", "angle_deg")


def attempts(
    pack: Pack, gap: int, fps: float, count: int, prior: str | None, device: str, progress: Progress, seed: int = 0
) -> tuple[list[tuple[Attempt, np.ndarray]], np.ndarray]:
    """About ``count`` gaps over the pack, each tried out in its own clip, with the true errors of the three methods and
    of the blends, (3 + 2 · shares, 2) in leg lengths and degrees; and the clip of each."""  # fmt: skip
    from ..priors import trial

    context = max(3, round(CONTEXT * fps))
    windows = cut(pack, fps, gap + 2 * context, count, seed)
    found = []
    clip, whole = -1, None
    for done, window in enumerate(windows):
        if window.clip != clip or whole is None:
            clip, whole = window.clip, resample(pack.decode(window.clip), fps)
        start, stop = window.start + context, window.start + context + gap
        attempt = trial.attempt(hide(whole, start, stop), start, stop, prior=prior, device=device)
        truth = trial.stacked([(whole.rotations[start:stop], whole.root[start:stop])])
        measure = trial.Measure(whole, attempt.hidden[start:stop])
        ours, *curves = attempt.gap
        fillings = [*attempt.gap, *(trial.mixed(ours, curve, share) for curve in curves for share in trial.SHARES)]
        found.append((attempt, np.concatenate([measure(filled, truth) for filled in fillings])))
        progress(f"gap {gap}", done + 1, len(windows))
    return found, clips_of(windows)


def calibration(
    found: list[tuple[Attempt, np.ndarray]], clips: np.ndarray, gap: int, fps: float, formula: Formula
) -> Report:
    """How near the predictions come, and whether blending pays. true, predicted: (N, 2) centimetres and degrees."""
    from ..priors.trial import CURVES, SHARES, judged

    names = ("ours", "bezier", "interpolation")
    true: dict[str, list[np.ndarray]] = {name: [] for name in (*names, "unblended")}
    predicted: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    blends, holes = [], []
    for attempt, errors in found:
        trial = judged(attempt, 0, 1, formula)
        errors = errors * [100 * attempt.leg, 1]
        row = len(names) + len(SHARES) * CURVES.index(trial.towards) + SHARES.index(trial.blend) if trial.blend else 0
        for name, place in (("ours", row), ("bezier", 1), ("interpolation", 2), ("unblended", 0)):
            true[name].append(errors[place])
        for name in names:
            expected = getattr(trial, name)
            predicted[name].append((expected.position_cm, expected.angle_deg))
        blends.append(trial.blend)
        holes.append(trial.holes)
    methods = {}
    for name in names:
        p, t = np.maximum(predicted[name], 1e-6), np.maximum(true[name], 1e-6)
        close = np.abs(p / t - 1) <= CLOSE
        methods[name] = {
            figure: {
                "close": float(close[:, k].mean()),
                "correlation": float(np.corrcoef(np.log(p[:, k]), np.log(t[:, k]))[0, 1]),
                "bias": float(np.median(p[:, k] / t[:, k])),
                "mean_predicted": float(p[:, k].mean()),
                "mean_true": float(t[:, k].mean()),
            }
            for k, figure in enumerate(FIGURES)
        }
    gain = {}
    for k, figure in enumerate(FIGURES):
        ours, plain = (Score(np.stack(true[n])[:, k], np.ones(len(clips))) for n in ("ours", "unblended"))
        gain[figure] = bootstrap_ratio(ours, plain, clips)
    return {
        "gap": gap,
        "fps": fps,
        "gaps": len(found),
        "clips": len(set(clips)),
        "holes": float(np.mean(holes)),
        "methods": methods,
        "blended": float(np.mean(np.array(blends) > 0)),
        "blended_to_unblended": gain,
        "scatter": {"predicted": predicted["ours"], "true": [tuple(e) for e in true["ours"]]},
    }


# --- command --------------------------------------------------------------------------------------------------------


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gaps", default="5,15,30,45", help="gap lengths in frames (default %(default)s)")
    parser.add_argument(
        "--fit",
        type=Path,
        metavar="FILE.json",
        help="fit the formula of usual errors on this pack first, and write it there; for training packs",
    )


def _measure(request: Request) -> Report:
    from ..priors.difficulty import Formula

    args = request.args
    if not request.ours:
        raise MotionError("A trial needs a prior to try out; leave --prior none out.")
    begun = time.process_time()
    tried = {
        gap: attempts(
            request.pack, gap, args.fps, args.windows or 120, request.prior, args.device, request.progress, request.seed
        )
        for gap in numbers(args.gaps, "--gaps")
    }
    seconds = (time.process_time() - begun) / sum(len(found) for found, _ in tried.values())
    if args.fit:
        both = [pair for found, _ in tried.values() for pair in found]
        features = np.concatenate([attempt.features for attempt, _ in both])
        errors = np.concatenate([part for attempt, own in both for part in (own[None, :3], attempt.errors)])
        Formula.fit(features, errors).save(args.fit)
    formula = Formula.load(args.fit) if args.fit else Formula.shipped()
    cases = [calibration(found, clips, gap, args.fps, formula) for gap, (found, clips) in tried.items()]
    return {"cases": cases, "processor_seconds_per_trial": seconds}


def _show(report: Mapping[str, Any], console: Console) -> None:
    from rich.table import Table

    table = Table(title=f"predicted error, within ±{100 * CLOSE:.0f} % of the true one", title_justify="left")
    for name in ("gap", "gaps", "clips", "holes", "method"):
        table.add_column(name)
    for name in ("position", "bias", "correlation", "angle", "bias", "correlation"):
        table.add_column(name, justify="right")
    for case in report["cases"]:
        for method, figures in case["methods"].items():
            cells = [
                cell
                for f in (figures[name] for name in FIGURES)
                for cell in (f"{100 * f['close']:.0f} %", f"{f['bias']:.2f}", f"{f['correlation']:.2f}")
            ]
            size = (case["gap"], case["gaps"], case["clips"], f"{case['holes']:.1f}")
            table.add_row(*map(str, size), method, *cells)
    console.print(table)
    for case in report["cases"]:
        ratio = ", ".join(f"{f} {r[0]:.3f} [{r[1]:.3f}, {r[2]:.3f}]" for f, r in case["blended_to_unblended"].items())
        console.print(f"gap {case['gap']}: {100 * case['blended']:.0f} % blended; error after / before: {ratio}")
    console.print(f"{report['processor_seconds_per_trial']:.2f} s of processor time per trial")


def _rows(report: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for case in report["cases"]:
        of: Row = {"gap": case["gap"], "fps": case["fps"]}
        for method, figures in case["methods"].items():
            for figure, values in figures.items():
                rows += [{**of, "figure": f"{figure}.{n}", "method": method, "value": v} for n, v in values.items()]
        for figure, (ratio, low, high) in case["blended_to_unblended"].items():
            rows.append({**of, "figure": f"{figure}.blended", "method": "ours", "value": ratio,
                         "ratio": ratio, "low": low, "high": high})  # fmt: skip
    return rows


def _draw(report: Mapping[str, Any], figure: Figure) -> None:
    """Every gap's prediction over its true error, and the band that counts as close."""
    figure.set_size_inches(12, 6)
    for k, (panel, name) in enumerate(zip(figure.subplots(1, 2), FIGURES, strict=True)):
        ends = []
        for case in report["cases"]:
            p, t = (np.array(case["scatter"][n])[:, k] for n in ("predicted", "true"))
            panel.plot(
                t,
                p,
                ".",
                alpha=0.6,
                label=f"{case['gap']} frames: {100 * case['methods']['ours'][name]['close']:.0f} %",
            )
            ends += [*t, *p]
        line = np.clip([min(ends), max(ends)], 1e-2, None)
        panel.plot(line, line, color="black", linewidth=0.8)
        panel.fill_between(line, (1 - CLOSE) * line, (1 + CLOSE) * line, color="black", alpha=0.1)
        panel.set(xscale="log", yscale="log", xlabel=f"true {name}", ylabel=f"predicted {name}")
        panel.legend()


TRIAL = Evaluation(
    "compare the error that a trial foretells with the true one", _add_arguments, _measure, _show, _rows, _draw
)
