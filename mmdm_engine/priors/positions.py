"""Completion and refinement of joint positions: takes of any length and any number of people, in sliding windows.

This is the paper's form of the two priors, made for capture: points of any joint set, no skeleton and no rotations.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..contract import MotionError
from . import store
from .masked import PositionsNetwork, Sampler, SmoothNetwork, interpolate_positions

Progress = Callable[[int, int], None]
STEPS = 10
"""DDIM steps where none are asked for: the paper's acceleration of its fifty by five."""
RATIO = 0.3
"""Share of tokens that Eq. 9's weights hide: that of the paper's fine-tuning."""
BATCH = 256
"""Windows that go through the network at once."""


def hide_by_weights(weights: np.ndarray, ratio: float = RATIO) -> np.ndarray:
    """Eq. 9 at inference: visible (…, T, J) bool with the ``ratio`` largest weights of each person hidden.

    weights (…, T, J): `masking.adaptive_weights`; infinite = never seen, hidden whatever the ratio.
    """
    if not 0 <= ratio < 1:
        raise MotionError(f"The share of hidden joints must lie between 0 and 1, not {ratio:g}.")
    if np.isnan(weights).any():
        raise MotionError("The mask weights hold NaN; give 0 for a joint that is trusted.")
    flat = weights.reshape(-1, weights.shape[-2] * weights.shape[-1])
    order = np.argsort(np.argsort(-flat, axis=1, kind="stable"), axis=1, kind="stable")
    visible = (order >= round(ratio * flat.shape[1])) & ~np.isposinf(flat)
    return visible.reshape(weights.shape)


def complete_positions(
    positions: np.ndarray,
    visible: np.ndarray,
    network: PositionsNetwork | str | Path,
    *,
    fps: float = 30.0,
    up: Literal["y", "z"] = "y",
    steps: int | None = None,
    sampler: Sampler = "ddim",
    seed: int = 0,
    stride: int | None = None,
    ratio: float = RATIO,
    device: str = "auto",
    progress: Progress | None = None,
) -> np.ndarray:
    """Fill hidden joints (Eqs. 6-8); visible ones come back with the same bits.

    positions (…, T, J, 3) metres, any people in front; what is hidden is ignored and may be NaN. visible (…, T, J):
    bool, or Eq. 9's weights (floats, larger = more likely hidden), of which the ``ratio`` largest are hidden; joints
    that are NaN are hidden either way. up: the world's vertical axis. steps: of DDIM, default 10; ``sampler="ddpm"``
    takes all that the network was trained with. stride: frames between windows, default half a window; where they
    overlap, they are averaged. Frames around which no window shows anything are interpolated between filled ones.
    """
    net = _network(network, "positions_completion", device)
    _check(positions, net, up)
    shown = _visibility(visible, positions, ratio)
    if not shown.any(axis=(-1, -2)).all():
        raise MotionError("The mask hides every joint of a person; leave at least one visible.")
    take = _Take(positions, shown, up)
    result = _run(take, net, take.observed, None, fps, steps, sampler, seed, stride, progress)
    return np.where(shown[..., None], positions, result.reshape(positions.shape)).astype(positions.dtype)


def refine_positions(
    positions: np.ndarray,
    network: PositionsNetwork | SmoothNetwork | str | Path,
    *,
    weights: np.ndarray | None = None,
    fps: float = 30.0,
    up: Literal["y", "z"] = "y",
    steps: int | None = None,
    sampler: Sampler = "ddim",
    seed: int = 0,
    stride: int | None = None,
    ratio: float = RATIO,
    device: str = "auto",
    progress: Progress | None = None,
) -> np.ndarray:
    """Take the noise out of all joints; the reverse process starts from the noisy data itself (Eq. 10).

    positions (…, T, J, 3) metres, complete. weights (…, T, J): Eq. 9's; the ``ratio`` largest are not read by the
    encoder. The other arguments are those of `complete_positions`. A `SmoothNetwork` may take the prior's place.
    """
    net = _network(network, "positions_refinement", device)
    if not np.isfinite(positions).all():
        raise MotionError("The positions hold NaN or infinite numbers; complete them before they are refined.")
    _check(positions, net, up)
    read = np.ones(positions.shape[:-1], bool) if weights is None else _visibility(weights, positions, ratio)
    take = _Take(positions, np.ones_like(read), up)
    read = read.reshape(take.observed.shape)
    result = _run(take, net, take.observed, read, fps, steps, sampler, seed, stride, progress)
    return result.reshape(positions.shape).astype(positions.dtype)


def _network(
    network: PositionsNetwork | SmoothNetwork | str | Path, kind: str, device: str
) -> PositionsNetwork | SmoothNetwork:
    if isinstance(network, str | Path):
        loaded = store.load(network, kind, device)
        assert isinstance(loaded, PositionsNetwork | SmoothNetwork)
        return loaded
    return network


def _visibility(visible: np.ndarray, positions: np.ndarray, ratio: float) -> np.ndarray:
    visible = np.asarray(visible)
    if visible.shape != positions.shape[:-1]:
        raise MotionError(
            f"The mask has the shape {visible.shape}, not {positions.shape[:-1]}; give one value for every joint."
        )
    finite = np.isfinite(positions).all(axis=-1)
    if visible.dtype == bool:
        return visible & finite
    return hide_by_weights(np.where(finite, visible, np.inf), ratio) & finite


def _check(positions: np.ndarray, network: PositionsNetwork | SmoothNetwork, up: str) -> None:
    if positions.ndim < 3 or positions.shape[-1] != 3 or 0 in positions.shape:
        raise MotionError(f"Positions must have the shape (…, frames, joints, 3), not {positions.shape}; reshape them.")
    joints = positions.shape[-2]
    if isinstance(network, PositionsNetwork) and joints != network.config.joints:
        names = ", ".join(network.config.joint_set.names)
        raise MotionError(
            f"The prior knows {network.config.joints} joints and got {joints}; give these, in order: {names}."
        )
    if up not in ("y", "z"):
        raise MotionError(f"The vertical axis must be y or z, not {up!r}.")


class _Take:
    """People's positions (P, T, J, 3) as float32 near the origin with Y up, and the way back.

    observed: (P, T, J) bool. What is not observed has no influence, not even by rounding.
    """

    def __init__(self, positions: np.ndarray, observed: np.ndarray, up: str):
        self.up = up
        people = positions.reshape(-1, *positions.shape[-3:]).astype(np.float64)
        self.observed = observed.reshape(people.shape[:-1])
        seen = self.observed[..., None]
        count = np.maximum(seen.sum(axis=(1, 2), keepdims=True), 1)
        self.origin = np.where(seen, people, 0).sum(axis=(1, 2), keepdims=True) / count
        near = np.where(seen, people - self.origin, 0)
        self.inside = torch.from_numpy((near if up == "y" else _z_to_y(near)).astype(np.float32))

    def back(self, inside: Tensor) -> np.ndarray:
        """(P, T, J, 3) tensor → world positions, float64."""
        near = inside.cpu().double().numpy()
        return (near if self.up == "y" else _y_to_z(near)) + self.origin


def _z_to_y(x: np.ndarray) -> np.ndarray:
    return np.stack([x[..., 0], x[..., 2], -x[..., 1]], axis=-1)


def _y_to_z(x: np.ndarray) -> np.ndarray:
    return np.stack([x[..., 0], -x[..., 2], x[..., 1]], axis=-1)


@torch.inference_mode()
def _run(
    take: _Take,
    network: PositionsNetwork | SmoothNetwork,
    observed: np.ndarray,
    read: np.ndarray | None,
    fps: float,
    steps: int | None,
    sampler: Sampler,
    seed: int,
    stride: int | None,
    progress: Progress | None,
) -> np.ndarray:
    """Windows through the network, averaged where they overlap; world positions (P, T, J, 3).

    read (P, T, J): in refinement, what of the observed the encoder reads; None = completion.
    """
    if not fps > 0:
        raise MotionError(f"The frame rate must be above 0, not {fps:g}.")
    device = next(network.parameters()).device
    people, frames, joints = observed.shape
    window = network.config.window
    stride = max(1, window // 2) if stride is None else stride
    if not 1 <= stride <= window:
        raise MotionError(f"The stride must lie between 1 and the window's {window} frames, not {stride}.")
    count = _sampling(network, steps, sampler)
    positions = take.inside.to(device)
    seen = torch.from_numpy(observed).to(device)
    readable = seen if read is None else torch.from_numpy(read).to(device)
    base = None
    if isinstance(network, PositionsNetwork) and network.config.base == "take":
        whole, known = interpolate_positions(positions, seen)
        base = whole.flatten(0, 1), known.repeat_interleave(frames, dim=0)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((frames, joints, 3), generator=generator).to(device)  # one for all windows: overlaps agree

    last = max(frames - window, 0)
    starts = torch.tensor(sorted({*range(0, last + 1, stride), last}), device=device)
    rows = starts[:, None] + torch.arange(window, device=device)  # beyond a short take's end: nothing observed
    inside = rows < frames
    rows = (rows.clamp(max=frames - 1) + torch.arange(people, device=device)[:, None, None] * frames).view(-1, window)
    inside = inside.repeat(people, 1)
    flat = (people * frames, joints)
    values, mask, reads, noises = (
        x.reshape(*flat, *x.shape[3:]) for x in (positions, seen, readable, noise.expand(people, -1, -1, -1))
    )
    rise = torch.arange(1, window + 1, device=device).float()
    weight = torch.minimum(rise, rise.flip(0))
    total = torch.zeros_like(values)
    weights = torch.zeros(flat[0], device=device)
    chunks = rows.split(BATCH)
    for n, (chunk, there) in enumerate(zip(chunks, inside.split(BATCH), strict=True)):

        def tick(done: int, of: int, n: int = n) -> None:
            if progress is not None:
                progress(n * of + done, len(chunks) * of)

        shown = mask[chunk] & there[..., None]
        if isinstance(network, SmoothNetwork):
            out = network.smooth(values[chunk])
            tick(1, 1)
        else:
            step = torch.full((len(chunk),), 1 / fps, device=device)
            around = None if base is None else (base[0][chunk], base[1][chunk[:, 0]])
            condition = network.condition(values[chunk], shown, step, reads[chunk], around)
            start = noises[chunk] if read is None else network.known_state(condition)
            out = network.sample(
                condition, start, restore=read is None, steps=count, sampler=sampler, generator=generator, progress=tick
            )
        worth = weight * there * shown.any(dim=2).any(dim=1)[:, None]
        total.index_add_(0, chunk.reshape(-1), (out * worth[..., None, None]).reshape(-1, joints, 3))
        weights.index_add_(0, chunk.reshape(-1), worth.reshape(-1))
    result = (total / weights.clamp(min=1e-9)[:, None, None]).view(people, frames, joints, 3)
    filled = (weights > 0).view(people, frames, 1).expand(people, frames, joints)
    if not bool(filled.all()):
        result = interpolate_positions(result, filled)[0]
    return take.back(result)


def _sampling(network: PositionsNetwork | SmoothNetwork, steps: int | None, sampler: str) -> int:
    """The number of DDIM steps, after checking what was asked for."""
    if isinstance(network, SmoothNetwork):
        return 1
    if sampler not in ("ddim", "ddpm"):
        raise MotionError(f"The sampler must be ddim or ddpm, not {sampler!r}.")
    if steps is not None and not 1 <= steps <= network.config.steps:
        raise MotionError(f"Between 1 and {network.config.steps} sampling steps are possible, not {steps}.")
    return min(STEPS, network.config.steps) if steps is None else steps
