"""Variance schedules (Eqs. 4-5): how much of the signal is left after each forward step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Objective = Literal["x0", "noise"]


@dataclass(frozen=True)
class Schedule:
    """A forward process of ``steps`` steps.

    kind: "cosine" (Nichol & Dhariwal 2021) or "linear" (Ho et al. 2020, 1e-4 to 2e-2 at 1000 steps, scaled to others).
    zero_terminal_snr: shift and scale sqrt(abar) so that the last step holds no signal at all (Lin et al. 2024); only
        the x0 objective can start from there.
    """

    steps: int = 50
    kind: Literal["cosine", "linear"] = "cosine"
    zero_terminal_snr: bool = False
    alphas_bar: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind == "cosine":
            f = [math.cos((k / self.steps + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(self.steps + 1)]
            betas = torch.tensor([min(1 - f[k + 1] / f[k], 0.999) for k in range(self.steps)], dtype=torch.float64)
        elif self.kind == "linear":
            scale = 1000 / self.steps
            betas = torch.linspace(1e-4 * scale, min(2e-2 * scale, 0.999), self.steps, dtype=torch.float64)
        else:
            raise ValueError(f"Unknown schedule {self.kind!r}; use cosine or linear.")
        alphas_bar = torch.cumprod(1 - betas, dim=0)
        if self.zero_terminal_snr:
            root = alphas_bar.sqrt()
            root = (root - root[-1]) * root[0] / (root[0] - root[-1])
            alphas_bar = root**2
        object.__setattr__(self, "alphas_bar", alphas_bar)

    def at(self, step: Tensor | int, like: Tensor) -> Tensor:
        """abar at a step: () or (B,) → shaped to broadcast against ``like`` (B, …), in its dtype."""
        index = step.cpu() if isinstance(step, Tensor) else step
        abar = (
            self.alphas_bar[index].to(like.dtype).to(like.device)
        )  # float64 stays on the CPU: not every device has it
        return abar.reshape(abar.shape + (1,) * (like.ndim - abar.ndim)) if abar.ndim else abar

    def add_noise(self, x0: Tensor, noise: Tensor, step: Tensor | int) -> Tensor:
        """q(x_k | x_0), Eq. 5."""
        abar = self.at(step, x0)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * noise

    def x0_from(self, prediction: Tensor, x: Tensor, step: Tensor | int, objective: Objective) -> Tensor:
        """The clean signal implied by a network's prediction."""
        if objective == "x0":
            return prediction
        abar = self.at(step, x)
        return (x - (1 - abar).sqrt() * prediction) / abar.sqrt()

    def spaced(self, count: int) -> list[int]:
        """``count`` steps from the last one down, evenly spaced ("trailing": the last step is always among them)."""
        if not 1 <= count <= self.steps:
            raise ValueError(f"Between 1 and {self.steps} sampling steps are possible, not {count}.")
        return [round(self.steps - i * self.steps / count) - 1 for i in range(count)]
