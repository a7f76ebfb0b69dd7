"""The constants that the other evaluations keep, measured on a training pack."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..baselines import Filter
from . import noise
from .entry import Evaluation, Report, Request
from .figures import lafan1_deviation
from .refinement import tune_filters

if TYPE_CHECKING:
    from rich.console import Console


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    noise.add_arguments(parser)


def _measure(request: Request) -> Report:
    args = request.args
    _, spoil = noise.chosen(args)
    found = tune_filters(request.pack, args.fps, args.windows or 200, spoil, request.progress)
    filters = [{"kind": f.kind, "rotation": dict(f.rotation), "root": dict(f.root), "mpjpe_mm": e} for f, e in found]
    return {"filters": filters, "lafan1_deviation": np.round(lafan1_deviation(request.pack), 4).tolist()}


def _show(report: Mapping[str, Any], console: Console) -> None:
    for f in report["filters"]:
        console.print(f"{Filter(f['kind'], f['rotation'], f['root'])}: {f['mpjpe_mm']:.2f} mm")
    console.print("lafan1_deviation =", report["lafan1_deviation"])


CALIBRATION = Evaluation(
    "print the constants that the other tasks keep, from a training pack", _add_arguments, _measure, _show
)
