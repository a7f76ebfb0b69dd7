"""``python -m mmdm_engine evaluate``: the evaluations there are, and what they share on the command line."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from ..contract import MotionError
from ..pack import Pack
from . import tables
from .calibration import CALIBRATION
from .completion import COMPLETION
from .detection import DETECTION
from .entry import Evaluation, Report, Request, Row
from .inbetween import INBETWEEN
from .refinement import REFINEMENT
from .trial import TRIAL

EVALUATIONS: dict[str, Evaluation] = {
    "inbetween": INBETWEEN,
    "completion": COMPLETION,
    "refine": REFINEMENT,
    "detect": DETECTION,
    "trial": TRIAL,
    "calibrate": CALIBRATION,
}
"""What can be measured; a new evaluation is one entry here."""

EXAMPLE = """examples:
  python -m mmdm_engine evaluate inbetween --data val.npz --gaps 5,15,30,45
  python -m mmdm_engine evaluate inbetween --data val.npz --gaps 60 --keys 5,10,20 --prior none
  python -m mmdm_engine evaluate inbetween --data val.npz --seeds 3 --csv table.csv --plot table.png
  python -m mmdm_engine evaluate completion --data val.npz --parts left_arm,left_leg --losses 45,all
  python -m mmdm_engine evaluate refine --data val.npz --tune-data train.npz --json
  python -m mmdm_engine evaluate detect --data val.npz --fps 60
  python -m mmdm_engine evaluate trial --data val.npz --plot scatter.png
  python -m mmdm_engine evaluate calibrate --data train.npz

evaluate TASK --help explains one of them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, evaluation in EVALUATIONS.items():
        text = f"{evaluation.summary[0].upper()}{evaluation.summary[1:]}."
        task = tasks.add_parser(name, help=evaluation.summary, description=text)
        _add_common(task, evaluation)
        evaluation.add_arguments(task)


def _add_common(parser: argparse.ArgumentParser, evaluation: Evaluation) -> None:
    parser.add_argument("--data", required=True, type=Path, metavar="PACK.npz", help="the pack to measure on")
    parser.add_argument("--fps", type=float, default=30.0, help="frame rate to measure at (default %(default)s)")
    parser.add_argument(
        "--windows", type=int, help="how many windows, evenly over the pack (default: enough for narrow bounds)"
    )
    parser.add_argument(
        "--prior", default="", metavar="NAME|PATH", help="a prior, or none for the baselines alone (default: shipped)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    if evaluation.rows:
        parser.add_argument(
            "--seeds", type=int, default=1, metavar="N",
            help="measure N times on other windows and noise; means and standard deviations over them",
        )  # fmt: skip
        parser.add_argument("--csv", type=Path, metavar="FILE", help="write every figure there, a line each")
    if evaluation.draw:
        parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the main figures there")


def run(args: argparse.Namespace) -> int:
    """Carry the command out; returns the exit status. Raises `MotionError` on bad input."""
    from rich.console import Console

    evaluation = EVALUATIONS[args.task]
    seeds = getattr(args, "seeds", 1)
    if not (math.isfinite(args.fps) and args.fps > 0):
        raise MotionError(f"--fps must be a positive number, not {args.fps}.")
    if args.windows is not None and args.windows < 1:
        raise MotionError(f"--windows must be at least 1, not {args.windows}.")
    if seeds < 1:
        raise MotionError(f"--seeds must be at least 1, not {seeds}.")
    report, rows = _measure(evaluation, args, seeds)
    if getattr(args, "csv", None):
        tables.write_csv(rows, args.csv)
    if getattr(args, "plot", None):
        _draw(evaluation, report, args.plot)
    if args.json:
        json.dump(tables.plain(report), sys.stdout, indent=1)
        sys.stdout.write("\n")
        return 0
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    evaluation.show(report, console)
    if seeds > 1:
        console.print(tables.seeds_table(report["over_seeds"]))
    prior = f", prior {report['prior']}" if report["prior"] else ""
    console.print(f"{report['data']}{prior} · {report['machine']} · {report['date']}")
    return 0


def _measure(evaluation: Evaluation, args: argparse.Namespace, seeds: int) -> tuple[Report, list[Row]]:
    """The first seed's report with the means over all of them, and every seed's rows."""
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    pack = Pack.load(args.data)
    ours = args.prior.lower() != "none" and evaluation.rows is not None
    tuned_on = getattr(args, "tune_data", None)
    report: Report = {
        "task": args.task, "data": args.data.name, "prior": (Path(args.prior).name or "shipped") if ours else None,
        "tuned_on": tuned_on.name if tuned_on else None, "machine": tables.machine(), "date": date.today().isoformat(),
    }  # fmt: skip
    bar = Bar(console=Console(stderr=True), transient=True)
    bars: dict[str, TaskID] = {}
    rows: list[Row] = []
    with bar:
        for seed in range(seeds):

            def progress(what: str, done: int, of: int, seed: int = seed) -> None:
                what = f"{what}, seed {seed}" if seeds > 1 else what
                if what not in bars:
                    bars[what] = bar.add_task(what, total=of)
                bar.update(bars[what], completed=done, total=of, visible=done < of)

            found = evaluation.measure(Request(pack, args, ours, progress, seed))
            if seed == 0:
                report |= found
            if evaluation.rows:
                rows += [{"seed": seed, **row} for row in evaluation.rows(found)]
    if seeds > 1:
        report["over_seeds"] = tables.over_seeds(rows)
    return report, rows


def _draw(evaluation: Evaluation, report: Mapping[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    assert evaluation.draw
    figure = Figure(layout="constrained")
    evaluation.draw(report, figure)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise MotionError(f"{path} cannot be drawn ({error}); give --plot a .png that can be written.") from error
