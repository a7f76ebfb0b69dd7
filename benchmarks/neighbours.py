r"""In-betweening beside the systems that the paper compares with, all trained here on the same data: its Table V.

    python benchmarks/neighbours.py --data train.npz --test val.npz [--only mdm,inbetween_paper] [--seeds 3]
    python benchmarks/neighbours.py --data train.npz --test val.npz --gmd-scales 1,3,10,30
    python benchmarks/neighbours.py --data train.npz --test val.npz --size paper --steps 100000 --batch-frames 65536 \
        --longest 224 --device cuda

Every system is trained for the same number of steps on windows of the training pack and fills gaps of 30 frames of the
validation pack. All answers are turned into rotations and a root path and scored alike, on forward kinematics of the
true skeleton. What one seed gave is kept in --runs, so a table can be made piece by piece. The published rows were
measured on other data (BABEL-TEACH): compare ratios to interpolation, never the numbers themselves.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from mmdm_engine import Motion, MotionError  # noqa: E402
from mmdm_engine.evaluate import FILLERS, Fill, inbetween, machine, prior_filler  # noqa: E402
from mmdm_engine.evaluate.tables import over_seeds, plain, write_csv  # noqa: E402
from mmdm_engine.model.config import GENERATIVE  # noqa: E402
from mmdm_engine.pack import Pack  # noqa: E402
from mmdm_engine.priors.generative import GenerativeNetwork, Guidance  # noqa: E402
from mmdm_engine.priors.network import parameters  # noqa: E402
from mmdm_engine.priors.store import choose_device  # noqa: E402
from mmdm_engine.priors.transition import fill_many  # noqa: E402
from mmdm_engine.training.clips import Clips  # noqa: E402
from mmdm_engine.training.generative import GAP, GenerativeTask  # noqa: E402
from mmdm_engine.training.loop import EMA, Recipe, learning_rate, training_attention  # noqa: E402

FPS = 30.0
FIGURES = {"table5.l2p": "L2-P", "table5.l2q": "L2-Q", "table5.npss": "NPSS", "mpjpe_mm": "MPJPE", "angle_deg": "angle"}
PUBLISHED: dict[str, tuple[float, float, float]] = {
    "interpolation": (0.0764, 0.0497, 0.5501),
    "MDM": (0.2223, 0.1419, 1.1515),
    "GMD": (0.2499, 0.1109, 1.0820),
    "MDM* (S&T)": (0.2051, 0.1361, 1.2511),
    "MDM** (KAA)": (0.1800, 0.1198, 0.9100),
    "MMDM": (0.0607, 0.0358, 0.2757),
}
"""The paper's Table V: L2-P, L2-Q, NPSS on BABEL-TEACH."""
GRADIENT = 10.0
"""Scale of GMD's dense gradient; on tiny networks of three kinds, ten led the root nearer than three did."""


@dataclass(frozen=True)
class System:
    """A row. size: its network among `model.config.GENERATIVE`; emphasis replaces that of the size, None = as it is."""

    title: str
    size: str
    guidance: Guidance
    emphasis: float | None = None


IMPUTE = Guidance(impute=True)
SYSTEMS: dict[str, System] = {
    "mdm": System("MDM", "mdm", IMPUTE),
    "gmd": System("GMD", "gmd", Guidance(impute=True, gradient=GRADIENT)),
    "mdm_s_t": System("MDM* (S&T)", "mdm_s_t", IMPUTE),
    "mdm_kaa": System("MDM** (KAA)", "mdm_kaa", IMPUTE),
    "inbetween_paper": System("MMDM", "inbetween_paper", Guidance()),
    "inbetween_pose": System("context, pose tokens", "inbetween_pose", Guidance()),
    "inbetween_s_t": System("context, S&T", "inbetween_s_t", Guidance()),
}


def scale_sweep(scales: list[float]) -> dict[str, System]:
    """GMD at several emphasis scales, with imputation alone and with the dense gradient too, from the same weights."""
    out = {}
    for scale in scales:
        for gradient in (0.0, GRADIENT):
            title = f"GMD scale {scale:g}" + (", gradient" if gradient else "")
            guidance = Guidance(impute=True, gradient=gradient)
            out[f"gmd_{scale:g}_{gradient:g}"] = System(title, "gmd", guidance, scale)
    return out


@dataclass(frozen=True)
class Budget:
    """What all systems share. longest: frames of a training window; sampling: DDIM steps; windows: how many to score.

    close: root paths are led to the far side, alike for all.
    """

    size: str
    steps: int
    batch_frames: int
    longest: int
    learning_rate: float
    sampling: int
    windows: int
    close: bool

    def training(self) -> dict[str, Any]:
        """The part that decides the weights."""
        return {k: v for k, v in asdict(self).items() if k not in ("sampling", "windows", "close")}


def _key(*parts: Any) -> str:
    return hashlib.sha1(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


class Bench:
    """Packs, budget and the folder in which results are kept."""

    def __init__(self, data: Path, test: Path, runs: Path, budget: Budget, device: str):
        self.train, self.test = Pack.load(data), Pack.load(test)
        self.runs, self.budget, self.device = runs, budget, choose_device(device)
        self.runs.mkdir(parents=True, exist_ok=True)
        self._clips: Clips | None = None

    def _packs(self) -> tuple[str, str]:
        return self.train.path.name, self.test.path.name

    def about(self, system: System) -> dict[str, Any]:
        """The system's network, as a run describes it."""
        size = system.size + ("_small" if self.budget.size == "small" else "")
        about = GenerativeTask.configure(size, [], self.train, None)
        emphasis = about["emphasis"] if system.emphasis is None else system.emphasis
        return {**about, "emphasis": emphasis, "longest": self.budget.longest}

    def network(self, name: str, system: System, seed: int) -> tuple[GenerativeNetwork, dict[str, Any]]:
        """The trained network, from the folder or made now, and how long that took."""
        about = self.about(system)
        path = (
            self.runs / f"{system.size}-{_key(about, self.budget.training(), self.train.path.name, seed)}.safetensors"
        )
        task = GenerativeTask(about)
        if not path.exists():
            begun = time.perf_counter()
            task = self._train(about, seed, name)
            record = {"seconds": time.perf_counter() - begun, "seed": seed, "about": about, **self.budget.training()}
            path.with_suffix(".json").write_text(json.dumps(record))
            save_file({k: v.contiguous().cpu() for k, v in task.network.state_dict().items()}, path)
        task.network.load_state_dict(load_file(path))
        record = json.loads(path.with_suffix(".json").read_text())
        return task.network.to(self.device).eval().requires_grad_(False), record

    def _train(self, about: dict[str, Any], seed: int, name: str) -> GenerativeTask:
        torch.manual_seed(seed)
        task = GenerativeTask(about)
        if self._clips is None:  # all systems share one vocabulary, since they share the pack
            self._clips = Clips(self.train, self.device, label_ids=task.label_ids)
        task.to(self.device)
        task.prepare(self._clips, torch.Generator().manual_seed(0))
        recipe = Recipe(learning_rate=self.budget.learning_rate)
        ema = EMA(task, recipe.ema)
        optimizer = torch.optim.AdamW(task.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        total = 0.0
        for step in range(self.budget.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step / self.budget.steps, recipe)
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            batch, windows = task.draw(self._clips, self.budget.batch_frames, generator)
            optimizer.zero_grad()
            with training_attention(self.device):
                loss = task(batch, windows, generator)["state"]
                loss.backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
            optimizer.step()
            ema.update(task, step)
            total += float(loss.detach())
            if (step + 1) % 50 == 0:
                print(f"{name} seed {seed}: step {step + 1}, loss {total / 50:.4f}", file=sys.stderr, flush=True)
                total = 0.0
        out = copy.deepcopy(ema.module)
        assert isinstance(out, GenerativeTask)
        return out

    def figures(self, name: str, system: System, seed: int) -> list[dict[str, Any]]:
        """Rows (method, figure, value, ratio to interpolation, seed) of one system and seed."""
        path = (
            self.runs
            / f"figures-{_key(asdict(system), self.about(system), asdict(self.budget), seed, *self._packs())}.json"
        )
        if not path.exists():
            network, record = self.network(name, system, seed)

            def fill(motions: list[Motion], start: int, stop: int, keep: list[int]) -> list[Motion]:
                return fill_many(
                    network, motions, start, stop, keep=keep, steps=self.budget.sampling, seed=seed,
                    guidance=system.guidance, close=self.budget.close,
                )  # fmt: skip

            about = {"parameters": parameters(network), "training_s": record["seconds"]}
            path.write_text(json.dumps(self._score(system.title, fill, seed, about)))
        return list(json.loads(path.read_text()))

    def baselines(self, prior: bool) -> list[dict[str, Any]]:
        """Rows of what needs no training here."""
        fills = {k: v for k, v in FILLERS.items() if k != "interpolation"}
        if prior:
            fills["our shipped prior"] = prior_filler(None, self.device)
        rows = [row for name, fill in fills.items() for row in self._score(name, fill, 0, {})]
        first = [r for r in rows if r["method"] == next(iter(fills))]
        base = [{**r, "method": "interpolation", "value": r["value"] / r["ratio"], "ratio": 1.0} for r in first]
        return base + rows

    def _score(self, title: str, fill: Fill, seed: int, about: dict[str, Any]) -> list[dict[str, Any]]:
        methods = {"interpolation": FILLERS["interpolation"], title: fill}
        report = inbetween(self.test, GAP, FPS, self.budget.windows, methods=methods)
        about = {"seconds_per_window": report["seconds_per_window"][title], **about}
        rows = []
        for figure in FIGURES:
            entry = report["figures"][figure]
            value, ratio = entry["values"][title], entry["ratio_to_interpolation"][title][0]
            rows.append({"method": title, "figure": figure, "seed": seed, "value": value, "ratio": ratio, **about})
        return plain(rows)


def table_of(rows: list[dict[str, Any]]) -> Table:
    """One line per method: mean ± deviation over seeds, ratio to interpolation, and the published ratio."""
    spared = ("seconds_per_window", "training_s", "parameters")
    entries = over_seeds([{k: v for k, v in r.items() if k not in spared} for r in rows])
    table = Table(title=f"gaps of {GAP} frames at 30 fps", title_justify="left")
    table.add_column("system", no_wrap=True)
    table.add_column("seeds", justify="right")
    for title in ("L2-P", "L2-Q", "NPSS", "ratio P", "ratio Q", "ratio NPSS", "published ratios"):
        table.add_column(title, justify="right")

    def cell(mean: float, spread: float | None) -> str:
        return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"

    for method in dict.fromkeys(r["method"] for r in rows):
        mine = {e["figure"]: e for e in entries if e["method"] == method}
        first = [mine[f] for f in list(FIGURES)[:3]]
        published = "–"
        if method in PUBLISHED:
            pairs = zip(PUBLISHED[method], PUBLISHED["interpolation"], strict=True)
            published = " / ".join(f"{a / b:.2f}" for a, b in pairs)
        table.add_row(
            method, str(first[0]["seeds"]), *(cell(e["mean"], e["deviation"]) for e in first),
            *(cell(e["ratio_mean"], e["ratio_deviation"]) for e in first), published,
        )  # fmt: skip
    return table


def chosen(args: argparse.Namespace) -> dict[str, System]:
    """The systems that were asked for."""
    systems = dict(SYSTEMS)
    if args.gmd_scales:
        try:
            systems = scale_sweep([float(s) for s in args.gmd_scales.split(",")])
        except ValueError:
            raise MotionError(f"--gmd-scales takes numbers with commas, not {args.gmd_scales!r}.") from None
    if args.only:
        names = args.only.split(",")
        unknown = [n for n in names if n not in systems]
        if unknown:
            raise MotionError(f"There is no system {unknown[0]}; choose of {', '.join(systems)}.")
        systems = {n: systems[n] for n in names}
    return systems


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="PACK.npz", help="to train on")
    parser.add_argument("--test", type=Path, required=True, metavar="PACK.npz", help="to measure on")
    parser.add_argument("--size", choices=["small", "paper"], default="small")
    parser.add_argument("--steps", type=int, default=300, help="training steps (default %(default)s)")
    parser.add_argument("--batch-frames", type=int, default=800, help="frames per batch (default %(default)s)")
    parser.add_argument("--longest", type=int, default=80, help="frames of the longest window, 45 to 224")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--sampling", type=int, default=20, help="DDIM steps of 1000 (default %(default)s)")
    parser.add_argument("--windows", type=int, default=96, help="windows to score (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help=f"systems with commas, of {', '.join(SYSTEMS)}")
    parser.add_argument("--gmd-scales", help="instead, GMD at these emphasis scales, e.g. 1,3,10,30")
    parser.add_argument("--open", action="store_true", help="leave root paths where they end, not led to the far side")
    parser.add_argument("--no-prior", action="store_true", help="leave out our shipped prior")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "neighbours", help="where results are kept")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--csv", type=Path, help="write all rows here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    budget = Budget(
        args.size, args.steps, args.batch_frames, args.longest, args.learning_rate, args.sampling, args.windows,
        not args.open,
    )  # fmt: skip
    try:
        if args.seeds < 1 or args.steps < 1 or not 45 <= args.longest <= 224:
            raise MotionError("Give at least one seed and one step, and a --longest of 45 to 224 frames.")
        bench = Bench(args.data, args.test, args.runs, budget, args.device)
        rows = bench.baselines(not args.no_prior)
        for name, system in chosen(args).items():
            for seed in range(args.seeds):
                rows += bench.figures(name, system, seed)
        if args.csv:
            write_csv(rows, args.csv)
    except MotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report = {
        "budget": asdict(budget), "rows": rows, "published": PUBLISHED, "data": args.data.name, "test": args.test.name,
        "sizes": {n: asdict(GENERATIVE[n + ("_small" if args.size == "small" else "")]) for n in SYSTEMS},
        "device": bench.device, "machine": machine(), "date": date.today().isoformat(),
    }  # fmt: skip
    if args.json:
        json.dump(report, sys.stdout)
        sys.stdout.write("\n")
        return 0
    console = Console(width=170)
    console.print(table_of(rows))
    console.print(
        f"{args.steps} steps of {args.batch_frames} frames, {args.sampling} DDIM steps, trained on "
        f"{args.data.name}, measured on {args.test.name} · {bench.device} · {machine()} · {date.today().isoformat()}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
