"""The training loop: Lightning Fabric, a time budget instead of a step count, runs that resume where they stopped."""

from __future__ import annotations

import copy
import csv
import math
import pickle
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning_fabric as lightning
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..contract import MotionError
from ..model.encoder import Encoder
from ..pack import Pack
from . import losses, throughput
from .clips import Clips
from .tasks import BATCH_FRAMES, PriorTask

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Recipe:
    """What decides a run besides its data and network.

    minutes: the whole budget; the learning rate follows the share of it that is spent, so a run may be cut in chunks.
    max_minutes: stop (resumably) after so long in this call; None = to the end of the budget.
    batch_frames: frames per batch.
    half_precision: the encoder's matrix products in bfloat16; None = on a GPU only. It also pays on CPUs that have
        instructions for it.
    """

    minutes: float = 60.0
    max_minutes: float | None = None
    learning_rate: float = 4e-4
    weight_decay: float = 0.01
    warmup: float = 0.02
    ema: float = 0.999
    batch_frames: int = BATCH_FRAMES
    seed: int = 0
    checkpoint_minutes: float = 3.0
    compile: bool = False
    half_precision: bool | None = None


class EMA:
    """A task with the exponential moving average of its weights, with a ramp so that the first steps count."""

    def __init__(self, module: PriorTask, decay: float):
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the weights of ``module``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, new in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.lerp_(new, 1 - decay)


def learning_rate(share: float, recipe: Recipe) -> float:
    """Linear warm-up, then cosine to two percent, over the share of the budget that is spent."""
    if share < recipe.warmup:
        return recipe.learning_rate * max(share / recipe.warmup, 0.01)
    rest = min((share - recipe.warmup) / (1 - recipe.warmup), 1.0)
    return recipe.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * rest)) / 2)


@dataclass
class Progress:
    """Where a run stands; stored in its checkpoint."""

    step: int = 0
    seconds: float = 0.0
    windows: int = 0
    best: float = math.inf


def training_attention(device: torch.device | str) -> AbstractContextManager[None]:
    """The attention to train with: the CPU's fused one is slow backwards over thousands of short sequences."""
    return sdpa_kernel(SDPBackend.MATH) if torch.device(device).type == "cpu" else nullcontext()


def train(
    task: PriorTask, pack: Pack, run: Path, recipe: Recipe, *, resume: bool, prepare: bool, report: Report
) -> tuple[PriorTask, Progress, bool]:
    """Train a task's network on a pack.

    Writes checkpoint.pt and loss.csv into ``run``. prepare: let a fresh task measure what it needs on the data. report:
    called about every two seconds with the state of the run. Returns the averaged task that scored best on held-out
    clips, the progress made, and whether this process is the one (of several) that speaks and writes.

    bfloat16 is for encoders only: rotations and kinematics stay in float32.
    """
    fabric = lightning.Fabric(accelerator="auto", devices="auto" if torch.cuda.is_available() else 1)
    fabric.launch()
    run.mkdir(parents=True, exist_ok=True)
    clips, held_out = Clips.split(pack, fabric.device, task.label_ids)
    checkpoint = run / "checkpoint.pt"
    fresh = not (resume and checkpoint.exists())
    task.to(fabric.device)
    if fresh and prepare:
        task.prepare(clips, torch.Generator().manual_seed(recipe.seed))
    ema = EMA(task, recipe.ema)
    best = EMA(task, 0.0)
    decayed = [p for p in task.parameters() if p.ndim > 1]
    plain = [p for p in task.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=recipe.learning_rate, betas=(0.9, 0.98), fused=fabric.device.type == "cuda",
    )  # fmt: skip
    half_precision = fabric.device.type != "cpu" if recipe.half_precision is None else recipe.half_precision
    cost = throughput.measure(task, clips, half_precision, fabric.world_size)
    for module in task.modules():
        if isinstance(module, Encoder):
            module.half_precision = half_precision
            if recipe.compile:
                module.compile(dynamic=True)
    model, optimizer = fabric.setup(task, optimizer)
    progress = Progress()
    state: dict[str, Any] = {
        "task": task, "ema": ema.module, "best": best.module, "optimizer": optimizer, "progress": asdict(progress),
    }  # fmt: skip
    if not fresh:
        try:
            fabric.load(checkpoint, state)
        except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
            raise MotionError(
                f"{checkpoint} cannot be continued ({str(error).splitlines()[0]}); start a new run."
            ) from None
        progress = Progress(**state["progress"])

    def save() -> None:
        state["progress"] = asdict(progress)
        partial = checkpoint.with_suffix(".partial")
        fabric.save(partial, state)
        if fabric.is_global_zero:
            partial.replace(checkpoint)

    log = _Log(run / "loss.csv", append=not fresh) if fabric.is_global_zero else None
    budget = recipe.minutes * 60
    limit = progress.seconds + (recipe.max_minutes * 60 if recipe.max_minutes else math.inf)
    spent_before, begin = progress.seconds, time.monotonic()
    last_report, last_score = begin, progress.seconds
    sums: dict[str, Tensor] = {}
    counted = 0
    while progress.seconds < min(budget, limit):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + progress.step * 64 + fabric.global_rank)
        rate = learning_rate(progress.seconds / budget, recipe)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch, windows = task.draw(clips, recipe.batch_frames, generator)
        optimizer.zero_grad()
        with training_attention(fabric.device):
            terms = model(batch, windows, generator)
            loss = losses.total(terms, task.weights)
            fabric.backward(loss)
        norm = fabric.clip_gradients(model, optimizer, max_norm=1.0, error_if_nonfinite=False)
        if norm is None or torch.isfinite(norm):  # one bad batch must not end a night's run
            optimizer.step()
            ema.update(task, progress.step)
        progress.step += 1
        progress.windows += len(batch.root) * fabric.world_size
        now = time.monotonic()
        progress.seconds = fabric.broadcast(spent_before + now - begin)  # all processes leave and save together
        for name, value in {**terms, "total": loss}.items():
            sums[name] = sums.get(name, torch.zeros((), device=fabric.device)) + value.detach()
        counted += 1
        done = progress.seconds >= min(budget, limit)
        if fabric.is_global_zero and (now - last_report > 2 or done):
            last_report = now
            report({"progress": progress, "loss": float(sums["total"]) / counted})
        if progress.seconds - last_score > recipe.checkpoint_minutes * 60 or done:
            means = {name: float(value) / counted for name, value in sums.items()}
            sums, counted = {}, 0
            scores = ema.module.score(held_out, torch.Generator().manual_seed(1))
            quality = sum(scores.values())
            if quality < progress.best:
                progress.best = quality
                best.module.load_state_dict(ema.module.state_dict())
            if log is not None:
                log.row({"step": progress.step, "minutes": progress.seconds / 60, "rate": rate, **means, **{
                    f"held_out_{k}": v for k, v in scores.items()}})  # fmt: skip
            if fabric.is_global_zero:
                report({"progress": progress, "loss": means["total"], "scores": scores, "throughput": cost})
            save()
            last_score = progress.seconds
    return best.module, progress, fabric.is_global_zero


class _Log:
    """loss.csv: one row per score, readable while the run goes on."""

    def __init__(self, path: Path, append: bool):
        self.path = path
        if not append:
            path.unlink(missing_ok=True)

    def row(self, values: dict[str, float]) -> None:
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(values)
            writer.writerow([f"{v:.6g}" for v in values.values()])
