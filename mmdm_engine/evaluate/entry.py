"""What an evaluation is to the command: its arguments, its measurement, and how its report is shown."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..contract import MotionError
from ..pack import Pack

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Progress = Callable[[str, int, int], None]
"""Called with (what, done, of)."""
Report = dict[str, Any]
"""What a measurement found, ready for JSON but for NumPy numbers and NaN."""
Row = dict[str, str | int | float | None]
"""One figure of one method in a CSV: ``value``, where there are any ``ratio``, ``low`` and ``high``, and what it is
the value of (gap, figure, method …)."""


@dataclass(frozen=True)
class Request:
    """What the command hands to a measurement. ours: whether the prior is measured; seed: of windows and of noise."""

    pack: Pack
    args: argparse.Namespace
    ours: bool
    progress: Progress
    seed: int = 0

    @property
    def prior(self) -> str | None:
        """The prior's name or path; None = the shipped one."""
        return self.args.prior or None

    def tuning(self) -> Pack | None:
        """The training pack of ``--tune-data``."""
        return Pack.load(self.args.tune_data) if self.args.tune_data else None


@dataclass(frozen=True)
class Evaluation:
    """One word after ``evaluate``.

    rows: the report's figures for ``--csv`` and for means over ``--seeds``; draw: the report's picture for ``--plot``.
    Without them the options are not offered.
    """

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[Request], Report]
    show: Callable[[Mapping[str, Any], Console], None]
    rows: Callable[[Mapping[str, Any]], list[Row]] | None = None
    draw: Callable[[Mapping[str, Any], Figure], None] | None = None


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers with commas. Raises `MotionError` that names the option."""
    try:
        found = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [-1]
    if any(n < 1 for n in found):
        raise MotionError(f"{option} takes whole numbers with commas, like 5,15,30, not {text}.")
    return found
