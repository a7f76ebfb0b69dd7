"""Codes that tell a token its joint, its time and the diffusion step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def step_code(step: Tensor, dim: int) -> Tensor:
    """Sinusoidal code of the diffusion step (Vaswani et al. 2017): (B,) → (B, dim)."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, device=step.device) / half)
    angles = step[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def fourier(x: Tensor, frequencies: Tensor) -> Tensor:
    """Fourier features: (...) and (F,) cycles per unit → (..., 2 F)."""
    angles = 2 * math.pi * x[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Codes(nn.Module):
    """Joint, time and step codes for tokens of one width; added before every processing step.

    Time enters as Fourier features of seconds from the window's centre, and the frame step as log2 of its ratio to
    1/30 s, so that one network serves every frame rate. A label's vector of ``label`` components, where there is one,
    joins the step code (Eq. 11's ``v``); its projection starts at zero, so a prior can be continued with labels.
    """

    frequencies: Tensor

    def __init__(self, dim: int, joints: int | None, label: int = 0):
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.arange(-3, 5).float() * 0.5, persistent=False)
        self.joint = nn.Parameter(0.02 * torch.randn(joints, dim)) if joints else None
        self.time = nn.Linear(2 * len(self.frequencies) + 1, dim)
        self.step = nn.Sequential(nn.Linear(64, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Linear(label, dim, bias=False) if label else None
        if self.label is not None:
            nn.init.zeros_(self.label.weight)

    def forward(self, seconds: Tensor, frame_step: Tensor, step: Tensor, label: Tensor | None = None) -> Tensor:
        """seconds (B, T), frame_step (B,) seconds, step (B,), label (B, label) → (B, T, dim), or (B, T, J, dim).

        Without a label, or with zeros for one, nothing is said about what is done.
        """
        rate = torch.log2(frame_step * 30)[:, None, None].expand(-1, seconds.shape[1], 1)
        code = self.time(torch.cat([fourier(seconds, self.frequencies), rate], dim=-1))
        code = code + self.step(step_code(step, 64))[:, None]
        if self.label is not None and label is not None:
            code = code + self.label(label)[:, None]
        return code if self.joint is None else code[:, :, None] + self.joint


def rotary_angles(seconds: Tensor, head_dim: int) -> Tensor:
    """Angles of a rotary embedding of seconds: (B, T) → (B, 1, T, head_dim / 2); periods from 0.1 s to 10 s."""
    half = head_dim // 2
    rates = 2 * math.pi * 10.0 ** torch.linspace(1, -1, half, device=seconds.device)
    return (seconds[..., None] * rates)[:, None]


def rotate_pairs(x: Tensor, angles: Tensor) -> Tensor:
    """Turn channel pairs of queries or keys (B, heads, T, head_dim) by ``angles``."""
    a, b = x.chunk(2, dim=-1)
    sine, cosine = angles.sin().to(x.dtype), angles.cos().to(x.dtype)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)
