"""The priors' networks: condition in, motion out, one batch of windows at a time.

In-betweening and completion are one network with other weights: what is hidden differs, not how it is found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import rotations as rot
from ..contract import MotionError
from ..diffusion import Schedule, ddim
from ..diffusion.schedule import Objective
from ..model.config import EncoderConfig, KAAConfig
from ..model.encoder import Encoder
from ..text import DIM, WordTable
from . import border, passage, residual
from .generative import GenerativeNetwork
from .masked import PositionsNetwork, SmoothNetwork
from .recall import Memory
from .spread import MotionNoise
from .window import TOKEN, Bodies, Frame, find_frame, seconds_from_centre, tokens

Progress = Callable[[int, int], None]
STEPS = 50
Base = Literal["interpolation", "rest"]


@dataclass(frozen=True)
class Windows:
    """A batch of windows of a motion, as torch tensors.

    rotations (B, T, 22, 4), root (B, T, 3): the base motion in the world, which is what is observed where something
    is, and the caller's guess (`baselines.interpolate`) elsewhere. observed (B, T, 23) bool: what is trusted. before,
    after (B, T, 23): seconds since and until a trusted value of the column. confidence (B, T, 22) in [0, 1].
    frame_step (B,) seconds. label (B, label): what is done, as the prior's `text.LabelEncoder` says it; None = unsaid.
    plain: the interpolated rotations and root, where a better guess has taken their place. memories: the whole take of
    each window, where there is one to be searched.
    """

    rotations: Tensor
    root: Tensor
    observed: Tensor
    before: Tensor
    after: Tensor
    confidence: Tensor
    bodies: Bodies
    frame_step: Tensor
    label: Tensor | None = None
    plain: tuple[Tensor, Tensor] | None = None
    memories: Sequence[Memory | None] = ()


@dataclass(frozen=True)
class Condition:
    """What a network is told about a batch of windows, and how its answer becomes motion."""

    frame: Frame
    base_rotations: Tensor  # inside
    base_hips: Tensor
    features: Tensor
    bank: Tensor  # (B, T, 22, K, 6) directions the network can weigh, scaled like the state
    scale: Tensor
    hidden: Tensor  # (B, T, 22, 6) state channels to generate
    seconds: Tensor
    frame_step: Tensor
    label: Tensor | None = None
    plain: Tensor | None = None  # (B, T, 22, 6) from the base to interpolation, scaled; None = they are one
    guessed: Tensor | None = None  # (B, T, 22) bool: whose base is a passage's guess; None = nobody's


def _trusted_frames(observed: Tensor) -> Tensor:
    """Frames to take heading and origin from: wholly observed ones, else those with a known pelvis, else all."""
    whole = observed.all(dim=-1)
    pelvis = observed[..., 0] & observed[..., 22]
    best = torch.where(whole.any(dim=1, keepdim=True), whole, pelvis)
    return torch.where(best.any(dim=1, keepdim=True), best, torch.ones_like(best))


def _squash(seconds: Tensor) -> Tensor:
    """[0, ∞] seconds → [0, 1], with most resolution below half a second."""
    return torch.where(torch.isinf(seconds), torch.ones_like(seconds), seconds / (seconds + 0.3))


def _encode(encoder: Encoder, condition: Condition, state: Tensor, step: Tensor) -> Tensor:
    """The encoder's answer; in training its arithmetic alone may be bfloat16, never that of rotations."""
    with torch.autocast(state.device.type, torch.bfloat16, enabled=encoder.half_precision and encoder.training):
        c = condition
        return encoder(c.features, state, step, c.seconds, c.frame_step, c.label).float()


def _departure(x0: Tensor, hidden: Tensor) -> Tensor:
    """RMS over the hidden frames of a scaled residual from interpolation (B, T, 22, 6), joint by joint, turn and shift.

    On validation windows its logarithm goes with that of the error at 0.9: who hardly moves is hardly in doubt.
    """
    parts = []
    for channels in (slice(0, 3), slice(3, 6)):
        there = hidden[..., channels].to(x0)
        square = (x0[..., channels] ** 2 * there).sum(dim=(1, 3), keepdim=True)
        parts.append((square / there.sum(dim=(1, 3), keepdim=True).clamp(min=1)).sqrt().expand(-1, -1, -1, 3))
    return torch.cat(parts, dim=-1)


class InbetweenNetwork(nn.Module):
    """Fills what is not observed, as a residual over interpolation (Eq. 11, conditioned natively).

    The base is SLERP and LERP between the nearest observed values of each column. Tokens describe the base, so that
    the observed context is read as it is; masks and times to the nearest trusted frame say what the base is worth.
    The answer is a free residual plus weighted continuations of the border velocities (see `border`). What is to be
    said over a passage's guess is another thing than over interpolation, so each has a read-out of its own.

    words: the labels' vocabulary, see `text`; with none the network takes no labels.

    Two choices are there to be measured against (`benchmarks/ablations.py`). objective: what the network says, the
    clean signal x0 or the noise, which has no one-pass read-out. base: "interpolation", or "rest": hidden rotations are
    then written from the rest pose and hidden hips from the window's origin, so that x0 is the motion itself.
    """

    FEATURES = TOKEN + 6 + border.COUNT * residual.STATE
    OUTPUTS = residual.STATE + 2 * border.COUNT
    REST_SCALE = 0.4
    """Radians and leg lengths that count as one from the rest pose: about the RMS of CMU's motions."""
    VARIETY = 0.4
    """How far takes part from the one-pass answer; 1 = as far as that parts from interpolation, joint by joint."""
    LARGEST = 6.0
    """Clean signal implied by a predicted noise is kept within this: near pure noise a small error means a huge one."""

    def __init__(
        self,
        kaa: KAAConfig,
        words: Sequence[str] = (),
        objective: Objective = "x0",
        base: Base = "interpolation",
        passages: Mapping[str, int] | None = None,
    ):
        super().__init__()
        self.objective, self.base = objective, base
        self.text = WordTable(words) if words else None
        outputs = self.OUTPUTS * (2 if passages else 1)
        self.config = EncoderConfig(kaa, self.FEATURES, residual.STATE, outputs, DIM if words else 0)
        self.encoder = Encoder(self.config)
        self.scale = residual.GapScale()
        self.spread = MotionNoise()
        self.passage = passage.PassageNetwork.from_settings({"passage": passages}) if passages else None
        if self.passage is not None:  # trained on its own
            self.passage.eval().requires_grad_(False)
        self.schedule = Schedule(STEPS, "cosine", zero_terminal_snr=objective == "x0")

    def settings(self) -> dict[str, Any]:
        """What besides its KAA sizes it takes to build this network again."""
        words = list(self.text.words) if self.text else []
        guess = self.passage.settings() if self.passage else {}
        return {"words": words, "objective": self.objective, "base": self.base, **guess}

    def train(self, mode: bool = True) -> InbetweenNetwork:
        """As of any module, but the passages' network is trained on its own."""
        super().train(mode)
        if self.passage is not None:
            self.passage.eval()
        return self

    @property
    def longest(self) -> float:
        """Seconds of gap that are filled in one go; longer ones get coarse frames first."""
        return 2.0 if self.passage is None else passage.LONGEST - 0.1

    def guess(self, windows: Windows) -> Windows:
        """The windows with the passages' network's guess in the place of interpolation, where it has one."""
        if self.passage is None:
            return windows
        found = self.passage.guess(
            windows.rotations, windows.root, windows.observed, windows.bodies, windows.frame_step, windows.memories
        )
        return replace(windows, rotations=found[0], root=found[1], plain=(windows.rotations, windows.root))

    @staticmethod
    def _guessed(windows: Windows) -> Tensor:
        """(B, T, 22): joints that lie between two borders which are near enough for a guess."""
        apart = (windows.before + windows.after)[..., :22]
        return ~windows.observed[..., :22] & (apart <= passage.LONGEST)

    def condition(self, windows: Windows) -> Condition:
        """Everything about the windows that does not depend on the diffusion step; their motion is the base."""
        observed = windows.observed
        frame = find_frame(windows.rotations, windows.root, _trusted_frames(observed), windows.bodies)
        base_rotations, base_hips = frame.enter(windows.rotations, windows.root)
        scale = self.scale(windows.before, windows.after)
        tangents = border.tangents(
            base_rotations, base_hips, observed, windows.before, windows.after, windows.frame_step
        )
        tangents = (tangents / scale.clamp(min=1e-6)[..., None, :]).clamp(-4, 4)
        features = torch.cat(
            [
                tokens(base_rotations, base_hips, frame, windows.frame_step),
                torch.stack(
                    [
                        observed[..., :22].float(),
                        observed[..., 22:].float().expand(*observed.shape[:2], 22),
                        _squash(windows.before[..., :22]),
                        _squash(windows.after[..., :22]),
                        windows.confidence,
                        windows.bodies.exists[:, None].float().expand(*observed.shape[:2], 22),
                    ],
                    dim=-1,
                ),
                tangents.flatten(-2),
            ],
            dim=-1,
        )
        plain = None
        if windows.plain is not None:
            plain = residual.difference(base_rotations, base_hips, *frame.enter(*windows.plain)) / scale.clamp(min=1e-6)
        if self.base == "rest":
            rest = torch.zeros_like(base_rotations)
            rest[..., 0] = 1
            base_rotations = torch.where(observed[..., :22, None], base_rotations, rest)
            base_hips = torch.where(observed[..., 22:], base_hips, torch.zeros_like(base_hips))
            tangents, scale = torch.zeros_like(tangents), torch.full_like(scale, self.REST_SCALE)
        return Condition(
            frame, base_rotations, base_hips, features, tangents, scale,
            residual.columns(~observed), seconds_from_centre(observed.shape[1], windows.frame_step), windows.frame_step,
            windows.label, plain, self._guessed(windows) if windows.plain is not None else None,
        )  # fmt: skip

    def predict(self, condition: Condition, state: Tensor, step: Tensor) -> Tensor:
        """Scaled x0, or noise, (B, T, 22, 6) from a scaled noisy state at ``step`` (B,); zero where observed.

        With the signal objective the state counts for as much as it holds of the signal, if what the network says is
        the mean of all motions that fit here, and they spread by one (after Karras et al. 2022, Sec. 5). At the last
        step it holds nothing and the answer is the network's own; at the first it is nearly the state.
        """
        out = _encode(self.encoder, condition, state, step)
        if self.passage is not None:
            plain, guessed = out.chunk(2, dim=-1)
            out = plain if condition.guessed is None else torch.where(condition.guessed[..., None], guessed, plain)
        free, weights = out.split([residual.STATE, 2 * border.COUNT], dim=-1)
        said = free + residual.weigh(condition.bank, weights)
        if self.objective == "x0":
            abar = self.schedule.at(step, said)
            said = abar.sqrt() * state + (1 - abar) * said
        return said * condition.hidden

    @staticmethod
    def motion(condition: Condition, state: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (B, T, 22, 4) and root (B, T, 3) in the world that an unscaled residual leads to."""
        return condition.frame.leave(*residual.add(condition.base_rotations, condition.base_hips, state))

    def noise(self, condition: Condition, generator: torch.Generator | None = None) -> Tensor:
        """What a scaled state (B, T, 22, 6) is noised with; see `spread`."""
        return self.spread(condition.seconds, generator) * condition.hidden

    def sample(
        self, condition: Condition, steps: int = 1, generator: torch.Generator | None = None,
        progress: Progress | None = None, guidance: float = 1.0, eta: float = 0.0,
    ) -> Tensor:  # fmt: skip
        """Unscaled residual (B, T, 22, 6). One step is the deterministic read-out; more draw another take.

        guidance: classifier-free guidance (Ho & Salimans 2022). 1 = the label as trained; more exaggerates what the
            label changes, at the cost of a second pass.
        eta: 0 = DDIM, 1 = the ancestral sampler (DDPM), which draws fresh noise at every step.
        """
        if steps == 1 and self.objective == "noise":
            raise MotionError("A prior that predicts noise has no one-pass read-out; choose two or more steps.")
        unlabelled = replace(condition, label=None)
        batch = len(condition.features)

        def predict(x: Tensor, step: int) -> Tensor:
            at = torch.full((batch,), step, device=x.device)
            said = self.predict(condition, x, at)
            if guidance == 1 or condition.label is None:
                return said
            unsaid = self.predict(unlabelled, x, at)
            return unsaid + guidance * (said - unsaid)

        def restore(x0: Tensor) -> Tensor:
            if self.objective == "noise":
                x0 = x0.clamp(-self.LARGEST, self.LARGEST)
            return x0 * condition.hidden

        last = self.schedule.steps - 1
        noise = torch.zeros_like(condition.scale)
        size = torch.full_like(noise[:, :1, :1], self.VARIETY)
        one_pass = predict(noise, last) if self.objective == "x0" else None
        if one_pass is not None:
            away = one_pass if condition.plain is None else one_pass - condition.plain
            size = size * _departure(away, condition.hidden)
        if steps > 1:
            noise = size * self.noise(condition, generator)

        def answer(x: Tensor, step: int) -> Tensor:  # the first step reads zeros too
            return one_pass if one_pass is not None and step == last else predict(x, step)

        state = ddim(
            answer, noise, self.schedule, self.schedule.spaced(steps), objective=self.objective, eta=eta,
            draw=lambda: size * self.noise(condition, generator), restore=restore,
            renoise_first=self.objective == "x0", progress=progress,
        )  # fmt: skip
        return state * condition.scale


class RefinementNetwork(nn.Module):
    """Takes the shake out of an observed motion (Eq. 10's task, read out in one pass from the data itself).

    The observed rotations, and Gaussian smoothings of them at several widths, are written as rotation vectors around
    one middle smoothing. Per joint and frame the network mixes them (so it starts as an ordinary filter and learns
    where to be sharp) and adds a residual of its own in units of the noise it sees.
    """

    WIDTHS = (0.025, 0.05, 0.1, 0.2)
    """Standard deviations of the smoothings, seconds."""
    MIDDLE = 1
    BANK = len(WIDTHS) + 1
    FEATURES = TOKEN + 6 * (BANK - 1) + 3
    OUTPUTS = residual.STATE + 2 * BANK

    def __init__(self, kaa: KAAConfig):
        super().__init__()
        self.config = EncoderConfig(kaa, self.FEATURES, 0, self.OUTPUTS)
        self.encoder = Encoder(self.config)

    def settings(self) -> dict[str, list[str]]:
        """What besides its KAA sizes it takes to build this network again: nothing."""
        return {}

    @staticmethod
    def smooth(values: Tensor, frame_step: Tensor, width: float) -> Tensor:
        """Gaussian filter over axis 1 of (B, T, C), renormalised at the ends. width in seconds."""
        index = torch.arange(values.shape[1], device=values.device, dtype=values.dtype)
        lag = (index[:, None] - index) * frame_step[:, None, None]
        kernel = torch.exp(-0.5 * (lag / width) ** 2)
        return (kernel / kernel.sum(dim=-1, keepdim=True)) @ values

    def condition(self, windows: Windows) -> Condition:
        """What the network is told; its bank holds the tangents from the middle smoothing to each candidate."""
        observed_rotations, root = windows.rotations, windows.root
        b, t = root.shape[:2]
        frame = find_frame(
            observed_rotations, root, torch.ones((b, t), dtype=torch.bool, device=root.device), windows.bodies
        )
        rotations, hips = frame.enter(rot.continuous(observed_rotations, axis=1), root)
        stacked = torch.cat([rotations.flatten(2), hips], dim=-1)
        smooth = [self.smooth(stacked, windows.frame_step, width) for width in self.WIDTHS]
        candidates = [(rotations, hips)] + [
            (rot.normalize(x[..., :-3].reshape(b, t, 22, 4)), x[..., -3:]) for x in smooth
        ]
        base_rotations, base_hips = candidates[1 + self.MIDDLE]
        bank = torch.stack([residual.difference(base_rotations, base_hips, *c) for c in candidates], dim=-2)
        noise = self._noise(bank)
        detail = (
            torch.cat([bank[..., : 1 + self.MIDDLE, :], bank[..., 2 + self.MIDDLE :, :]], dim=-2) / noise[..., None, :]
        )
        level = torch.stack([noise[..., 0], noise[:, :, :1, 3].expand(b, t, 22)], dim=-1)
        features = torch.cat(
            [
                tokens(base_rotations, base_hips, frame, windows.frame_step),
                detail.flatten(-2).clamp(-8, 8),
                (level * 50).log(),
                windows.bodies.exists[:, None, :, None].float().expand(b, t, 22, 1),
            ],
            dim=-1,
        )
        hidden = torch.ones_like(base_rotations[..., :1]).expand(b, t, 22, residual.STATE)
        seconds = seconds_from_centre(t, windows.frame_step)
        return Condition(frame, base_rotations, base_hips, features, bank, noise, hidden, seconds, windows.frame_step)

    def _noise(self, bank: Tensor) -> Tensor:
        """(B, T, 22, 6) size of the finest detail per joint over the window, rotation and root apart."""
        fine = bank[..., 0, :] - bank[..., 1, :]
        turn = fine[..., :3].square().mean(dim=(1, 3), keepdim=True).sqrt()
        shift = fine[:, :, :1, 3:].square().mean(dim=(1, 2, 3), keepdim=True).sqrt().expand_as(turn)
        b, t = fine.shape[:2]
        return torch.cat([turn.expand(b, t, 22, 3), shift.expand(b, t, 22, 3)], dim=-1).clamp(min=1e-4)

    def predict(self, condition: Condition) -> Tensor:
        """Unscaled residual (B, T, 22, 6) from the middle smoothing."""
        b, t = condition.features.shape[:2]
        empty = condition.features.new_zeros((b, t, 22, 0))
        step = torch.zeros(b, dtype=torch.long, device=empty.device)
        out = _encode(self.encoder, condition, empty, step)
        free, mix = out.split([residual.STATE, 2 * self.BANK], dim=-1)
        weights = mix.unflatten(-1, (2, self.BANK)).softmax(dim=-1).flatten(-2)
        return residual.weigh(condition.bank, weights) + free * condition.scale


Network = (
    InbetweenNetwork | RefinementNetwork | passage.PassageNetwork | GenerativeNetwork | PositionsNetwork | SmoothNetwork
)
NETWORKS: dict[str, type[Network]] = {
    "inbetween": InbetweenNetwork,
    "completion": InbetweenNetwork,
    "refinement": RefinementNetwork,
    "passage": passage.PassageNetwork,
    "generative": GenerativeNetwork,
    "positions_pretrain": PositionsNetwork,
    "positions_completion": PositionsNetwork,
    "positions_refinement": PositionsNetwork,
    "smoothnet": SmoothNetwork,
}


def parameters(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in network.parameters())
