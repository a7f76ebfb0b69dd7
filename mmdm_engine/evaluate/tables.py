"""Reports as tables on the terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import MotionError
from .entry import Row

if TYPE_CHECKING:
    from rich.table import Table

MEASURED = ("value", "ratio", "low", "high", "seed")
"""The columns of a row that do not say what it is the value of."""


def machine() -> str:
    """The processor, its cores and the system, for the foot of a table."""
    name = platform.processor() or platform.machine()
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found.group(1).strip() if found else name
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def plain(value: Any) -> Any:
    """For JSON, which knows neither NumPy nor NaN."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


# --- rows -----------------------------------------------------------------------------------------------------------


def rows_of(figures: Mapping[str, Any], reference: str, **of: str | int | float | None) -> list[Row]:
    """A summary of `figures.summary` as rows. of: what it was measured on, alike in all of them."""
    rows: list[Row] = []
    for figure, entry in figures.items():
        for method, value in entry["values"].items():
            ratio, low, high = entry[f"ratio_to_{reference}"].get(method, (None, None, None))
            rows.append({**of, "figure": figure, "method": method, "value": value,
                         "ratio": ratio, "low": low, "high": high})  # fmt: skip
    return rows


def over_seeds(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Mean and standard deviation (of a sample) over the seeds, of the value and of the ratio where there is one."""
    groups: dict[tuple[tuple[str, Any], ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple((k, v) for k, v in row.items() if k not in MEASURED), []).append(row)
    out = []
    for key, group in groups.items():
        entry: dict[str, Any] = {**dict(key), "seeds": len(group)}
        for name, mean, spread in (("value", "mean", "deviation"), ("ratio", "ratio_mean", "ratio_deviation")):
            values = np.array([row[name] for row in group if row.get(name) is not None], np.float64)
            entry[mean] = float(values.mean()) if len(values) else None
            entry[spread] = float(values.std(ddof=1)) if len(values) > 1 else None
        out.append(entry)
    return out


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One line per row; what a row does not have stays empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(plain(list(rows)))
    except OSError as error:
        raise MotionError(f"{path} cannot be written ({error.strerror}); choose another place for --csv.") from error


# --- tables ---------------------------------------------------------------------------------------------------------


def bounds(ratio: Sequence[float], clips: int = 3) -> str:
    """With its bounds, which two clips cannot give."""
    return f"{ratio[0]:.3f} [{ratio[1]:.3f}, {ratio[2]:.3f}]" if clips > 2 else f"{ratio[0]:.3f}"


def figures_table(title: str, figures: Mapping[str, Any], reference: str) -> Table:
    """Every figure of every method, and the last method's ratio to the reference."""
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
        cells = [f"{v:.4g}" for v in entry["values"].values()] + [bounds(entry[f"ratio_to_{reference}"][compared])]
        if "ours" in methods:
            cells.append(f"{entry['ours_to_best'][0]:.3f} ({entry['best_baseline']})")
        table.add_row(name, *cells)
    return table


def category_table(categories: Mapping[str, Any], reference: str) -> Table:
    """The last method's ratio to the reference, by kind of movement."""
    from rich.table import Table

    first = next(iter(categories.values()))
    names, methods = list(first["values"]), list(next(iter(first["values"].values())))
    compared = methods[-1]
    table = Table(title=f"{compared} / {reference} by kind of movement", title_justify="left")
    for column in ("kind", "clips", "windows", *names):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind, entry in categories.items():
        ratios = [bounds(entry[f"ratio_to_{reference}"][n][compared], entry["clips"]) for n in names]
        table.add_row(kind, str(entry["clips"]), str(entry["windows"]), *ratios)
    return table


def seeds_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """Mean ± standard deviation of every row of `over_seeds`."""
    from rich.table import Table

    def cell(mean: float | None, spread: float | None) -> str:
        return "" if mean is None else f"{mean:.4g}" if spread is None else f"{mean:.4g} ± {spread:.2g}"

    table = Table(title=f"mean ± standard deviation over {entries[0]['seeds']} seeds", title_justify="left")
    spared = ("seeds", "mean", "deviation", "ratio_mean", "ratio_deviation")
    names = [n for n in entries[0] if n not in spared and any(e[n] is not None for e in entries)]
    for name in names:
        table.add_column(name, no_wrap=True)
    table.add_column("value", justify="right")
    table.add_column("ratio", justify="right")
    for entry in entries:
        table.add_row(
            *("" if entry[n] is None else str(entry[n]) for n in names),
            cell(entry["mean"], entry["deviation"]),
            cell(entry["ratio_mean"], entry["ratio_deviation"]),
        )
    return table
