"""What each choice in the in-betweening prior buys: small networks, few steps, the same data, windows and seeds.

    python benchmarks/ablations.py --data train.npz --test val.npz [--only GROUP|NAME …] [--seeds 3] [--json]
    python benchmarks/ablations.py --data train.npz --test val.npz --size paper --steps 100000 --device cuda

An ablation is the reference with a few fields changed. Where sizes must be equal, the width is searched for: by
parameters, or by FLOPs per frame as torch counts them. Every (ablation, seed) that is done is kept in --cache and never
computed again, so the command can be stopped and repeated, and seeds can be added. Figures are ratios to interpolation
on gaps of one second at 30 fps in the test pack: below 1 is better than interpolation.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.encoders import flops  # noqa: E402
from mmdm_engine import MotionError  # noqa: E402
from mmdm_engine import rotations as rot  # noqa: E402
from mmdm_engine.evaluate import machine  # noqa: E402
from mmdm_engine.model.config import EncoderConfig, KAAConfig, Variant, to_dict  # noqa: E402
from mmdm_engine.model.encoder import Encoder  # noqa: E402
from mmdm_engine.pack import Pack  # noqa: E402
from mmdm_engine.priors import residual  # noqa: E402
from mmdm_engine.priors.network import InbetweenNetwork, parameters  # noqa: E402
from mmdm_engine.priors.store import choose_device  # noqa: E402
from mmdm_engine.training import corruption, losses  # noqa: E402
from mmdm_engine.training.clips import Clips  # noqa: E402
from mmdm_engine.training.loop import EMA, Recipe, learning_rate, training_attention  # noqa: E402
from mmdm_engine.training.tasks import InbetweenTask, gap_windows  # noqa: E402

GAP, CONTEXT, TEST_WINDOWS = 30, 12, 128
PREPARE_BATCHES = 30
SIZES: dict[str, tuple[int, int]] = {"tiny": (16, 2), "small": (32, 4), "medium": (96, 4), "paper": (512, 8)}
"""Width of the reference's tokens, and its rounds."""
ALL_LOSSES = losses.Weights()
STATE_ALONE = losses.Weights(state=1.0, rotation=0.0, position=0.0, velocity=0.0, acceleration=0.0, contact=0.0)
"""The loss of the paper (Eq. 8): nothing but what the network says."""
Read = tuple[str, int]
"""How a network is read: "raw" or "ema" weights, and the number of DDIM steps."""


# --- what is compared -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ablation:
    """One row of a table.

    about: what it shows. kaa: the network. options: of `InbetweenNetwork`. weights: of the loss. reads: how the trained
    network is read out; the first one is the row, more are rows of their own.
    """

    about: str
    kaa: KAAConfig
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: losses.Weights = ALL_LOSSES
    reads: tuple[Read, ...] = (("raw", 1),)


def _heads(width: int) -> tuple[int, int]:
    """Number and width of attention heads, together about as wide as the token: no width costs a leap."""
    heads = max(1, round(width / 32))
    return heads, 2 * round(width / (2 * heads))


def narrow(variant: Variant, rounds: int, width: int) -> KAAConfig:
    """The paper's form: pose token, where there is one, as wide as joint tokens."""
    heads = _heads(width)
    return KAAConfig(variant, rounds, width, width, *heads, *heads, 2 * width, 2 * width, rotary=True)


def wide(width: int) -> KAAConfig:
    """The product's form: a pose token eight times as wide as joint tokens, two rounds of two temporal blocks."""
    joint = max(4, 4 * round(width / 32))
    return KAAConfig(
        "kaa", 2, joint, width, *_heads(joint), *_heads(width), 2 * joint, 2 * width, temporal_blocks=2, rotary=True
    )


def pose_level(width: int) -> KAAConfig:
    """One token a frame, as many temporal blocks as `wide`."""
    return replace(wide(width), variant="pose")


@cache
def cost(kaa: KAAConfig) -> tuple[int, float]:
    """(parameters, FLOPs per frame) of the network around an aggregator; nothing is computed, only counted."""
    frames, config = corruption.FRAMES, _encoder_config(kaa)
    with torch.device("meta"):
        encoder = Encoder(config)
        features, state = torch.empty(1, frames, 22, config.features), torch.empty(1, frames, 22, config.state)
        clock = torch.zeros(1).long(), torch.zeros(1, frames), torch.ones(1)
        return parameters(encoder), flops(lambda: encoder(features, state, *clock)) / frames


def _encoder_config(kaa: KAAConfig) -> EncoderConfig:
    return EncoderConfig(kaa, InbetweenNetwork.FEATURES, residual.STATE, InbetweenNetwork.OUTPUTS)


def matched(family: Callable[[int], KAAConfig], like: KAAConfig, by: int) -> KAAConfig:
    """The member of a family of widths that comes closest to a network in parameters (by=0) or FLOPs (by=1)."""
    target, low, high = cost(like)[by], 2, 4
    while cost(family(4 * high))[by] < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(family(4 * middle))[by] < target else (low, middle)
    return min((family(4 * low), family(4 * high)), key=lambda kaa: abs(cost(kaa)[by] / target - 1))


def ablations(size: str) -> dict[str, dict[str, Ablation]]:
    """Groups of rows; the first row of a group is what the others are compared with. Equal rows are trained once."""
    width, rounds = SIZES[size]
    kaa = narrow("kaa", rounds, width)
    ours = matched(wide, kaa, by=1)
    passes: tuple[Read, ...] = (("raw", 1), ("ema", 1), ("raw", 8))
    return {
        "flops": {
            "kaa": Ablation("KAA, structure-first", kaa),
            "kaa_t": Ablation("KAA, trajectory-first", replace(kaa, variant="kaa_t")),
            "s_t_flops": Ablation("S&T, narrower", matched(lambda w: narrow("s_t", rounds, w), kaa, by=1)),
            "wide": Ablation("KAA, wide pose token", ours, reads=passes),
            "pose_flops": Ablation("pose-level", matched(pose_level, kaa, by=1)),
        },
        "parameters": {
            "kaa": Ablation("KAA, structure-first", kaa),
            "kaa_t": Ablation("KAA, trajectory-first", replace(kaa, variant="kaa_t")),
            "s_t": Ablation("S&T, same width", replace(kaa, variant="s_t")),
            "wide_parameters": Ablation("KAA, wide pose token", matched(wide, kaa, by=0)),
            "pose_parameters": Ablation("pose-level", matched(pose_level, kaa, by=0)),
        },
        "residual": {
            "wide": Ablation("residual over interpolation", ours, reads=passes),
            "plain": Ablation("the motion itself", ours, {"base": "rest"}),
        },
        "objective": {
            "signal": Ablation("signal, Eq. 8 alone", ours, weights=STATE_ALONE, reads=(passes[0], passes[-1])),
            "noise": Ablation("noise, Eq. 8 alone", ours, {"objective": "noise"}, STATE_ALONE, (passes[-1],)),
        },
        "rounds": {
            "kaa": Ablation(f"{rounds} rounds", kaa),
            "rounds_double": Ablation(f"{2 * rounds} rounds, same width", replace(kaa, rounds=2 * rounds)),
            "rounds_double_flops": Ablation(
                f"{2 * rounds} rounds, same FLOPs", matched(lambda w: narrow("kaa", 2 * rounds, w), kaa, by=1)
            ),
        },
    }


# --- one run --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """What every run gets."""

    steps: int
    batch_frames: int
    learning_rate: float
    device: str


class Bench:
    """The data, decoded once, and the residual scale, measured once: the same for every run."""

    def __init__(self, data: Path, test: Path, budget: Budget):
        self.budget = budget
        self.train = Clips(Pack.load(data), budget.device)
        self.test = Clips(Pack.load(test), budget.device, held_out=None)
        task = InbetweenTask({"kaa": to_dict(wide(32))}).to(budget.device)
        task.prepare(self.train, torch.Generator().manual_seed(0), PREPARE_BATCHES)
        self.scale, self.spread = task.network.scale.state_dict(), task.network.spread.state_dict()

    def run(self, row: Ablation, seed: int) -> dict[str, Any]:
        """Train one network and read it out in all its ways."""
        torch.manual_seed(seed)
        task = InbetweenTask({"kaa": to_dict(row.kaa), **row.options}).to(self.budget.device)
        task.network.scale.load_state_dict(self.scale)
        task.network.spread.load_state_dict(self.spread)
        task.weights = row.weights
        recipe = Recipe(learning_rate=self.budget.learning_rate)
        ema = EMA(task, recipe.ema)
        decayed = [p for p in task.parameters() if p.ndim > 1]
        plain = [p for p in task.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=recipe.learning_rate, betas=(0.9, 0.98),
        )  # fmt: skip
        begun = time.perf_counter()
        last = torch.zeros(())
        for step in range(self.budget.steps):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step / self.budget.steps, recipe)
            batch, windows = task.draw(self.train, self.budget.batch_frames, generator)
            optimizer.zero_grad()
            with training_attention(self.budget.device):
                loss = losses.total(task(batch, windows, generator), task.weights)
                loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
            if torch.isfinite(norm):
                optimizer.step()
                ema.update(task, step)
            last = loss.detach()
        seconds = (time.perf_counter() - begun) / self.budget.steps
        averaged = ema.module
        assert isinstance(averaged, InbetweenTask)
        networks = {"raw": task.eval().network, "ema": averaged.network}
        return {
            "seconds_per_step": seconds,
            "loss": float(last),
            "reads": {f"{which}_{steps}": self.score(networks[which], steps) for which, steps in row.reads},
        }

    @torch.no_grad()
    def score(self, network: InbetweenNetwork, steps: int) -> dict[str, float]:
        """Position error and angle in ratio to interpolation, over gaps of one second in the test pack."""
        generator = torch.Generator().manual_seed(1)
        frames, device = GAP + 2 * CONTEXT, self.test.device
        batch = self.test.sample(frames, torch.full((TEST_WINDOWS,), 30.0), generator, augment=False)
        observed = torch.ones((TEST_WINDOWS, frames, 23), dtype=torch.bool, device=device)
        observed[:, CONTEXT : CONTEXT + GAP] = False
        windows = gap_windows(batch, observed, network.scale)
        condition = network.condition(windows)
        found = residual.add(condition.base_rotations, condition.base_hips, network.sample(condition, steps, generator))
        base = condition.frame.enter(windows.rotations, windows.root)
        true = condition.frame.enter(batch.rotations, batch.root)

        def errors(motion: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            gap = slice(CONTEXT, CONTEXT + GAP)
            off = condition.frame.positions(*motion)[:, gap] - condition.frame.positions(*true)[:, gap]
            return off.norm(dim=-1).mean(), rot.angle(motion[0][:, gap], true[0][:, gap]).mean()

        ours, theirs = errors(found), errors(base)
        return {"position": float(ours[0] / theirs[0]), "angle": float(ours[1] / theirs[1])}


# --- the tables -----------------------------------------------------------------------------------------------------


def key(row: Ablation, seed: int, budget: Budget, data: Path, test: Path) -> str:
    """What decides a result, as a short name for the cache."""
    what = [to_dict(row.kaa), dict(row.options), asdict(row.weights), row.reads, seed, asdict(budget)]
    what += [data.name, test.name, GAP, PREPARE_BATCHES]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:20]


def chosen(groups: Mapping[str, Mapping[str, Ablation]], only: list[str]) -> dict[str, dict[str, Ablation]]:
    """The groups and rows that are asked for by name; all without names."""
    known = {*groups, *(name for rows in groups.values() for name in rows)}
    if unknown := [name for name in only if name not in known]:
        raise MotionError(f"There is no ablation {unknown[0]}; choose among {', '.join(sorted(known))}.")
    if not only:
        return {group: dict(rows) for group, rows in groups.items()}
    picked = {
        group: {name: row for name, row in rows.items() if group in only or name in only}
        for group, rows in groups.items()
    }
    return {group: rows for group, rows in picked.items() if rows}


def tabulate(
    groups: Mapping[str, Mapping[str, Ablation]], results: Mapping[tuple[str, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """One line per read-out of each row of each group, with means and standard deviations over the seeds there are."""
    lines = []
    for group, rows in groups.items():
        for name, row in rows.items():
            runs = [result for (of, _), result in results.items() if of == name]
            if not runs:
                continue
            count, work = cost(row.kaa)
            for which, steps in row.reads:
                scores = [run["reads"][f"{which}_{steps}"] for run in runs]
                line = {
                    "group": group, "name": name, "about": row.about, "weights": which, "ddim_steps": steps,
                    "parameters": count, "mflop_per_frame": work / 1e6, "seeds": len(runs),
                    "seconds_per_step": statistics.median(run["seconds_per_step"] for run in runs),
                }  # fmt: skip
                for figure in ("position", "angle"):
                    values = [score[figure] for score in scores]
                    line[figure] = statistics.mean(values)
                    line[f"{figure}_sd"] = statistics.stdev(values) if len(values) > 1 else None
                lines.append(line)
    return lines


def _figure(line: Mapping[str, Any], name: str) -> str:
    spread = line[f"{name}_sd"]
    return f"{line[name]:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")


def show(lines: list[dict[str, Any]]) -> None:
    """The tables, as text."""
    for i, line in enumerate(lines):
        if i == 0 or lines[i - 1]["group"] != line["group"]:
            head = f"{'M par.':>8}{'MFLOP/frame':>13}{'s/step':>8}{'position':>16}{'angle':>16}{'seeds':>7}"
            print(f"\n{line['group']:48}{head}")
        plain = (line["weights"], line["ddim_steps"]) == ("raw", 1)
        how = (
            "" if plain else f", {line['ddim_steps']} DDIM steps" if line["weights"] == "raw" else ", averaged weights"
        )
        print(
            f"  {line['about'] + how:46}{line['parameters'] / 1e6:8.3f}{line['mflop_per_frame']:13.2f}"
            f"{line['seconds_per_step']:8.2f}{_figure(line, 'position'):>16}{_figure(line, 'angle'):>16}"
            f"{line['seeds']:7}"
        )


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="PACK.npz", help="to train on")
    parser.add_argument("--test", type=Path, required=True, metavar="PACK.npz", help="to measure on: other people")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="groups or rows (default: all)")
    parser.add_argument("--size", choices=SIZES, default="small", help="of the reference (default %(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="training steps (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs per row (default %(default)s)")
    parser.add_argument("--batch-frames", type=int, default=504, help="frames per step (default %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="peak rate (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto (default %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch chooses)")
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "ablations.json", help="default %(default)s")
    parser.add_argument("--show", action="store_true", help="only show what the cache holds")
    parser.add_argument("--csv", type=Path, help="write the table here too")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        if args.steps < 1 or args.seeds < 1:
            raise MotionError("Steps and seeds must be at least 1; choose larger numbers.")
        budget = Budget(args.steps, args.batch_frames, args.learning_rate, choose_device(args.device))
        groups = chosen(ablations(args.size), args.only)
        results = run_all(groups, budget, args)
    except MotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = tabulate(groups, results)
    about = {
        "size": args.size, **asdict(budget), "data": args.data.name, "test": args.test.name,
        "threads": torch.get_num_threads(), "torch": torch.__version__, "machine": machine(),
        "date": date.today().isoformat(),
    }  # fmt: skip
    if args.csv and lines:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, lines[0])
            writer.writeheader()
            writer.writerows(lines)
    if args.json:
        print(json.dumps({**about, "rows": lines}))
        return 0
    show(lines)
    print(
        f"\n{args.size}, {budget.steps} steps of {budget.batch_frames} frames at {budget.learning_rate:g}; "
        f"{TEST_WINDOWS} windows of {args.test.name}, mean ± standard deviation over seeds · {budget.device}, "
        f"torch {about['torch']} · {about['machine']} · {about['date']}"
    )
    return 0


def run_all(
    groups: Mapping[str, Mapping[str, Ablation]], budget: Budget, args: argparse.Namespace
) -> dict[tuple[str, int], dict[str, Any]]:
    """Results by (row, seed): from the cache, the missing ones trained, all rows' first seed before any second one."""
    rows = {name: row for members in groups.values() for name, row in members.items()}
    stored: dict[str, Any] = json.loads(args.cache.read_text(encoding="utf-8")) if args.cache.is_file() else {}
    results: dict[tuple[str, int], dict[str, Any]] = {}
    bench: Bench | None = None
    for seed in range(args.seeds):
        for name, row in rows.items():
            place = key(row, seed, budget, args.data, args.test)
            if place not in stored and not args.show:
                bench = bench or Bench(args.data, args.test, budget)
                result = bench.run(row, seed)
                stored[place] = {"name": name, "seed": seed, **result}
                args.cache.parent.mkdir(parents=True, exist_ok=True)
                partial = args.cache.with_suffix(".partial")
                partial.write_text(json.dumps(stored, indent=1), encoding="utf-8")
                partial.replace(args.cache)
                print(f"seed {seed}  {name:22} {json.dumps(result)}", file=sys.stderr, flush=True)
            if place in stored:
                results[name, seed] = stored[place]
    return results


if __name__ == "__main__":
    sys.exit(main())
