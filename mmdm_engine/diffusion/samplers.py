"""The reverse process: ancestral (DDPM) and implicit (DDIM), both able to start from data and to keep what is seen.

The network is any function ``predict(x, step) -> prediction`` with x (B, …) and step int. ``restore(x0)`` puts the
visible part back to its true value after each step (Eqs. 6-7); with residual parameterisation that value is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .schedule import Objective, Schedule

Predict = Callable[[Tensor, int], Tensor]
Restore = Callable[[Tensor], Tensor]
Draw = Callable[[], Tensor]


def _same(x: Tensor) -> Tensor:
    return x


def ddim(
    predict: Predict,
    x: Tensor,
    schedule: Schedule,
    steps: Sequence[int],
    *,
    objective: Objective = "x0",
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    draw: Draw | None = None,
    restore: Restore = _same,
    renoise_first: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """DDIM (Song et al. 2021, Eq. 12) over a descending subset of steps; returns x0.

    x: noise; or data, which then is the state of the first step as it is (Eq. 10 starts so).
    eta: 0 = deterministic, 1 = ancestral variance.
    draw: fresh noise like x, of unit variance; None = white noise from the generator.
    renoise_first: the network reads zeros at the first step, which must hold no signal (terminal SNR zero); x then
        serves as the noise to continue with. This is how the product priors are trained.
    """
    for i, step in enumerate(steps):
        abar = schedule.at(step, x)
        state = torch.zeros_like(x) if renoise_first and i == 0 else x
        prediction = predict(state, step)
        x0 = restore(schedule.x0_from(prediction, x, step, objective))
        if i + 1 == len(steps):
            x = x0
        else:
            noise = (x - abar.sqrt() * x0) / (1 - abar).sqrt()
            previous = schedule.at(steps[i + 1], x)
            sigma = eta * ((1 - previous) / (1 - abar) * (1 - abar / previous)).clamp(min=0).sqrt()
            x = previous.sqrt() * x0 + (1 - previous - sigma**2).clamp(min=0).sqrt() * noise
            if eta > 0:
                fresh = draw() if draw else torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
                x = x + sigma * fresh
        if progress is not None:
            progress(i + 1, len(steps))
    return x


def ddpm(
    predict: Predict,
    x: Tensor,
    schedule: Schedule,
    *,
    first: int | None = None,
    objective: Objective = "x0",
    generator: torch.Generator | None = None,
    restore: Restore = _same,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, Eqs. 6-7) through every step from ``first`` (default: the last) to 0."""
    last = schedule.steps - 1 if first is None else first
    one = torch.ones((), dtype=x.dtype, device=x.device)
    for step in range(last, -1, -1):
        abar = schedule.at(step, x)
        previous = schedule.at(step - 1, x) if step > 0 else one
        alpha = abar / previous
        beta = 1 - alpha
        x0 = restore(schedule.x0_from(predict(x, step), x, step, objective))
        mean = previous.sqrt() * beta / (1 - abar) * x0 + alpha.sqrt() * (1 - previous) / (1 - abar) * x
        x = mean
        if step > 0:
            variance = (beta * (1 - previous) / (1 - abar)).clamp(min=1e-20)
            x = x + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        if progress is not None:
            progress(last - step + 1, last + 1)
    return restore(x)
