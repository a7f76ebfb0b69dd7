"""Training of the position priors in the paper's form, in its three stages, and of the SmoothNet baseline.

    T="python -m mmdm_engine train --data train.npz"
    $T positions_pretrain   --size completion_lite --run runs/a --export a.safetensors
    $T positions_completion --init a.safetensors   --run runs/b --export b.safetensors
    $T positions_refinement --init b.safetensors   --run runs/c --export c.safetensors

``--set`` takes the fields of `KAAConfig`, `MaskedConfig` and `Drill`; ``joint_set`` by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from .. import kinematics, masking
from .. import rotations as rot
from ..contract import MotionError
from ..joint_sets import JOINT_SETS, SMPL22, JointSet
from ..model.config import MASKED, SMOOTHNETS, SmoothNetConfig, masked_from_dict, overridden, to_dict
from ..pack import Pack
from ..priors import store
from ..priors.masked import PositionsNetwork, SmoothNetwork, interpolate_positions
from .clips import Batch, Clips
from .tasks import PriorTask

RATES = (30.0, 25.0, 24.0, 50.0, 60.0)
"""Frames per second that cameras give."""
VIEWS = 4
LIMIT = 0.4
"""Weight of a joint that at most one of the made-up cameras shows well."""
SURROUNDINGS = 5
"""Windows' worth of frames that are drawn for one window whose joints are interpolated over the take."""
SCORE_STEPS = 5


@dataclass(frozen=True)
class Drill:
    """How clean windows are augmented and spoiled.

    pattern, ratio: the paper's masks, or "limit": all that weighs more than `LIMIT`, in spells, as `capture` hides.
    yaw, flip: turned about the vertical by ±180°, left and right swapped.
    unmasked: share of windows of which the encoder reads everything, as it does where no confidence is given.
    noise, noise_high: bounds of the noise's standard deviation in metres; 0 = none, the completion task.
    shaken: upper bound of the same on what the completion task is given, metres.
    process: what the forward diffusion of refinement ends in, Gaussian noise or the noisy data, from which the reverse
        process starts (Eq. 10).
    rates: "camera" draws 24 to 60 frames a second, "30" only that.
    """

    pattern: Literal["a", "b", "c", "limit"] = "a"
    ratio: float = 0.5
    yaw: bool = True
    flip: bool = True
    unmasked: float = 0.0
    noise: float = 0.0
    noise_high: float = 0.0
    shaken: float = 0.0
    process: Literal["gaussian", "data"] = "gaussian"
    rates: Literal["camera", "30"] = "camera"

    def __post_init__(self) -> None:
        if self.pattern not in ("a", "b", "c", "limit") or self.process not in ("gaussian", "data"):
            raise MotionError("The pattern must be a, b, c or limit, and the process gaussian or data.")
        if not 0 < self.ratio < 1:
            raise MotionError(
                f"The masked share must lie between 0 and 1, not {self.ratio:g}; the paper's are 0.5 and 0.3."
            )


PRETRAIN = Drill()
COMPLETION = Drill("c", 0.3)
REFINEMENT = Drill("c", 0.3, unmasked=0.5, noise=0.01, noise_high=0.12, process="data")


@dataclass(frozen=True)
class PositionWindows:
    """truth, observed (B, T, J, 3) metres: clean, and as captured. visible (B, T, J): what the encoder reads.

    base: what `interpolate_positions` gives of the visible joints.
    """

    truth: Tensor
    observed: Tensor
    visible: Tensor
    frame_step: Tensor
    base: tuple[Tensor, Tensor]

    def middle(self, frames: int) -> PositionWindows:
        """The ``frames`` in the middle, with a base that knows of those around them."""
        start = (self.truth.shape[1] - frames) // 2
        inside = slice(start, start + frames)
        return replace(
            self, truth=self.truth[:, inside], observed=self.observed[:, inside], visible=self.visible[:, inside],
            base=(self.base[0][:, inside], self.base[1]),
        )  # fmt: skip


def joint_positions(batch: Batch, joint_set: JointSet) -> Tensor:
    """(B, T, J, 3) metres of a set's points."""
    points = kinematics.positions(batch.rotations, batch.root, batch.bodies.offsets[:, None])
    if joint_set is SMPL22:
        return points
    return torch.from_numpy(joint_set.weights).to(points) @ points


def augment(positions: Tensor, joint_set: JointSet, drill: Drill, generator: torch.Generator) -> Tensor:
    """Turn about Y by any angle, and swap sides in half of the windows (B, T, J, 3)."""
    batch = len(positions)
    turn = (torch.rand(batch, generator=generator) * 2 - 1) * torch.pi
    flip = torch.rand(batch, generator=generator) < 0.5
    if drill.yaw:
        positions = rot.rotate(rot.about_y(turn.to(positions))[:, None, None], positions)
    if drill.flip:
        mirrored = positions[:, :, list(joint_set.mirror)] * positions.new_tensor([-1.0, 1.0, 1.0])
        positions = torch.where(flip.to(positions.device)[:, None, None, None], mirrored, positions)
    return positions


def add_jitter(positions: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise of unknown level, uneven over joints in half of the windows, drifting in a third of them."""
    b, t, j, _ = positions.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def some(share: float) -> Tensor:
        return (torch.rand((b, 1, 1, 1), generator=generator) < share).float()

    level = low * (high / low) ** torch.rand((b, 1, 1, 1), generator=generator)
    level = level * torch.exp(0.5 * normal(b, 1, j, 1) * some(0.5))
    part = torch.linspace(0, 1, t)[:, None, None]
    drift = normal(b, 1, j, 3) * (1 - part) + normal(b, 1, j, 3) * part
    drift = drift / ((1 - part) ** 2 + part**2).sqrt()
    slow = some(1 / 3) * torch.rand((b, 1, 1, 1), generator=generator) * 0.7
    noise = (1 - slow).sqrt() * normal(b, t, j, 3) + slow.sqrt() * drift
    return positions + (level * noise).to(positions)


def occlusion_weights(truth: Tensor, observed: Tensor, generator: torch.Generator, passing: bool = False) -> Tensor:
    """Eq. 9's weights (B, T, J) as four made-up cameras would give them.

    A ball somewhere at the body hides what lies inside it from most cameras, for as long as it does; every camera is a
    little unsure of every joint. The triangulation error follows the true one within a factor of about two.
    passing: the ball is there for a part of the window only.
    """
    b, t, j, _ = truth.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(truth)

    middle = torch.randint(j, (b, 1, 1, 1), generator=generator).to(truth.device).expand(b, t, 1, 3)
    ball = truth.gather(2, middle) + 0.1 * torch.randn((b, 1, 1, 3), generator=generator).to(truth)
    inside = (truth - ball).norm(dim=-1) < 0.05 + 0.45 * uniform(b, 1, 1)
    if passing:
        lasts = uniform(b, 1, 1)
        since = torch.linspace(0, 1, t).to(truth)[:, None] - (uniform(b, 1, 1) * (1 + lasts) - lasts)
        inside &= (since >= 0) & (since <= lasts)
    blocked = inside[..., None] & (uniform(b, 1, 1, VIEWS) < 0.8)
    confidence = (0.5 + 0.5 * uniform(b, t, j, VIEWS)) * torch.where(blocked, 0.05, 1.0)
    blur = torch.exp(0.7 * torch.randn((b, t, j), generator=generator).to(truth))
    return masking.adaptive_weights(confidence, (observed - truth).norm(dim=-1) * blur)


def hide(truth: Tensor, observed: Tensor, drill: Drill, generator: torch.Generator, passing: bool = False) -> Tensor:
    """visible (B, T, J) by the drill's pattern. passing: see `occlusion_weights`."""
    shape = (truth.shape[0], truth.shape[1], truth.shape[2])
    if drill.pattern == "c":
        hidden = masking.pattern_c(occlusion_weights(truth, observed, generator, passing), drill.ratio, generator)
    elif drill.pattern == "limit":
        hidden = occlusion_weights(truth, observed, generator, passing) > LIMIT
    else:
        pattern = masking.pattern_a if drill.pattern == "a" else masking.pattern_b
        hidden = pattern(shape, drill.ratio, generator).to(truth.device)
    whole = torch.rand((shape[0], 1, 1), generator=generator) < drill.unmasked
    return ~hidden | whole.to(truth.device)


class PositionsTask(PriorTask):
    """The masked model on windows of joint positions; Eq. 8's loss over hidden joints, or Eq. 10's over all."""

    network: PositionsNetwork  # type: ignore[assignment]
    default: ClassVar[Drill]

    def __init__(self, about: Mapping[str, Any]):
        super().__init__(about)
        self.drill = Drill(**about["drill"])
        self.weights = replace(self.weights, state=1.0)

    @classmethod
    def configure(
        cls, size: str, overrides: Sequence[str], pack: Pack, init: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """The network to train, of a named size or that of the card ``init``, and its drill."""
        if init is None and size not in MASKED:
            raise MotionError(f"There is no size {size} of this prior; choose one of {', '.join(MASKED)}.")
        if init is not None and "masked" not in init:
            raise MotionError("Those weights are no position prior; start from one, or leave out --init.")
        config = masked_from_dict(dict(init["masked"])) if init else MASKED[size]
        drill, rest = cls.default, []
        for item in overrides:
            name, _, value = item.partition("=")
            if name == "joint_set":
                if value not in JOINT_SETS:
                    raise MotionError(f"There is no joint set {value}; choose one of {', '.join(JOINT_SETS)}.")
                config = replace(config, joint_set=JOINT_SETS[value])
            elif name in {f.name for f in fields(drill)}:
                drill = overridden(drill, [item])
            elif name in {f.name for f in fields(config)}:
                config = overridden(config, [item])
            else:
                rest.append(item)
        config = replace(config, kaa=overridden(config.kaa, rest))
        if config.objective == "noise" and drill.process == "data":
            drill = replace(drill, process="gaussian")  # the noise to be predicted must be noise
        return {"kaa": to_dict(config.kaa), "masked": to_dict(config), "drill": asdict(drill)}

    def start_from(self, prior: str) -> bool:
        """Take over the weights of an earlier stage, and the spreads it measured."""
        super().start_from(prior)
        return isinstance(store.load_any(prior, "cpu")[1], PositionsNetwork)

    def draw(self, clips: Clips, frames: int, generator: torch.Generator) -> tuple[Batch, PositionWindows]:  # type: ignore[override]
        """About ``frames`` frames of windows, clean and spoiled."""
        config, drill = self.network.config, self.drill
        count = max(4, frames // config.window)
        rates = torch.tensor(RATES if drill.rates == "camera" else (30.0,))
        fps = rates[torch.randint(len(rates), (count,), generator=generator)]
        surrounded = config.base == "take"
        batch = clips.sample(config.window * (SURROUNDINGS if surrounded else 1), fps, generator, augment=False)
        truth = augment(joint_positions(batch, config.joint_set), config.joint_set, drill, generator)
        low, high = (drill.noise, drill.noise_high) if drill.noise else (drill.shaken / 10, drill.shaken)
        observed = add_jitter(truth, low, high, generator) if low else truth
        visible = hide(truth, observed, drill, generator, passing=surrounded)
        base = interpolate_positions(observed, torch.ones_like(visible) if self.refines else visible)
        return batch, PositionWindows(truth, observed, visible, batch.frame_step, base).middle(config.window)

    @property
    def refines(self) -> bool:
        """Whether all joints are given, with noise, and all of them are predicted."""
        return self.drill.noise > 0

    def _condition(self, windows: PositionWindows) -> Any:
        if self.refines:
            every = torch.ones_like(windows.visible)
            return self.network.condition(windows.observed, every, windows.frame_step, windows.visible, windows.base)
        return self.network.condition(windows.observed, windows.visible, windows.frame_step, base=windows.base)

    def prepare(self, clips: Clips, generator: torch.Generator) -> None:
        """Measure the spread of positions around their reference, and of the state."""
        network = self.network
        for name in ("scale", "state_scale"):
            squares = []
            for _ in range(10):
                _, windows = self.draw(clips, 2560, generator)
                condition = self._condition(windows)
                state = network.enter(condition, windows.truth)
                if name == "scale":
                    squares.append(((windows.truth - condition.reference).square()).mean())
                elif network.config.residual and not self.refines:
                    squares.append(state[~windows.visible].square().mean())
                else:
                    squares.append(state.square().mean())
            getattr(network, name).copy_(torch.stack(squares).mean().sqrt())
            if not network.config.residual:
                break

    def forward(self, batch: Batch, windows: PositionWindows, generator: torch.Generator) -> dict[str, Tensor]:  # type: ignore[override]
        """The mean squared error of what the network predicts (Eq. 8; Eq. 10 over all joints)."""
        network, config = self.network, self.network.config
        condition = self._condition(windows)
        target = network.enter(condition, windows.truth)
        counted = torch.ones_like(windows.visible) if self.refines else ~windows.visible
        if not config.diffusion:
            predicted = network.one_pass(condition)
        else:
            step = torch.randint(config.steps, (len(target),), generator=generator).to(target.device)
            noise = torch.randn(target.shape, generator=generator).to(target)
            if self.refines and self.drill.process == "data":
                noise = network.known_state(condition)
            noisy = network.schedule.add_noise(target, noise, step)
            if not self.refines:  # the visible part holds its input values at every step
                noisy = torch.where(windows.visible[..., None], network.known_state(condition), noisy)
            predicted = network.predict(condition, noisy, step)
            target = noise if config.objective == "noise" else target
        error = (predicted - target).square().mean(dim=-1)
        return {"state": (error * counted).sum() / counted.sum().clamp(min=1)}

    @torch.no_grad()
    def score(self, clips: Clips, generator: torch.Generator) -> dict[str, float]:
        """Error on windows like the training ones: of hidden joints over interpolation, or of all over the input."""
        _, windows = self.draw(clips, 192 * self.network.config.window, generator)
        condition = self._condition(windows)
        start = self.network.known_state(condition)
        if not self.refines:
            start = torch.randn(start.shape, generator=generator).to(start)
        out = self.network.sample(
            condition, start, restore=not self.refines, steps=min(SCORE_STEPS, self.network.config.steps)
        )
        if self.refines:
            base, counted = windows.observed, torch.ones_like(windows.visible)
        else:
            base, known = windows.base
            base = torch.where(known[:, None, :, None], base, condition.reference.expand_as(base))
            counted = ~windows.visible
        ours, theirs = ((x - windows.truth).norm(dim=-1)[counted].mean() for x in (out, base))
        return {"position": float(ours / theirs)}


class PretrainTask(PositionsTask):
    """Stage 1: Pattern A, half of the joints of every pose."""

    name = "positions_pretrain"
    default = PRETRAIN


class CompletionTask(PositionsTask):
    """Stage 2: Pattern C at 0.3, what cameras lose."""

    name = "positions_completion"
    default = COMPLETION


class RefinementTask(PositionsTask):
    """Stage 3: noisy joints, all of them predicted."""

    name = "positions_refinement"
    default = REFINEMENT


class SmoothNetTask(PriorTask):
    """The temporal MLP on the refinement task: L1 on positions and on accelerations, as published."""

    name = "smoothnet"
    network: SmoothNetwork  # type: ignore[assignment]

    def __init__(self, about: Mapping[str, Any]):
        super().__init__(about)
        self.weights = replace(self.weights, position=1.0, acceleration=1.0)
        self.drill = REFINEMENT

    @classmethod
    def configure(
        cls, size: str, overrides: Sequence[str], pack: Pack, init: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """The network to train: of a named size, or that of the card ``init``."""
        if init is None and size not in SMOOTHNETS:
            raise MotionError(f"There is no size {size} of this network; choose one of {', '.join(SMOOTHNETS)}.")
        config = SmoothNetConfig(**init["smoothnet"]) if init else SMOOTHNETS[size]
        return {"smoothnet": to_dict(overridden(config, overrides))}

    def prepare(self, clips: Clips, generator: torch.Generator) -> None:
        """Nothing to measure."""

    def draw(self, clips: Clips, frames: int, generator: torch.Generator) -> tuple[Batch, PositionWindows]:  # type: ignore[override]
        """About ``frames`` frames of windows, clean and with noise."""
        window = self.network.config.window
        count = max(4, frames // window)
        rates = torch.tensor(RATES if self.drill.rates == "camera" else (30.0,))
        fps = rates[torch.randint(len(rates), (count,), generator=generator)]
        batch = clips.sample(window, fps, generator, augment=False)
        truth = augment(joint_positions(batch, SMPL22), SMPL22, self.drill, generator)
        observed = add_jitter(truth, self.drill.noise, self.drill.noise_high, generator)
        every = torch.ones_like(truth[..., 0]).bool()
        return batch, PositionWindows(truth, observed, every, batch.frame_step, (observed, every[:, 0]))

    def forward(self, batch: Batch, windows: PositionWindows, generator: torch.Generator) -> dict[str, Tensor]:  # type: ignore[override]
        """Loss terms of one batch."""
        error = self.network.smooth(windows.observed) - windows.truth
        return {"position": error.abs().mean(), "acceleration": error.diff(n=2, dim=1).abs().mean()}

    @torch.no_grad()
    def score(self, clips: Clips, generator: torch.Generator) -> dict[str, float]:
        """Error over that of the noisy input."""
        _, windows = self.draw(clips, 192 * self.network.config.window, generator)
        ours, theirs = (
            (x - windows.truth).norm(dim=-1).mean() for x in (self.network.smooth(windows.observed), windows.observed)
        )
        return {"position": float(ours / theirs)}


POSITION_TASKS: dict[str, type[PriorTask]] = {
    task.name: task for task in (PretrainTask, CompletionTask, RefinementTask, SmoothNetTask)
}
