"""What a training step costs, and how much of a device's arithmetic it uses."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from . import losses
from .clips import Clips
from .tasks import PriorTask

FRAMES = 600
"""Frames of the batch whose operations are counted."""
SIZES = {"cpu": 1024, "cuda": 8192}
"""Side of the matrices whose product is timed: long beside a call and a wait."""


@dataclass(frozen=True)
class Throughput:
    """flops: of one window's matrix products in training. reach: what products of square matrices do here a second."""

    flops: float
    reach: float

    def share(self, windows_per_second: float) -> float:
        """The part of the device's matrix rate that is used."""
        return windows_per_second * self.flops / self.reach


def measure(task: PriorTask, clips: Clips, half_precision: bool, devices: int = 1) -> Throughput:
    """Both figures for a task about to be trained on so many devices, which stays as it was."""
    dtype = torch.bfloat16 if half_precision else torch.float32
    return Throughput(flops_per_window(task, clips), devices * matrix_rate(clips.device, dtype))


def flops_per_window(task: PriorTask, clips: Clips) -> float:
    """Floating-point operations of one window's matrix products, forwards and backwards, a product and a sum as two."""
    trial, generator = copy.deepcopy(task), torch.Generator().manual_seed(0)
    devices = [clips.device] if clips.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        batch, windows = trial.draw(clips, FRAMES, generator)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            losses.total(trial(batch, windows, generator), trial.weights).backward()
    return counter.get_total_flops() / len(batch.root)


def matrix_rate(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """Floating-point operations a second of products of square matrices; the best of ``repeats``."""
    size = SIZES.get(device.type, SIZES["cpu"])
    a, b = (torch.full((size, size), 0.5, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        float((a @ b)[0, 0])  # waits for a GPU
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best
