"""Noise that moves as motion does: what the product priors are noised with, so that takes differ smoothly.

White noise asks a network to invent smoothness step by step, which takes long to learn; a take made with too little
training shakes. Here the noise has the correlations that residuals of real motion have, between channels and in time
(a Gaussian process). A network that has learned nothing then still draws smooth takes around its one-pass answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .residual import STATE

CHANNELS = 22 * STATE
STEADY = 1e-5
"""Share of white noise that keeps the covariance in time invertible."""
LAGS = (0.05, 0.1, 0.15, 0.2, 0.3)
"""Seconds over which the correlation in time is measured."""


class MotionNoise(nn.Module):
    """Unit-variance noise for scaled residuals (B, T, 22, 6).

    mix (132, 132): white channels → channels correlated like residuals. memory: seconds after which a channel's
    correlation with itself has fallen to exp(-1/2).
    """

    mix: Tensor
    memory: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mix", torch.eye(CHANNELS))
        self.register_buffer("memory", torch.tensor(0.15))

    def forward(self, seconds: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw for frames at ``seconds`` (B, T): (B, T, 22, 6), from the generator's device, on that of the seconds."""
        b, t = seconds.shape
        white = torch.randn((b, t, CHANNELS), generator=generator).to(seconds)
        at = seconds.double().cpu()  # not every device has float64
        apart = (at[:, :, None] - at[:, None]) / float(self.memory)
        covariance = torch.exp(-0.5 * apart**2) + STEADY * torch.eye(t, dtype=torch.float64)
        in_time = torch.linalg.cholesky(covariance / (1 + STEADY)).to(white)
        return (in_time @ white @ self.mix.T).unflatten(-1, (22, STATE))

    def measure(self, batches: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Set the correlations from (state, hidden, frame_step) batches of scaled training residuals.

        state and hidden (B, T, 22, 6), frame_step (B,) seconds. Pairs of channels count where both are hidden.
        """
        total, count = (torch.zeros(CHANNELS, CHANNELS, dtype=torch.float64) for _ in range(2))
        lag_total, lag_count = (torch.zeros(len(LAGS), dtype=torch.float64) for _ in range(2))
        for state, hidden, frame_step in batches:
            flat, mask = (x.flatten(2).double().cpu() for x in (state * hidden, hidden))
            rows = flat.flatten(0, 1), mask.flatten(0, 1)
            total += rows[0].T @ rows[0]
            count += rows[1].T @ rows[1]
            for one, weight, step in zip(flat, mask, frame_step.tolist(), strict=True):
                for n, lag in enumerate(LAGS):
                    k = round(lag / step)
                    if k and abs(k * step - lag) < 0.02 and k < len(one):
                        both = weight[k:] * weight[:-k]
                        lag_total[n] += (one[k:] * one[:-k] * both).sum()
                        lag_count[n] += (0.5 * (one[k:] ** 2 + one[:-k] ** 2) * both).sum()
        covariance = total / count.clamp(min=1)
        size = covariance.diagonal().clamp(min=0).sqrt()
        known = (count.diagonal() >= 100) & (size > 1e-6)
        correlation = covariance / (size[:, None] * size).clamp(min=1e-12)
        correlation = torch.where(known[:, None] & known, correlation, torch.zeros_like(correlation))
        correlation.diagonal().fill_(1)
        values, vectors = torch.linalg.eigh(correlation)
        values = values.clamp(min=1e-4)  # measured pair by pair, so it need not be a covariance
        mended = (vectors * values) @ vectors.T
        mended = mended / (mended.diagonal().sqrt()[:, None] * mended.diagonal().sqrt())
        self.mix.copy_(torch.linalg.cholesky(mended))
        seen = lag_count > 0
        if bool(seen.any()):
            kept = (lag_total[seen] / lag_count[seen]).clamp(0.02, 0.999).numpy()
            lags = np.array(LAGS)[seen.numpy()]
            self.memory.fill_(float(np.median(lags / np.sqrt(-2 * np.log(kept)))))
