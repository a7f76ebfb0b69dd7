"""A temporal MLP that smooths every coordinate by itself, after SmoothNet (Zeng et al., ECCV 2022).

All joints and axes share the weights; nothing is known of the body. It is the learned refinement baseline.
"""

from __future__ import annotations

from torch import Tensor, nn

from .config import SmoothNetConfig


class ResidualBlock(nn.Module):
    """Two linear layers around a bottleneck, on a residual path."""

    def __init__(self, width: int, inner: int, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, inner), nn.Dropout(dropout), nn.LeakyReLU(0.2),
            nn.Linear(inner, width), nn.Dropout(dropout), nn.LeakyReLU(0.2),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) → the same shape."""
        return x + self.layers(x)


class SmoothNet(nn.Module):
    """Frames in, frames out, along the time axis of each coordinate."""

    def __init__(self, config: SmoothNetConfig):
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(
            nn.Linear(config.window, config.hidden), nn.LeakyReLU(0.1),
            *(ResidualBlock(config.hidden, config.residual, config.dropout) for _ in range(config.blocks)),
            nn.Linear(config.hidden, config.window),
        )  # fmt: skip

    def forward(self, positions: Tensor) -> Tensor:
        """positions (B, window, J, 3) → the same shape."""
        return self.layers(positions.transpose(1, -1)).transpose(1, -1)
