"""Which tokens are hidden: the paper's patterns, Eq. 9's adaptive weights, and the masks an animator's gaps make.

Masks are bool tensors over (…, time, joint), True = hidden. In motion masks column 22 is the root position.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .contract.errors import MotionError


def _hide_top(score: Tensor, count: Tensor | int) -> Tensor:
    """Hide the ``count`` largest scores along the last axis."""
    rank = score.argsort(dim=-1, descending=True).argsort(dim=-1)
    return rank < count


def pattern_a(shape: tuple[int, int, int], ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """Pattern A: in every pose the same share of joints, drawn anew per frame. shape (B, T, J) → bool."""
    score = torch.rand(shape, generator=generator)
    return _hide_top(score, round(ratio * shape[-1]))


def pattern_b(shape: tuple[int, int, int], ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """Pattern B: the share is drawn over all joints and frames of a window, so a pose may vanish whole."""
    score = torch.rand((shape[0], shape[1] * shape[2]), generator=generator)
    return _hide_top(score, round(ratio * score.shape[-1])).view(shape)


def pattern_c(weights: Tensor, ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """Pattern C: as B, but drawn in proportion to weights (B, T, J) without replacement (Gumbel top-k)."""
    flat = weights.reshape(len(weights), -1).clamp(min=1e-12)
    uniform = torch.rand(flat.shape, generator=generator).clamp(1e-12, 1 - 1e-7).to(flat.device)
    score = flat.log() - (-uniform.log()).log()
    return _hide_top(score, round(ratio * flat.shape[-1])).view(weights.shape)


def adaptive_weights(confidence: Tensor, triangulation_error: Tensor, omega: float = 1.0) -> Tensor:
    """Eq. 9: w = omega · exp(−Σ_views confidence) + error; larger = more likely hidden.

    confidence (…, views), 0 where unseen; triangulation_error (…), in the unit the caller chose for sigma.
    """
    return omega * torch.exp(-confidence.sum(dim=-1)) + triangulation_error


def gap(frames: int, start: int, stop: int) -> Tensor:
    """(T, 23) with [start, stop) hidden in every column. Raises `MotionError` where the range leaves the motion."""
    if not 0 <= start < stop <= frames:
        raise MotionError(
            f"The gap from {start} to {stop} does not lie inside the motion's {frames} frames; "
            "choose a range inside it."
        )
    mask = torch.zeros((frames, 23), dtype=torch.bool)
    mask[start:stop] = True
    return mask


def sparse_keys(frames: int, every: int) -> Tensor:
    """(T, 23) with every frame hidden that is neither a multiple of ``every`` nor the last."""
    index = torch.arange(frames)
    hidden = (index % every != 0) & (index != frames - 1)
    return hidden[:, None].expand(-1, 23).clone()


def nearest_trusted(observed: Tensor) -> tuple[Tensor, Tensor]:
    """Frames since the last and until the next trusted frame of each column.

    observed (..., T, C) bool → two float tensors (..., T, C); 0 where observed, inf where there is none on that side.
    """
    frames = observed.shape[-2]
    index = torch.arange(frames, device=observed.device, dtype=torch.float32)[:, None]
    never = torch.full((), float("inf"), device=observed.device)
    last = torch.where(observed, index, -never).cummax(dim=-2).values
    following = torch.where(observed, index, never).flip(-2).cummin(dim=-2).values.flip(-2)
    return index - last, following - index
