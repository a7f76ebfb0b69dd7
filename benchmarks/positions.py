"""Completion and refinement of joint positions: the paper's priors, their ablations and neighbours, trained alike.

    python benchmarks/positions.py --data train.npz --val val.npz                  # small sizes, a CPU, three seeds
    python benchmarks/positions.py --data train.npz --val val.npz --only kaa,d_mae --seeds 1
    python benchmarks/positions.py --data train.npz --val val.npz --size completion_normal --steps 150000 \\
        --batch 128 --device cuda                                                  # the paper's size

Every system is trained from nothing for the same number of steps: ``--steps`` of Pattern A at 0.5, half as many of
Pattern C at 0.3, and for refinement half as many more. Then it completes and refines takes of subjects it has not seen.
What is trained and measured is kept in ``--runs``, one file for each system and seed, so that the command can be
stopped and goes on where it was. Our inputs are not the paper's: CMU motion with made-up occlusions and Gaussian noise
here, triangulated people on Shelf there. Compare the ratios before → after, not the millimetres.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from mmdm_engine import MotionError, baselines, metrics  # noqa: E402
from mmdm_engine.evaluate import machine  # noqa: E402
from mmdm_engine.joint_sets import SMPL22  # noqa: E402
from mmdm_engine.masking import pattern_a, pattern_c  # noqa: E402
from mmdm_engine.model.config import MASKED, SMOOTHNETS  # noqa: E402
from mmdm_engine.pack import Pack  # noqa: E402
from mmdm_engine.priors.masked import PositionsNetwork, SmoothNetwork, interpolate_positions  # noqa: E402
from mmdm_engine.priors.network import parameters  # noqa: E402
from mmdm_engine.priors.positions import complete_positions, refine_positions  # noqa: E402
from mmdm_engine.training import losses  # noqa: E402
from mmdm_engine.training.clips import Clips  # noqa: E402
from mmdm_engine.training.loop import training_attention  # noqa: E402
from mmdm_engine.training.positions import POSITION_TASKS, joint_positions, occlusion_weights  # noqa: E402
from mmdm_engine.training.tasks import PriorTask  # noqa: E402

FPS = 30.0
FRAMES = 90
ARM = (16, 18, 20)
NOISES = (0.05, 0.10)
RATE = 4e-4
FORMAT = 1
"""Raised when what is measured changes, so that older results are not mixed in."""

Figures = dict[str, float]


@dataclass(frozen=True)
class System:
    """A row: fields that differ from the paper's form, and what for; pretrain: whether Pattern A comes first."""

    about: str
    sets: tuple[str, ...] = ()
    pretrain: bool = True
    refines: bool = True


SYSTEMS: dict[str, System] = {
    "kaa": System("ours: KAA structure-first, x0 objective, pose centroid"),
    "kaa_t": System("KAA trajectory-first", ("variant=kaa_t",)),
    "s_t": System("S&T cascade", ("variant=s_t",)),
    "s": System("structure only", ("variant=s",)),
    "t": System("time only", ("variant=t",)),
    "d_mae": System("D-MAE: no diffusion", ("diffusion=false",)),
    "noise_objective": System("noise instead of signal", ("objective=noise",)),
    "gaussian_start": System("refinement trained on Gaussian noise only", ("process=gaussian",)),
    "hip": System("hip instead of centroid", ("reference=hip",)),
    "window_centroid": System("one centroid a window", ("scope=window",)),
    "no_yaw": System("no yaw augmentation", ("yaw=false",), refines=False),
    "no_flip": System("no flip augmentation", ("flip=false",), refines=False),
    "no_pretrain": System("Pattern C from the start", pretrain=False, refines=False),
    "pattern_b": System("Pattern B instead of C", ("pattern=b",), refines=False),
    "ratio_0.5": System("half of the joints hidden in fine-tuning", ("ratio=0.5",), refines=False),
    "residual": System("ours, not the paper's: residual over the base", ("residual=true", "scope=window")),
}

DRILL_ONLY = ("pattern=", "ratio=", "process=")
"""What changes the fine-tuning alone."""

PUBLISHED = [
    ("noise 5 cm", "SmoothNet", 79.3, 67.4, 305.8, 131.3),
    ("noise 5 cm", "VPoser-t", 79.3, 70.9, 305.8, 165.9),
    ("noise 5 cm", "HuMoR", 79.3, 63.4, 305.8, 134.4),
    ("noise 5 cm", "MMDM", 79.3, 60.2, 305.8, 132.1),
    ("noise 10 cm", "SmoothNet", 107.5, 94.2, 418.4, 183.8),
    ("noise 10 cm", "VPoser-t", 107.5, 100.1, 418.4, 271.5),
    ("noise 10 cm", "HuMoR", 107.5, 89.4, 418.4, 190.7),
    ("noise 10 cm", "MMDM", 107.5, 84.2, 418.4, 175.7),
]
"""Table IV of the paper, refinement on Shelf: noise, method, MPJPE before and after (mm), Accel before and after."""


@dataclass(frozen=True)
class Trials:
    """Takes to measure on: truth (P, T, 22, 3) metres, and what is done to it. masks (P, T, 22) True = visible."""

    truth: np.ndarray
    masks: dict[str, np.ndarray]
    noisy: dict[str, np.ndarray]


def make_trials(pack: Pack, takes: int, seed: int = 7) -> Trials:
    """Takes of three seconds, the same for every system."""
    generator = torch.Generator().manual_seed(seed)
    clips = Clips(pack, held_out=None)
    batch = clips.sample(FRAMES, torch.full((takes,), FPS), generator, augment=False)
    truth = joint_positions(batch, SMPL22)
    arm = torch.ones(truth.shape[:3], dtype=torch.bool)
    arm[:, 30:60, list(ARM)] = False
    masks = {
        "pattern_a_0.5": ~pattern_a((takes, FRAMES, 22), 0.5, generator),
        "pattern_c_0.3": ~pattern_c(occlusion_weights(truth, truth, generator), 0.3, generator),
        "arm_30_frames": arm,
    }
    noisy = {f"{100 * s:g}cm": truth + s * torch.randn(truth.shape, generator=generator) for s in NOISES}
    return Trials(
        truth.numpy(), {k: v.numpy() for k, v in masks.items()}, {k: v.numpy() for k, v in noisy.items()}
    )  # fmt: skip


def completion_figures(fill: Callable[[np.ndarray, np.ndarray], np.ndarray], trials: Trials) -> Figures:
    """MPJPE of hidden joints, mm."""
    out = {}
    for name, visible in trials.masks.items():
        filled = fill(np.where(visible[..., None], trials.truth, np.nan).astype(np.float32), visible)
        out[f"{name}_mm"] = float(1000 * np.linalg.norm(filled - trials.truth, axis=-1)[~visible].mean())
    return out


def refinement_figures(clean: Callable[[np.ndarray], np.ndarray], trials: Trials) -> Figures:
    """MPJPE and Accel of all joints, mm and mm per frame²."""
    out = {}
    for name, noisy in trials.noisy.items():
        refined = clean(noisy)
        out[f"{name}_mpjpe_mm"] = metrics.mpjpe(refined, trials.truth).value
        out[f"{name}_accel_mm"] = metrics.accel(refined, trials.truth).value
    return out


def optimise(task: PriorTask, clips: Clips, steps: int, batch_frames: int, seed: int) -> None:
    """AdamW with warm-up and cosine decay, as the training loop has it, for a fixed number of steps."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(task.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.01)
    task.train()
    for step in range(steps):
        share = step / steps
        rate = min((step + 1) / max(1, steps // 20), 0.02 + 0.49 * (1 + np.cos(np.pi * share)))
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate
        optimizer.zero_grad()
        with training_attention(clips.device):
            loss = losses.total(task(*task.draw(clips, batch_frames, generator), generator), task.weights)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
    task.eval()


def stage(name: str, args: argparse.Namespace, system: System, before: PriorTask | None) -> PriorTask:
    """A task of one stage, with the weights of the stage before."""
    kind = POSITION_TASKS[name]
    first = name == "positions_pretrain"
    sets = ["rates=30", *(s for s in system.sets if not (first and s.startswith(DRILL_ONLY)))]
    task = kind(kind.configure(args.size, sets, args.pack, None)).to(args.device)
    if before is not None:
        task.network.load_state_dict(before.network.state_dict())
    return task


def measure_system(name: str, seed: int, args: argparse.Namespace, trials: Trials) -> dict[str, object]:
    """Train one system with one seed through its stages; its figures."""
    system = SYSTEMS[name]
    torch.manual_seed(seed)
    begun = time.monotonic()
    task: PriorTask | None = None
    if system.pretrain:
        task = stage("positions_pretrain", args, system, None)
        task.prepare(args.clips, torch.Generator().manual_seed(seed))
        optimise(task, args.clips, args.steps, args.batch * 10, seed)
    before, task = task, stage("positions_completion", args, system, task)
    if before is None:
        task.prepare(args.clips, torch.Generator().manual_seed(seed))
    optimise(task, args.clips, args.steps // 2 + (0 if before else args.steps), args.batch * 10, seed + 1000)
    network = task.network
    assert isinstance(network, PositionsNetwork)
    completion = completion_figures(lambda p, v: complete_positions(p, v, network, fps=FPS), trials)
    result: dict[str, object] = {"parameters": parameters(network), "completion": completion}
    if system.refines:
        task = stage("positions_refinement", args, system, task)
        optimise(task, args.clips, args.steps // 2, args.batch * 10, seed + 2000)
        refiner = task.network
        assert isinstance(refiner, PositionsNetwork)
        result["refinement"] = refinement_figures(lambda p: refine_positions(p, refiner, fps=FPS), trials)
        if name == "kaa":
            for steps in (50, 10, 5, 1):
                clock = time.monotonic()
                count = min(steps, refiner.config.steps)
                figures = refinement_figures(lambda p, n=count: refine_positions(p, refiner, fps=FPS, steps=n), trials)
                frames = len(trials.noisy) * trials.truth.shape[0] * FRAMES
                result[f"refinement_ddim_{steps}"] = {
                    **figures, "frames_per_second": frames / (time.monotonic() - clock)
                }  # fmt: skip
    return {**result, "seconds": time.monotonic() - begun}


def measure_smoothnet(size: str, seed: int, args: argparse.Namespace, trials: Trials) -> dict[str, object]:
    """SmoothNet on the same data, for as many steps in all."""
    torch.manual_seed(seed)
    begun = time.monotonic()
    kind = POSITION_TASKS["smoothnet"]
    task = kind(kind.configure(size, [], args.pack, None)).to(args.device)
    task.drill = replace(task.drill, rates="30")
    optimise(task, args.clips, 2 * args.steps, args.batch * 32, seed)
    network = task.network
    assert isinstance(network, SmoothNetwork)
    figures = refinement_figures(lambda p: refine_positions(p, network, stride=4), trials)
    return {"parameters": parameters(network), "refinement": figures, "seconds": time.monotonic() - begun}


def interpolation(positions: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Linear in time; what never shows in a take lies at the centroid of what does."""
    base, known = interpolate_positions(torch.from_numpy(np.nan_to_num(positions)), torch.from_numpy(visible))
    centre = (base * known[:, None, :, None]).sum(2, keepdim=True) / known.sum(1)[:, None, None, None]
    return torch.where(known[:, None, :, None], base, centre).numpy()


def tuned_filter(kind: str, train: Trials, trials: Trials) -> dict[str, object]:
    """The setting of one classical filter that is best in MPJPE over both noises on training takes, measured here."""

    def apply(settings: dict[str, float], positions: np.ndarray) -> np.ndarray:
        paths = positions.transpose(0, 2, 1, 3)
        return baselines.Filter(kind, settings, settings).apply_root(paths, FPS).transpose(0, 2, 1, 3)

    def error(settings: dict[str, float]) -> float:
        return sum(metrics.mpjpe(apply(settings, p), train.truth).value for p in train.noisy.values())

    best = min(baselines.grid(kind), key=error)
    return {"settings": best, "refinement": refinement_figures(lambda p: apply(best, p), trials)}


def cached(args: argparse.Namespace, name: str, seed: int, make: Callable[[], dict[str, object]]) -> dict[str, object]:
    """What was measured before under the same conditions, else a new measurement, kept."""
    about = {
        "format": FORMAT, "name": name, "seed": seed, "size": args.size, "steps": args.steps, "batch": args.batch,
        "takes": args.takes, "data": args.data.name, "val": args.val.name, "config": repr(MASKED[args.size]),
        "system": repr(SYSTEMS.get(name)),
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    path = args.runs / f"{name}_{seed}_{key}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))["result"]
    print(f"{name}, seed {seed} …", file=sys.stderr, flush=True)
    result = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about, "result": result}, indent=1), encoding="utf-8")
    return result


def summarise(name: str, about: str, runs: list[dict[str, object]]) -> list[dict[str, object]]:
    """One row a task: means and standard deviations over seeds."""
    rows: list[dict[str, object]] = []
    for task in runs[0]:
        if not task.startswith(("completion", "refinement")):
            continue
        figures = [r[task] for r in runs]
        row: dict[str, object] = {"system": name, "about": about, "task": task, "seeds": len(runs)}
        row["parameters"] = runs[0].get("parameters")
        for figure in figures[0]:  # type: ignore[attr-defined]
            values = [f[figure] for f in figures]  # type: ignore[index]
            row[figure] = {
                "mean": float(np.mean(values)),
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            }
        rows.append(row)
    return rows


def measure(args: argparse.Namespace) -> list[dict[str, object]]:
    """All rows that are asked for."""
    trials = make_trials(Pack.load(args.val), args.takes)
    train_trials = make_trials(args.pack, args.takes, seed=8)
    rows: list[dict[str, object]] = []
    known = ["baselines", *SYSTEMS, *SMOOTHNETS]
    wanted = args.only.split(",") if args.only else known
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise MotionError(f"There is no system {unknown[0]}; choose from {', '.join(known)}.")
    if "baselines" in wanted:
        nothing = {"completion": completion_figures(interpolation, trials)}
        rows += summarise("interpolation", "linear in time over the whole take", [nothing])
        rows += summarise("input", "as it is", [{"refinement": refinement_figures(lambda p: p, trials)}])
        for kind in baselines.FILTERS:
            tuned = tuned_filter(kind, train_trials, trials)
            rows += summarise(kind, f"tuned on training takes: {tuned['settings']}", [tuned])
    for name in wanted:
        if name == "baselines":
            continue
        about = SYSTEMS[name].about if name in SYSTEMS else "temporal MLP"
        one = measure_system if name in SYSTEMS else measure_smoothnet
        runs = [
            cached(args, name, s, lambda n=name, s=s, one=one: one(n, s, args, trials)) for s in range(args.seeds)
        ]  # fmt: skip
        rows += summarise(name, about, runs)
    return rows


def text(value: object) -> str:
    """mean ± sd, or a plain cell."""
    if isinstance(value, dict):
        return f"{value['mean']:.1f}" + (f" ± {value['sd']:.1f}" if value["sd"] is not None else "")
    return "" if value is None else str(value)


def show(rows: list[dict[str, object]]) -> None:
    """Markdown tables, and the published one below."""
    for task in ("completion", "refinement"):
        mine = [r for r in rows if str(r["task"]).startswith(task)]
        if not mine:
            continue
        figures = [k for k, v in mine[0].items() if isinstance(v, dict)]
        extra = [k for r in mine for k, v in r.items() if isinstance(v, dict) and k not in figures]
        figures += sorted(set(extra))
        print(f"\n| {task} | " + " | ".join(figures) + " |\n|---|" + "---|" * len(figures))
        for row in mine:
            label = str(row["system"]) + str(row["task"]).removeprefix(task).replace("_", " ")
            print(f"| {label} | " + " | ".join(text(row.get(f)) for f in figures) + " |")
    print("\nPublished, Shelf, other inputs (Table IV): MPJPE and Accel before → after\n")
    print("| noise | method | MPJPE mm | ratio | Accel | ratio |\n|---|---|---|---|---|---|")
    for noise, method, a, b, c, d in PUBLISHED:
        print(f"| {noise} | {method} | {a} → {b} | {b / a:.2f} | {c} → {d} | {d / c:.2f} |")


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="pack to train on")
    parser.add_argument("--val", type=Path, required=True, help="pack of other subjects to measure on")
    parser.add_argument("--size", default="completion_tiny", choices=list(MASKED))
    parser.add_argument("--steps", type=int, default=400, help="of the first stage; the others have half (%(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="windows in a batch (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--takes", type=int, default=32, help="takes of three seconds to measure on (%(default)s)")
    parser.add_argument(
        "--only", help=f"comma-separated: baselines, {', '.join(SYSTEMS)}, smoothnet, smoothnet_published"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "positions", help="where results are kept")
    parser.add_argument("--csv", type=Path, help="also write one line for every row and figure")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        args.pack = Pack.load(args.data)
        args.clips = Clips(args.pack, args.device)
        rows = measure(args)
    except MotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    conditions = {
        "size": args.size, "steps": [args.steps, args.steps // 2, args.steps // 2], "batch": args.batch,
        "seeds": args.seeds, "data": args.data.name, "val": args.val.name, "device": args.device,
        "machine": machine(), "date": date.today().isoformat(),
    }  # fmt: skip
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["system", "task", "seeds", "figure", "mean", "sd"])
            for row in rows:
                for key, value in row.items():
                    if isinstance(value, dict):
                        writer.writerow([row["system"], row["task"], row["seeds"], key, value["mean"], value["sd"]])
    if args.json:
        keys = ("noise", "method", "mpjpe_before", "mpjpe_after", "accel_before", "accel_after")
        published = [dict(zip(keys, row, strict=True)) for row in PUBLISHED]
        json.dump({**conditions, "rows": rows, "published": published}, sys.stdout)
        sys.stdout.write("\n")
        return 0
    show(rows)
    print("\n" + " · ".join(f"{k} {v}" for k, v in conditions.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
