"""How the in-betweening prior's quality and time depend on the number of sampling steps.

    python benchmarks/sampling.py --data val.npz [--steps 1,2,4,10,50] [--windows 64] [--json] [--csv F] [--plot F.png]

One step is the deterministic read-out from the last step. More are DDIM from seeded noise, and ancestral sampling
(DDPM) through all of them: takes that differ from seed to seed. Gaps of one second at 30 fps, evenly over the pack;
ratios are to interpolation on the same windows, below 1 is better.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from mmdm_engine import Motion, MotionError  # noqa: E402
from mmdm_engine.evaluate import FILLERS, Fill, inbetween, machine  # noqa: E402
from mmdm_engine.pack import Pack  # noqa: E402
from mmdm_engine.priors.inbetween import finish, hidden_by, load_network  # noqa: E402
from mmdm_engine.priors.network import InbetweenNetwork  # noqa: E402
from mmdm_engine.priors.solve import Job, solve  # noqa: E402

FIGURES = ("table5.l2p", "table5.l2q", "table5.npss", "mpjpe_mm", "angle_deg")
Sampler = tuple[str, int]
"""("ddim" or "ddpm", steps)."""


def filler(network: InbetweenNetwork, sampler: Sampler, seed: int) -> Fill:
    """The prior as a method of in-betweening, read out in one way; without the foot lock, which hides differences."""
    kind, steps = sampler

    def fill(motions: list[Motion], start: int, stop: int, keep: list[int]) -> list[Motion]:
        jobs = [Job(m, hidden_by(m, start, stop, keep or None, None, False)) for m in motions]
        sample = partial(network.sample, eta=1.0) if kind == "ddpm" else network.sample
        with mock.patch.object(network, "sample", sample):
            answers = solve(network, jobs, steps=steps, seed=seed)
        return [finish(j.motion, j.hidden, *a, lock_feet=False) for j, a in zip(jobs, answers, strict=True)]

    return fill


def samplers(steps: list[int], last: int) -> list[Sampler]:
    """DDIM at each number of steps; DDPM where all ``last`` steps are taken."""
    if unusable := [n for n in steps if not 1 <= n <= last]:
        raise MotionError(f"The prior has {last} steps, so {unusable[0]} cannot be taken; choose 1 to {last}.")
    return [("ddim", n) for n in steps] + ([("ddpm", last)] if last in steps else [])


def measure(
    pack: Pack,
    network: InbetweenNetwork,
    chosen: list[Sampler],
    *,
    gap: int = 30,
    fps: float = 30.0,
    windows: int = 64,
    seeds: int = 1,
    tick: Callable[[str, int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """One line per sampler: seconds per window, each figure and its ratio, means over seeds and their spread."""
    reports = []
    for seed in range(seeds):
        repeat = [s for s in chosen if seed == 0 or s[1] > 1]  # one step has nothing to draw
        methods = {"interpolation": FILLERS["interpolation"]}
        methods |= {f"{kind} {steps}": filler(network, (kind, steps), seed) for kind, steps in repeat}
        reports.append(inbetween(pack, gap, fps, windows, methods=methods, progress=tick))
    lines = []
    for kind, steps in chosen:
        name = f"{kind} {steps}"
        mine = [r for r in reports if name in r["seconds_per_window"]]
        line: dict[str, Any] = {
            "sampler": kind, "steps": steps, "seeds": len(mine), "windows": reports[0]["windows"],
            "seconds_per_window": statistics.median(r["seconds_per_window"][name] for r in mine),
        }  # fmt: skip
        for figure in FIGURES:
            values = [r["figures"][figure]["values"][name] for r in mine]
            ratios = [r["figures"][figure]["ratio_to_interpolation"][name] for r in mine]
            line[figure] = statistics.mean(values)
            line[f"{figure}_ratio"] = statistics.mean(r[0] for r in ratios)
            line[f"{figure}_ratio_sd"] = statistics.stdev(r[0] for r in ratios) if len(ratios) > 1 else None
            line[f"{figure}_ratio_low"], line[f"{figure}_ratio_high"] = ratios[0][1:]
        lines.append(line)
    return lines


def plot(lines: list[dict[str, Any]], path: Path) -> None:
    """Ratios, and seconds per window, against steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    ddim = [line for line in lines if line["sampler"] == "ddim"]
    steps = [line["steps"] for line in ddim]
    for name in FIGURES:
        points = left.plot(steps, [line[f"{name}_ratio"] for line in ddim], marker=".", label=name)
        for line in lines:
            if line["sampler"] == "ddpm":
                left.plot(line["steps"], line[f"{name}_ratio"], marker="x", color=points[0].get_color())
    right.plot(steps, [line["seconds_per_window"] for line in ddim], marker=".")
    left.axhline(1, color="grey", linewidth=0.5)
    left.set(xscale="log", xlabel="steps (DDIM; cross: DDPM)", ylabel="ratio to interpolation")
    right.set(xscale="log", yscale="log", xlabel="steps", ylabel="seconds per window")
    left.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="PACK.npz", help="to measure on")
    parser.add_argument("--prior", help="another in-betweening prior, by name or path")
    parser.add_argument("--steps", default="1,2,4,10,50", help="numbers of steps (default %(default)s)")
    parser.add_argument("--gap", type=int, default=30, help="frames to fill (default %(default)s)")
    parser.add_argument("--fps", type=float, default=30.0, help="default %(default)g")
    parser.add_argument("--windows", type=int, default=64, help="default %(default)s")
    parser.add_argument("--seeds", type=int, default=1, help="draws of each sampler (default %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch chooses)")
    parser.add_argument("--csv", type=Path, help="write the table here too")
    parser.add_argument("--plot", type=Path, help="draw the table here, e.g. sampling.png")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    def tick(what: str, done: int, of: int) -> None:
        print(f"\r{what} {done}/{of}      ", end="", file=sys.stderr, flush=True)

    try:
        steps = sorted({int(word) for word in args.steps.split(",")})
    except ValueError:
        parser.error("--steps takes whole numbers with commas between them, e.g. 1,4,50")
    try:
        if args.seeds < 1 or args.windows < 1:
            raise MotionError("Seeds and windows must be at least 1; choose larger numbers.")
        network = load_network(args.prior, args.device)
        lines = measure(
            Pack.load(args.data), network, samplers(steps, network.schedule.steps), gap=args.gap, fps=args.fps,
            windows=args.windows, seeds=args.seeds, tick=tick,
        )  # fmt: skip
    except MotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(file=sys.stderr)
    about = {
        "data": args.data.name, "prior": args.prior or "inbetween", "gap": args.gap, "fps": args.fps,
        "device": next(network.parameters()).device.type, "threads": torch.get_num_threads(),
        "torch": torch.__version__, "machine": machine(), "date": date.today().isoformat(),
    }  # fmt: skip
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, lines[0])
            writer.writeheader()
            writer.writerows(lines)
    if args.plot:
        plot(lines, args.plot)
    if args.json:
        print(json.dumps({**about, "rows": lines}))
        return 0
    print(f"{'':12}{'s/window':>10}" + "".join(f"{name.removeprefix('table5.'):>17}" for name in FIGURES))
    for line in lines:
        cells = []
        for name in FIGURES:
            spread = line[f"{name}_ratio_sd"]
            cells.append(f"{line[f'{name}_ratio']:.3f}" + (f" ± {spread:.3f}" if spread is not None else ""))
        name = f"{line['sampler'].upper()} {line['steps']}"
        print(f"{name:12}{line['seconds_per_window']:10.4f}" + "".join(f"{cell:>17}" for cell in cells))
    print(
        f"ratios to interpolation, {args.gap} frames at {args.fps:g} fps, {lines[0]['windows']} windows of "
        f"{about['data']}, {args.seeds} seeds · {about['device']}, {about['threads']} threads, "
        f"torch {about['torch']} · {about['machine']} · {about['date']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
