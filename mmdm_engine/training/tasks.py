"""The trainable tasks: how a batch is spoiled, what the network must say, and a held-out score."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import rotations as rot
from ..baselines import interpolate
from ..contract import MotionError
from ..contract.skeleton import LIMBS
from ..masking import nearest_trusted
from ..model.config import ENCODERS, kaa_from_dict, overridden, to_dict
from ..pack import Pack
from ..priors import residual, store
from ..priors.network import InbetweenNetwork, Network, RefinementNetwork, Windows
from ..priors.window import Frame
from ..text import vocabulary
from . import corruption, losses
from .clips import Batch, Clips, LabelIds

TERMINAL_SHARE = 0.5
"""Share of in-betweening samples trained at the last step, the one the deterministic read-out uses."""
UNLABELLED_SHARE = 0.3
"""Share of samples that are not told what is done, so that a prior works without a label and can be guided by one."""
BATCH_FRAMES = 64 * 54
"""Frames in one batch: windows of every length cost the same."""


def gap_windows(batch: Batch, observed: Tensor, scale: residual.GapScale) -> Windows:
    """Windows whose hidden part is interpolated, or at rest where it is never seen; with times to trusted frames."""
    before, after = nearest_trusted(observed)
    step = batch.frame_step[:, None, None]
    rotations, root = interpolate(batch.rotations, batch.root, observed)
    rotations = scale.at_rest(rotations, observed)
    return Windows(
        rotations, root, observed, before * step, after * step,
        torch.ones_like(batch.rotations[..., 0]), batch.bodies, batch.frame_step,
    )  # fmt: skip


class PriorTask(nn.Module, ABC):
    """What the loop trains: a network, how its batches are drawn, what its loss is.

    about: how a run is described in its folder; `configure` makes it for a new run.
    """

    name: ClassVar[str]
    network: Network

    def __init__(self, about: Mapping[str, Any]):
        super().__init__()
        self.network = store.build(self.name, dict(about))
        self.weights = losses.Weights()

    @classmethod
    def configure(
        cls, size: str, overrides: Sequence[str], pack: Pack, init: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """The network to train: of a named size, or that of the card ``init``, with ``FIELD=VALUE`` overrides."""
        if size not in ENCODERS:
            raise MotionError(f"There is no size {size}; choose one of {', '.join(ENCODERS)}.")
        kaa = kaa_from_dict(init["kaa"]) if init else ENCODERS[size]
        return {"kaa": to_dict(overridden(kaa, overrides))}

    def start_from(self, prior: str) -> bool:
        """Take over a trained prior's weights; whether that leaves nothing to be measured on the data.

        Labels may be new to the prior: their projection starts at zero, so that it begins as what it was.
        """
        kind, trained = store.load_any(prior, "cpu")
        mine = self.network.state_dict()
        theirs = self.fitted(trained.state_dict())
        theirs = {k: v for k, v in theirs.items() if k in mine and v.shape == mine[k].shape}
        strange = [
            k for k in mine if k not in theirs and not k.startswith(("text.", "passage.")) and ".label." not in k
        ]
        if strange:
            raise MotionError(
                f"{prior} has another network than this run ({strange[0]} does not fit); leave out --set."
            )
        self.network.load_state_dict({**mine, **theirs})
        return kind == self.name

    def fitted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Another network's weights in the shapes of this one."""
        return weights

    @property
    def label_ids(self) -> LabelIds | None:
        """How labels become word rows, for `Clips`."""
        return None

    @abstractmethod
    def prepare(self, clips: Clips, generator: torch.Generator) -> None:
        """Measure on the training data what the network needs to know of it."""

    @abstractmethod
    def draw(self, clips: Clips, frames: int, generator: torch.Generator) -> tuple[Batch, Windows]:
        """About ``frames`` frames of clean windows, and the same as the network is to see them."""

    @abstractmethod
    def forward(self, batch: Batch, windows: Windows, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss terms of one batch."""

    @abstractmethod
    def score(self, clips: Clips, generator: torch.Generator) -> dict[str, float]:
        """Figures on held-out clips; their sum decides which weights are kept, smaller is better."""


class InbetweenTask(PriorTask):
    """Draw a gap, predict the residual over interpolation, compare with the truth."""

    name = "inbetween"
    network: InbetweenNetwork
    schedules: ClassVar[type[corruption.Gaps] | type[corruption.Losses]] = corruption.Gaps

    def __init__(self, about: Mapping[str, Any]):
        super().__init__(about)
        self.gaps = self.schedules.make()

    @classmethod
    def configure(
        cls, size: str, overrides: Sequence[str], pack: Pack, init: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """See `PriorTask`; the vocabulary is that of the prior it starts from, else that of the pack's labels."""
        words = (init or {}).get("words") or vocabulary(pack.labels)
        passage = {"passage": init["passage"]} if init and "passage" in init else {}
        return {**super().configure(size, overrides, pack, init), "words": list(words), **passage}

    def begin_at(self, passage: str) -> None:
        """Take over the passages' network, trained before, from whose guess the residual starts."""
        trained = store.load(passage, "passage", "cpu")
        assert self.network.passage is not None
        self.network.passage.load_state_dict(trained.state_dict())

    def fitted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """As they are; over a guess, of which a network without passages has said nothing, nothing is said at first."""
        if self.network.passage is None or any(name.startswith("passage.") for name in weights):
            return weights
        own = "encoder.read"
        return {
            name: self.network.encoder.widened(name.removeprefix("encoder."), value) if name.startswith(own) else value
            for name, value in weights.items()
        }

    @property
    def label_ids(self) -> LabelIds | None:
        """How labels become word rows, for `Clips`."""
        return self.network.text.ids if self.network.text else None

    def draw(self, clips: Clips, frames: int, generator: torch.Generator) -> tuple[Batch, Windows]:
        """About ``frames`` frames of clean windows, and the same with gaps."""
        observed, fps = self.gaps.draw(max(4, frames // corruption.FRAMES), generator)
        batch = clips.sample(corruption.FRAMES, fps, generator)
        return batch, self.network.guess(gap_windows(batch, observed.to(clips.device), self.network.scale))

    def prepare(self, clips: Clips, generator: torch.Generator, batches: int = 300) -> None:
        """Measure the mean pose, the residuals' scale and how they go together, on training data."""
        residuals, about = [], []
        every = clips.rotations[:: max(1, len(clips.rotations) // 20_000)]
        self.network.scale.rest.copy_(rot.normalize((every * every[..., :1].sign()).mean(dim=0)))
        for _ in range(batches):
            batch, windows = self.draw(clips, BATCH_FRAMES, generator)
            condition = self.network.condition(windows)
            true = condition.frame.enter(batch.rotations, batch.root)
            state = residual.difference(condition.base_rotations, condition.base_hips, *true)
            residuals.append((state.cpu(), windows.before.cpu(), windows.after.cpu()))
            about.append((condition.hidden.cpu(), windows.frame_step.cpu()))
        scale = self.network.scale
        scale.measure(residuals)
        table = copy.deepcopy(scale).cpu()
        self.network.spread.measure(
            [
                (state / table(before, after).clamp(min=1e-6), *of)
                for (state, before, after), of in zip(residuals, about, strict=True)
            ]
        )

    def forward(self, batch: Batch, windows: Windows, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss terms of one batch."""
        network = self.network
        if network.text is not None:
            said = torch.rand((len(batch.root), 1), generator=generator) >= UNLABELLED_SHARE
            windows = replace(windows, label=network.text.embed(batch.label) * said.to(batch.root.device))
        condition = network.condition(windows)
        true_rotations, true_hips = condition.frame.enter(batch.rotations, batch.root)
        target = residual.difference(condition.base_rotations, condition.base_hips, true_rotations, true_hips)
        scale = condition.scale.clamp(min=1e-6)
        x0 = target / scale * condition.hidden
        count = len(x0)
        last = network.schedule.steps - 1
        step = torch.randint(last, (count,), generator=generator)
        terminal = torch.rand((count,), generator=generator) < (TERMINAL_SHARE if network.objective == "x0" else 0)
        step = torch.where(terminal, last, step).to(x0.device)
        noise = network.noise(condition, generator)
        noisy = network.schedule.add_noise(x0, noise, step)
        noisy = torch.where(terminal.to(x0.device)[:, None, None, None], torch.zeros_like(noisy), noisy)
        predicted = network.predict(condition, noisy, step)
        if network.objective == "noise":  # the motion it implies is of no use near pure noise
            return {"state": (predicted - noise).abs().sum() / condition.hidden.sum().clamp(min=1)}
        rotations, hips = residual.add(condition.base_rotations, condition.base_hips, predicted * condition.scale)
        hidden = condition.hidden
        moved = losses.moved_by(~windows.observed[..., :22]) | ~windows.observed[..., 22:]
        off = (predicted - x0).abs().clamp(max=10)
        turn = ((predicted - x0) * condition.scale)[..., :3].abs()
        return {
            "state": losses.window_mean(off, hidden),
            "rotation": losses.window_mean(turn, hidden[..., :3]),
            **losses.motion_losses(condition.frame, rotations, hips, true_rotations, true_hips, moved, batch),
        }

    @torch.no_grad()
    def score(self, clips: Clips, generator: torch.Generator) -> dict[str, float]:
        """Ratios to interpolation on plain gaps of one second at 30 fps: position error and rotation angle."""
        batch = clips.sample(54, torch.full((256,), 30.0), generator, augment=False)
        observed = torch.ones((256, 54, 23), dtype=torch.bool, device=clips.device)
        observed[:, 12:42] = False
        windows = gap_windows(batch, observed, self.network.scale)
        condition = self.network.condition(self.network.guess(windows))
        true = condition.frame.enter(batch.rotations, batch.root)
        ours = residual.add(condition.base_rotations, condition.base_hips, self.network.sample(condition))
        return _ratios(condition.frame, ours, condition.frame.enter(windows.rotations, windows.root), true, 12)


class CompletionTask(InbetweenTask):
    """As in-betweening, but it is parts of the body that are hidden."""

    name = "completion"
    schedules = corruption.Losses

    @torch.no_grad()
    def score(self, clips: Clips, generator: torch.Generator) -> dict[str, float]:
        """Ratios to interpolation with one limb hidden for one and a half seconds at 30 fps, over its own joints."""
        batch = clips.sample(corruption.FRAMES, torch.full((256,), 30.0), generator, augment=False)
        observed = torch.ones((256, corruption.FRAMES, 23), dtype=torch.bool, device=clips.device)
        hidden = torch.zeros((256, 22), dtype=torch.bool, device=clips.device)
        for i, limb in enumerate(LIMBS):
            hidden[i::4, list(limb)] = True
            observed[i::4, 20:65, list(limb)] = False
        windows = gap_windows(batch, observed, self.network.scale)
        condition = self.network.condition(self.network.guess(windows))
        true = condition.frame.enter(batch.rotations, batch.root)
        ours = residual.add(condition.base_rotations, condition.base_hips, self.network.sample(condition))
        base = condition.frame.enter(windows.rotations, windows.root)
        return _ratios(condition.frame, ours, base, true, 20, hidden)


class RefinementTask(PriorTask):
    """Spoil a window, predict the clean motion."""

    name = "refinement"
    network: RefinementNetwork

    def __init__(self, about: Mapping[str, Any]):
        super().__init__(about)
        # shake is what accelerates: with the usual 0.1 the answer was nearer than any filter's and no smoother
        self.weights = replace(self.weights, state=0.0, velocity=1.0, acceleration=24.0)

    def prepare(self, clips: Clips, generator: torch.Generator) -> None:
        """Nothing to measure: the residual is scaled by the noise that each window shows."""

    def draw(self, clips: Clips, frames: int, generator: torch.Generator) -> tuple[Batch, Windows]:
        """About ``frames`` frames of clean windows, and the same with noise."""
        length = 32 + int(torch.randint(33, (), generator=generator))
        count = max(4, frames // length)
        rates = torch.tensor(corruption.FPS, dtype=torch.float32)
        fps = rates[torch.randint(len(rates), (count,), generator=generator)]
        batch = clips.sample(length, fps, generator)
        return batch, self.spoil(
            batch, *corruption.add_noise(batch.rotations, batch.root, batch.bodies.offsets, generator)
        )

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
        every = torch.ones(batch.rotations.shape[:3], dtype=torch.bool, device=hips.device)
        return {
            "rotation": turn.mean(),
            **losses.motion_losses(condition.frame, rotations, hips, true_rotations, true_hips, every, batch),
        }

    @torch.no_grad()
    def score(self, clips: Clips, generator: torch.Generator) -> dict[str, float]:
        """Ratios to the middle smoothing (50 ms) at 5° and 2 cm, 30 fps: errors of position, angle and acceleration."""
        batch = clips.sample(64, torch.full((128,), 30.0), generator, augment=False)
        turn = torch.randn((*batch.rotations.shape[:-1], 3), generator=generator).to(batch.root) * math.radians(5)
        root = batch.root + 0.02 * torch.randn(batch.root.shape, generator=generator).to(batch.root)
        condition = self.network.condition(self.spoil(batch, rot.multiply(batch.rotations, rot.exp(turn)), root))
        true = condition.frame.enter(batch.rotations, batch.root)
        base = (condition.base_rotations, condition.base_hips)
        ours = residual.add(*base, self.network.predict(condition))
        p = [condition.frame.positions(*motion).diff(n=2, dim=1) for motion in (ours, base, true)]
        shake = [(x - p[2]).norm(dim=-1).mean() for x in p[:2]]
        return {**_ratios(condition.frame, ours, base, true, 0), "acceleration": float(shake[0] / shake[1])}


def _ratios(
    frame: Frame,
    ours: tuple[Tensor, Tensor],
    base: tuple[Tensor, Tensor],
    true: tuple[Tensor, Tensor],
    context: int,
    joints: Tensor | None = None,
) -> dict[str, float]:
    """Mean position error and rotation angle over those of the base; joints (B, 22): only these count."""
    inside = slice(context, -context or None)
    p = [frame.positions(*motion)[:, inside] for motion in (ours, base, true)]
    q = [motion[0][:, inside] for motion in (ours, base, true)]
    weight = torch.ones_like(p[0][..., 0]) if joints is None else joints[:, None].expand(p[0].shape[:-1]).float()
    distance = [((x - p[2]).norm(dim=-1) * weight).sum() for x in p[:2]]
    turn = [(rot.angle(x, q[2]) * weight).sum() for x in q[:2]]
    return {"position": float(distance[0] / distance[1]), "angle": float(turn[0] / turn[1])}


TASKS: dict[str, type[PriorTask]] = {task.name: task for task in (InbetweenTask, CompletionTask, RefinementTask)}
