"""Training of in-betweening in the paper's form and of the neighbours it is compared with, on the same data.

Windows of 45 to 224 frames at 30 fps with a transition of 30 somewhere inside. A network with context is told what is
around the transition and judged on the transition alone (Eqs. 3, 8 and 11); one without sees whole noisy windows and is
judged on all of them, as MDM is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from ..baselines import interpolate
from ..contract import MotionError
from ..model.config import GENERATIVE, generative_from_dict, overridden
from ..pack import Pack
from ..priors.generative import GenerativeNetwork, Guidance
from ..priors.network import Windows
from ..text import vocabulary
from .clips import Batch, Clips, LabelIds
from .tasks import UNLABELLED_SHARE, PriorTask, _ratios

FPS = 30.0
SHORTEST, LONGEST = 45, 224
"""Frames of a window."""
GAP = 30
"""Frames of the transition."""
CONTEXT = 5
"""Fewest frames on each side of it."""
MEASURED_BATCHES = 12
OWN_FIELDS = ("tokens", "context", "steps", "objective", "emphasis")
"""Of `GenerativeConfig`, besides its KAA."""


def gap_mask(frames: int, start: Tensor) -> Tensor:
    """Observed (B, T, 23): all but `GAP` frames from ``start`` (B,)."""
    index = torch.arange(frames, device=start.device)
    inside = (index >= start[:, None]) & (index < start[:, None] + GAP)
    return ~inside[..., None].expand(-1, -1, 23)


def windows_of(batch: Batch, observed: Tensor, label: Tensor | None = None) -> Windows:
    """The true motion of a batch with what a network may see of it; times to the trusted frames are not read here."""
    nothing = torch.zeros_like(observed, dtype=batch.root.dtype)
    return Windows(
        batch.rotations, batch.root, observed, nothing, nothing, torch.ones_like(nothing[..., :22]), batch.bodies,
        batch.frame_step, label,
    )  # fmt: skip


class GenerativeTask(PriorTask):
    """Noise the tokens of a window, predict them clean (or the noise)."""

    name = "generative"
    network: GenerativeNetwork  # type: ignore[assignment]

    def __init__(self, about: Mapping[str, Any]):
        super().__init__(about)
        self.weights = replace(self.weights, state=1.0)
        self.longest = int(about.get("longest", LONGEST))

    @classmethod
    def configure(
        cls, size: str, overrides: Sequence[str], pack: Pack, init: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """See `PriorTask`; sizes are those of `model.config.GENERATIVE`, overrides of fields there and in the KAA."""
        if size not in GENERATIVE:
            raise MotionError(f"There is no generative size {size}; choose one of {', '.join(GENERATIVE)}.")
        config = generative_from_dict(init) if init else GENERATIVE[size]
        words = (init or {}).get("words") or vocabulary(pack.labels)
        own = [item for item in overrides if item.partition("=")[0] in OWN_FIELDS]
        kaa = overridden(config.kaa, [item for item in overrides if item not in own])
        return {**asdict(replace(overridden(config, own), kaa=kaa)), "words": list(words)}

    @property
    def label_ids(self) -> LabelIds | None:
        """How labels become word rows, for `Clips`."""
        return self.network.text.ids if self.network.text else None

    def draw(self, clips: Clips, frames: int, generator: torch.Generator) -> tuple[Batch, Windows]:
        """About ``frames`` frames of clean windows of one length, and the same with a transition in each."""
        length = int(torch.randint(SHORTEST, self.longest + 1, (), generator=generator))
        count = max(4, frames // length)
        batch = clips.sample(length, torch.full((count,), FPS), generator)
        start = torch.randint(CONTEXT, length - GAP - CONTEXT + 1, (count,), generator=generator)
        return batch, windows_of(batch, gap_mask(length, start.to(clips.device)))

    def prepare(self, clips: Clips, generator: torch.Generator) -> None:
        """Measure mean and deviation of the tokens."""
        tokens = []
        for _ in range(MEASURED_BATCHES):
            scene = self.network.condition(self.draw(clips, 64 * 54, generator)[1])
            tokens.append(self.network.scale.back(scene.truth).flatten(0, 1))
        self.network.scale.measure(torch.cat(tokens))

    def forward(self, batch: Batch, windows: Windows, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean square of what is to be predicted, over the transition or, without context, over everything."""
        network = self.network
        if network.text is not None:
            said = torch.rand((len(batch.root), 1), generator=generator) >= UNLABELLED_SHARE
            windows = replace(windows, label=network.text.embed(batch.label) * said.to(batch.root.device))
        scene = network.condition(windows)
        x0 = network.to_state(scene.truth)
        step = torch.randint(network.schedule.steps, (len(x0),), generator=generator).to(x0.device)
        noise = torch.randn(x0.shape, generator=generator).to(x0)
        predicted = network.predict(scene, network.schedule.add_noise(x0, noise, step), step)
        off = (predicted - (x0 if network.config.objective == "x0" else noise)).square()
        if not network.config.context:
            return {"state": off.mean()}
        hidden = ~scene.known.reshape(off.shape)
        return {"state": (off * hidden).sum() / hidden.sum().clamp(min=1)}

    @torch.no_grad()
    def score(self, clips: Clips, generator: torch.Generator) -> dict[str, float]:
        """Ratios to interpolation on gaps of one second at 30 fps, in ten DDIM steps with imputation."""
        frames, at, count = 54, 12, 32
        batch = clips.sample(frames, torch.full((count,), FPS), generator, augment=False)
        observed = gap_mask(frames, torch.full((count,), at, device=clips.device))
        scene = self.network.condition(windows_of(batch, observed))
        ours = self.network.motion(scene, self.network.sample(scene, 10, generator, Guidance(impute=True)))
        base = scene.frame.enter(*interpolate(batch.rotations, batch.root, observed))
        return _ratios(scene.frame, ours, base, (scene.rotations, scene.hips), at)
