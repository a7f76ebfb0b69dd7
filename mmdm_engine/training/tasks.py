"""The two trainable tasks: how a batch is spoiled, what the network must say, and a held-out score."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import rotations as rot
from ..baselines import interpolate
from ..masking import nearest_trusted
from ..model.config import KAAConfig
from ..priors import residual
from ..priors.network import InbetweenNetwork, RefinementNetwork, Windows
from ..priors.window import Frame
from . import corruption, losses
from .clips import Batch, Clips

TERMINAL_SHARE = 0.75
"""Share of in-betweening samples trained at the last step, the one the deterministic read-out uses."""
BATCH_FRAMES = 64 * 54
"""Frames in one batch: windows of every length cost the same."""


def gap_windows(batch: Batch, observed: Tensor) -> Windows:
    """Windows whose hidden part is interpolated, with the times to the nearest trusted frame."""
    before, after = nearest_trusted(observed)
    step = batch.frame_step[:, None, None]
    rotations, root = interpolate(batch.rotations, batch.root, observed)
    return Windows(
        rotations, root, observed, before * step, after * step,
        torch.ones_like(batch.rotations[..., 0]), batch.bodies, batch.frame_step,
    )  # fmt: skip


class InbetweenTask(nn.Module):
    """Draw a gap, predict the residual over interpolation, compare with the truth."""

    name = "inbetween"

    def __init__(self, kaa: KAAConfig, weights: losses.Weights):
        super().__init__()
        self.network = InbetweenNetwork(kaa)
        self.weights = weights
        self.gaps = corruption.Gaps.make()

    def draw(self, clips: Clips, frames: int, generator: torch.Generator) -> tuple[Batch, Windows]:
        """About ``frames`` frames of clean windows, and the same with gaps."""
        observed, fps = self.gaps.draw(max(4, frames // corruption.FRAMES), generator)
        batch = clips.sample(corruption.FRAMES, fps, generator)
        return batch, gap_windows(batch, observed.to(clips.device))

    def prepare(self, clips: Clips, generator: torch.Generator, batches: int = 300) -> None:
        """Measure the residual scale on training data."""
        residuals = []
        for _ in range(batches):
            batch, windows = self.draw(clips, BATCH_FRAMES, generator)
            condition = self.network.condition(windows)
            true = condition.frame.enter(batch.rotations, batch.root)
            state = residual.difference(condition.base_rotations, condition.base_hips, *true)
            residuals.append((state.cpu(), windows.before.cpu(), windows.after.cpu()))
        self.network.scale.measure(residuals)

    def forward(self, batch: Batch, windows: Windows, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss terms of one batch."""
        network = self.network
        condition = network.condition(windows)
        true_rotations, true_hips = condition.frame.enter(batch.rotations, batch.root)
        target = residual.difference(condition.base_rotations, condition.base_hips, true_rotations, true_hips)
        scale = condition.scale.clamp(min=1e-6)
        x0 = target / scale * condition.hidden
        count = len(x0)
        last = network.schedule.steps - 1
        step = torch.randint(last, (count,), generator=generator)
        terminal = torch.rand((count,), generator=generator) < TERMINAL_SHARE
        step = torch.where(terminal, last, step).to(x0.device)
        noise = torch.randn(x0.shape, generator=generator).to(x0) * condition.hidden
        noisy = network.schedule.add_noise(x0, noise, step)
        noisy = torch.where(terminal.to(x0.device)[:, None, None, None], torch.zeros_like(noisy), noisy)
        predicted = network.predict(condition, noisy, step)
        rotations, hips = residual.add(condition.base_rotations, condition.base_hips, predicted * condition.scale)
        hidden_frames = ~windows.observed.all(dim=-1)
        hidden = condition.hidden
        off = (predicted - x0).abs().clamp(max=10)
        turn = ((predicted - x0) * condition.scale)[..., :3].abs()
        return {
            "state": (off * hidden).sum() / hidden.sum().clamp(min=1),
            "rotation": (turn * hidden[..., :3]).sum() / hidden[..., :3].sum().clamp(min=1),
            **losses.motion_losses(condition.frame, rotations, hips, true_rotations, true_hips, hidden_frames, batch),
        }

    @torch.no_grad()
    def score(self, clips: Clips, generator: torch.Generator) -> dict[str, float]:
        """Ratios to interpolation on plain gaps of one second at 30 fps: position error and rotation angle."""
        batch = clips.sample(54, torch.full((256,), 30.0), generator, augment=False)
        observed = torch.ones((256, 54, 23), dtype=torch.bool, device=clips.device)
        observed[:, 12:42] = False
        windows = gap_windows(batch, observed)
        condition = self.network.condition(windows)
        true = condition.frame.enter(batch.rotations, batch.root)
        ours = residual.add(condition.base_rotations, condition.base_hips, self.network.sample(condition))
        return _ratios(condition.frame, ours, (condition.base_rotations, condition.base_hips), true, 12)


class RefinementTask(nn.Module):
    """Spoil a window, predict the clean motion."""

    name = "refinement"

    def __init__(self, kaa: KAAConfig, weights: losses.Weights):
        super().__init__()
        self.network = RefinementNetwork(kaa)
        self.weights = replace(weights, state=0.0)

    def prepare(self, clips: Clips, generator: torch.Generator) -> None:
        """Nothing to measure: the residual is scaled by the noise that each window shows."""

    def draw(self, clips: Clips, frames: int, generator: torch.Generator) -> tuple[Batch, Windows]:
        """About ``frames`` frames of clean windows, and the same with noise."""
        length = 32 + int(torch.randint(33, (), generator=generator))
        count = max(4, frames // length)
        rates = torch.tensor(corruption.FPS, dtype=torch.float32)
        fps = rates[torch.randint(len(rates), (count,), generator=generator)]
        batch = clips.sample(length, fps, generator)
        return batch, self.spoil(batch, *corruption.add_noise(batch.rotations, batch.root, generator))

    @staticmethod
    def spoil(batch: Batch, rotations: Tensor, root: Tensor) -> Windows:
        """Windows of which every frame is observed but none is to be believed."""
        shape = batch.root.shape[:2]
        zero = torch.zeros((*shape, 23), device=root.device)
        observed = torch.ones((*shape, 23), dtype=torch.bool, device=root.device)
        ones = torch.ones((*shape, 22), device=root.device)
        return Windows(rotations, root, observed, zero, zero, ones, batch.bodies, batch.frame_step)

    def forward(self, batch: Batch, windows: Windows, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss terms of one batch."""
        condition = self.network.condition(windows)
        true_rotations, true_hips = condition.frame.enter(batch.rotations, batch.root)
        state = self.network.predict(condition)
        rotations, hips = residual.add(condition.base_rotations, condition.base_hips, state)
        turn = rot.log(rot.multiply(rot.conjugate(rotations), true_rotations)).abs()
        every = torch.ones(batch.root.shape[:2], dtype=torch.bool, device=hips.device)
        return {
            "rotation": turn.mean(),
            **losses.motion_losses(condition.frame, rotations, hips, true_rotations, true_hips, every, batch),
        }

    @torch.no_grad()
    def score(self, clips: Clips, generator: torch.Generator) -> dict[str, float]:
        """Ratios to the middle smoothing (50 ms) at 5° and 2 cm, 30 fps: position error and rotation angle."""
        batch = clips.sample(64, torch.full((128,), 30.0), generator, augment=False)
        turn = torch.randn((*batch.rotations.shape[:-1], 3), generator=generator).to(batch.root) * math.radians(5)
        root = batch.root + 0.02 * torch.randn(batch.root.shape, generator=generator).to(batch.root)
        condition = self.network.condition(self.spoil(batch, rot.multiply(batch.rotations, rot.exp(turn)), root))
        true = condition.frame.enter(batch.rotations, batch.root)
        base = (condition.base_rotations, condition.base_hips)
        return _ratios(condition.frame, residual.add(*base, self.network.predict(condition)), base, true, 0)


def _ratios(
    frame: Frame, ours: tuple[Tensor, Tensor], base: tuple[Tensor, Tensor], true: tuple[Tensor, Tensor], context: int
) -> dict[str, float]:
    inside = slice(context, -context or None)
    p = [frame.positions(*motion)[:, inside] for motion in (ours, base, true)]
    q = [motion[0][:, inside] for motion in (ours, base, true)]
    position = (p[0] - p[2]).norm(dim=-1).mean() / (p[1] - p[2]).norm(dim=-1).mean()
    angle = rot.angle(q[0], q[2]).mean() / rot.angle(q[1], q[2]).mean()
    return {"position": float(position), "angle": float(angle)}


Task = InbetweenTask | RefinementTask
TASKS: dict[str, type[InbetweenTask] | type[RefinementTask]] = {
    "inbetween": InbetweenTask,
    "refinement": RefinementTask,
}
