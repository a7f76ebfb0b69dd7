"""How takes of one gap differ, and whether a filled gap's borders move as the clip itself does.

    python benchmarks/takes.py --data val.npz [--gap 30] [--takes 8] [--windows 48] [--json]

Diversity: mean distance of joints between pairs of takes. Quality: error of the one-pass take, of the mean, best and
worst of all takes, beside interpolation. Seams: the largest speed and acceleration of a joint in the three frames about
either border, as a share of the largest in the clip's own frames outside the gap; 1 is as lively as the clip ever is.
Last, whether the prior knows where it is unsure: takes are spread by how far its answer departs from interpolation.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from mmdm_engine import Motion, MotionError, fill_gap  # noqa: E402
from mmdm_engine import rotations as rot  # noqa: E402
from mmdm_engine.evaluate import FILLERS, Window, cut, machine  # noqa: E402
from mmdm_engine.evaluate.windows import hide  # noqa: E402
from mmdm_engine.kinematics import joint_positions  # noqa: E402
from mmdm_engine.metrics import BODY  # noqa: E402
from mmdm_engine.pack import Pack  # noqa: E402

CONTEXT = 1.0
"""Seconds of the clip on each side, from which its own speeds are taken."""


def liveliness(points: np.ndarray, order: int, fps: float) -> np.ndarray:
    """(T - order,) the fastest joint's speed (order 1) or acceleration (order 2), per second or second²."""
    return np.linalg.norm(np.diff(points, order, axis=0), axis=-1).max(axis=1) * fps**order


def seam(points: np.ndarray, truth: np.ndarray, start: int, stop: int, order: int, fps: float) -> float:
    """The liveliest moment about either border over the liveliest of the clip outside the gap."""
    own = liveliness(points, order, fps)
    true = liveliness(truth, order, fps)
    about = [i for border in (start, stop) for i in range(border - 1 - order, border + 1)]
    outside = np.concatenate([true[: start - order], true[stop:]])
    return float(own[about].max() / outside.max())


def turned(a: Motion, b: Motion, inside: slice) -> np.ndarray:
    """(B,) degrees, RMS over the gap, between two motions' local rotations of the joints that move others."""
    of = [m.rotations[inside][:, list(BODY)].astype(np.float64) for m in (a, b)]
    return np.degrees(np.sqrt(np.square(rot.angle(*of)).mean(axis=0)))


def measure_window(window: Window, start: int, stop: int, takes: int, prior: str | None) -> dict[str, Any]:
    """Figures of one gap; errors in millimetres."""
    motion, inside = window.motion, slice(start, stop)
    hidden = hide(motion, start, stop)
    made = fill_gap(hidden, start, stop, takes=takes, prior=prior, device="cpu")
    plain = FILLERS["interpolation"]([hidden], start, stop, [])[0]
    truth, straight = joint_positions(motion), joint_positions(plain)
    points = np.stack([joint_positions(m) for m in made])
    errors = 1000 * np.linalg.norm(points - truth, axis=-1)[:, inside].mean(axis=(1, 2))
    pairs = [
        1000 * np.linalg.norm(points[i, inside] - points[j, inside], axis=-1).mean()
        for i in range(1, takes)
        for j in range(1, i)
    ]
    return {
        "one_pass_mm": float(errors[0]), "mean_mm": float(errors[1:].mean()), "best_mm": float(errors.min()),
        "worst_mm": float(errors.max()),
        "interpolation_mm": float(1000 * np.linalg.norm(straight - truth, axis=-1)[inside].mean()),
        "diversity_mm": float(np.mean(pairs)),
        "turned": turned(made[0], plain, inside), "off": turned(made[0], motion, inside),
        **{
            f"{method}_{name}": seam(p, truth, start, stop, order, motion.fps)
            for method, p in (("ours", points[0]), ("interpolation", straight), ("truth", truth))
            for order, name in ((1, "speed"), (2, "acceleration"))
        },
    }  # fmt: skip


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="PACK.npz")
    parser.add_argument("--gap", type=int, default=30, help="frames to fill (default %(default)s)")
    parser.add_argument("--fps", type=float, default=30.0, help="default %(default)g")
    parser.add_argument("--takes", type=int, default=8, help="default %(default)s; the first is the one-pass take")
    parser.add_argument("--windows", type=int, default=48, help="default %(default)s")
    parser.add_argument("--prior", help="another in-betweening prior, by name or path")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    try:
        if args.takes < 3 or args.gap < 4:
            raise MotionError("Give at least three --takes and a --gap of at least four frames.")
        context = round(CONTEXT * args.fps)
        start, stop = context, context + args.gap
        windows = cut(Pack.load(args.data), args.fps, args.gap + 2 * context, args.windows)
        rows = []
        for done, window in enumerate(windows):
            print(f"\rgap {done + 1}/{len(windows)}", end="", file=sys.stderr, flush=True)
            rows.append(measure_window(window, start, stop, args.takes, args.prior))
        print(file=sys.stderr)
    except MotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    departure, error = (np.log(np.concatenate([r.pop(n) for r in rows]) + 0.01) for n in ("turned", "off"))
    names = list(rows[0])
    report = {
        "data": args.data.name, "gap": args.gap, "fps": args.fps, "takes": args.takes, "windows": len(rows),
        "machine": machine(), "date": date.today().isoformat(),
        "departure_and_error": float(np.corrcoef(departure, error)[0, 1]),
        "figures": {
            n: {"mean": float(np.mean([r[n] for r in rows])), "p95": float(np.quantile([r[n] for r in rows], 0.95))}
            for n in names
        },
    }  # fmt: skip
    if args.json:
        print(json.dumps(report))
        return 0
    table = Table(title=f"{args.takes} takes of gaps of {args.gap} frames at {args.fps:g} fps, {len(rows)} gaps")
    for title in ("", "mean", "95 % of gaps below"):
        table.add_column(title)
    for name, of in report["figures"].items():
        digits = 1 if name.endswith("_mm") else 2
        table.add_row(name.replace("_", " "), f"{of['mean']:.{digits}f}", f"{of['p95']:.{digits}f}")
    console = Console()
    console.print(table)
    console.print(
        "correlation over joints and gaps between how far the one-pass take departs from interpolation and its "
        f"error (angles, logarithms): {report['departure_and_error']:.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
