"""``python -m mmdm_engine train``: train or continue a prior, and export it with its model card."""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

EXAMPLE = """example:
  python -m mmdm_engine train inbetween --data train.npz --run runs/inbetween --minutes 60
  python -m mmdm_engine train inbetween --data train.npz --run runs/inbetween --minutes 60 --max-minutes 9 --resume
  python -m mmdm_engine train inbetween --data train.npz --run runs/more --init inbetween --export my.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``train``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    from . import NAMES

    parser.add_argument("task", choices=NAMES)
    parser.add_argument("--data", type=Path, required=True, help="pack (.npz), see `python -m mmdm_engine pack`")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoint, loss.csv and loss.png")
    parser.add_argument("--minutes", type=float, default=60, help="the whole budget; the learning rate follows it")
    parser.add_argument("--max-minutes", type=float, help="stop after so long in this call; continue with --resume")
    parser.add_argument("--resume", action="store_true", help="continue the run in --run")
    parser.add_argument("--init", help="start from the weights of a shipped prior or a .safetensors file")
    parser.add_argument("--passage", help="begin at this passages' network (`train passage`): inbetween and completion")
    parser.add_argument("--export", type=Path, help="write the best weights and their model card here at the end")
    parser.add_argument("--size", default="product", help="network size by name (see model/config.py)")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="network fields to override")
    parser.add_argument("--learning-rate", type=float, default=4e-4, help="peak rate; above 5e-4 the loss stood still")
    parser.add_argument("--batch-frames", type=int, help="frames per batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument(
        "--bf16",
        action="store_true",
        help="encoder in bfloat16 on a CPU too (a GPU always does; pays with AVX-512 BF16)",
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile the network (worth it on a GPU)")


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    import torch
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from ..contract import MotionError
    from ..pack import Pack
    from ..priors import store
    from ..priors.network import parameters
    from . import loop
    from .generative import GenerativeTask
    from .passage import PassageTask
    from .positions import POSITION_TASKS
    from .tasks import TASKS, InbetweenTask, PriorTask

    if args.threads:
        torch.set_num_threads(args.threads)
    tasks: dict[str, type[PriorTask]] = {
        **TASKS, **POSITION_TASKS, PassageTask.name: PassageTask, GenerativeTask.name: GenerativeTask,
    }  # fmt: skip
    pack, kind = Pack.load(args.data), tasks[args.task]
    init = store.read_card(store.resolve(args.init)) if args.init else None
    fresh = kind.configure(args.size, args.set, pack, init)
    ledger = list(init.get("ledger", [])) if init else []
    if args.passage:
        if not issubclass(kind, InbetweenTask):
            raise MotionError("Only inbetween and completion begin at a passages' network; leave out --passage.")
        card = store.read_card(store.resolve(args.passage))
        fresh["passage"] = card.get("passage")
        ledger += [entry for entry in card.get("ledger", []) if entry not in ledger]
    about = _about(args, {"task": args.task, **fresh, "init": args.init, "ledger": ledger})
    ledger, resumed = about["ledger"], (args.run / "checkpoint.pt").exists()
    torch.manual_seed(args.seed)
    task = kind(about)
    measured = bool(args.init) and not resumed and task.start_from(args.init)
    if args.passage and not resumed:
        assert isinstance(task, InbetweenTask)
        task.begin_at(args.passage)
        measured = False
    recipe = loop.Recipe(
        minutes=args.minutes, max_minutes=args.max_minutes, learning_rate=args.learning_rate, seed=args.seed,
        compile=args.compile, half_precision=args.bf16 or None,
        **({"batch_frames": args.batch_frames} if args.batch_frames else {}),
    )  # fmt: skip
    print(f"{args.task}: {parameters(task.network) / 1e6:.2f} M parameters, {fresh}", flush=True)

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn()
    )
    with bar:
        line = bar.add_task(args.task, total=recipe.minutes * 60)

        def report(state: dict[str, Any]) -> None:
            progress = state["progress"]
            speed = progress.windows / max(progress.seconds, 1e-9)
            text = f"step {progress.step}  loss {state['loss']:.4f}  {speed:.0f} windows/s"
            bar.update(line, completed=progress.seconds, description=text)
            if "scores" in state:
                scores = "  ".join(f"{k} {v:.3f}" for k, v in state["scores"].items())
                cost = state["throughput"]
                used = f"{speed * cost.flops / 1e9:.0f} GFLOP/s, {cost.share(speed):.0%} of plain matrix products"
                bar.console.print(f"{progress.seconds / 60:6.1f} min  {text} ({used})  held out: {scores}")

        best, progress, speaks = loop.train(
            task, pack, args.run, recipe, resume=args.resume, prepare=not measured, report=report
        )
    if not speaks:
        return 0
    plot(args.run / "loss.csv", args.run / "loss.png")
    if args.export:
        entry = {
            "task": args.task, "date": date.today().isoformat(), "device": _device(),
            "minutes": round(progress.seconds / 60, 1), "steps": progress.step, "windows": progress.windows,
            "data": args.data.name, "seed": args.seed, "learning_rate": args.learning_rate,
            "batch_frames": recipe.batch_frames, "revision": _revision(),
            "init": about["init"], "loss_weights": asdict(task.weights),
        }  # fmt: skip
        card = {
            "licence": "GPL-3.0-or-later",
            "data": "CMU Graphics Lab Motion Capture Database (mocap.cs.cmu.edu, NSF EIA-0196217), free to use"
            if args.data.parent.name == "cmu" else args.data.name,
            "parameters": parameters(task.network), "ledger": [*ledger, entry],
        }  # fmt: skip
        store.save(best.network, args.task, card, args.export)
        print(f"wrote {args.export} and its model card")
    return 0


def _about(args: argparse.Namespace, fresh: dict[str, Any]) -> dict[str, Any]:
    """What a run is, kept in its folder: a resumed chunk goes on with the network and the ledger it began with."""
    from ..contract import MotionError

    path, begun = args.run / "run.json", (args.run / "checkpoint.pt").exists()
    if not (args.resume and begun):
        if begun:
            raise MotionError(f"{args.run} already holds a run; continue it with --resume, or choose another folder.")
        args.run.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(fresh, indent=1), encoding="utf-8")
        return fresh
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise MotionError(f"{path} is missing or damaged, so the run cannot be continued; start a new one.") from None
    if about["task"] != args.task:
        raise MotionError(f"{args.run} holds a run of {about['task']}; choose another folder for {args.task}.")
    return about


def plot(table: Path, out: Path) -> None:
    """Loss terms and held-out ratios against minutes, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with table.open() as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    minutes = [float(r["minutes"]) for r in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for name in rows[0]:
        values = [float(r[name]) for r in rows]
        if name.startswith("held_out_"):
            right.plot(minutes, values, marker=".", label=name.removeprefix("held_out_"))
        elif name not in ("step", "minutes", "rate"):
            left.plot(minutes, values, label=name)
    left.set(xlabel="minutes", ylabel="loss", yscale="log", title="training")
    right.set(xlabel="minutes", ylabel="ratio to the base motion", title="held-out clips of the training subjects")
    for axis in (left, right):
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _device() -> str:
    import torch

    from ..evaluate import machine

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads of {machine()}"


def _revision() -> str:
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=10,
            cwd=Path(__file__).parent,
        ).stdout.strip() or "unknown"  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
