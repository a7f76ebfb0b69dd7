"""Training of the passages' network: borders from random places, thousands of gaps a second instead of tens.

T="python -m mmdm_engine train --data train.npz"
$T passage   --learning-rate 1e-3 --run runs/p --export passage.safetensors
$T inbetween --passage passage.safetensors --run runs/i --export inbetween.safetensors
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import rotations as rot
from ..contract import PARENTS, MotionError
from ..model.config import overridden
from ..pack import Pack
from ..priors.passage import (
    AROUND,
    LONGEST,
    GapSize,
    PassageConfig,
    PassageNetwork,
    Passages,
    Reading,
    activity,
    channels,
    even_places,
)  # fmt: skip
from ..priors.window import Bodies, mirrored
from .clips import Clips, proportions, warped
from .corruption import PART_SHARE, PARTS
from .tasks import PriorTask

PLACES = 6
"""Places in each gap at which the answer is compared with the truth."""
MARGIN = 0.4
"""Seconds of the clip on either side of a gap."""
SHORT = 0.06
"""Seconds between borders of the shortest gap drawn."""
COMMON = 2.05
LONG_SHARE = 0.15
"""Share of gaps above `COMMON` seconds."""
DENSE_SHARE = 0.7
"""Share of gaps whose borders both have surroundings that are observed throughout."""
LEAST = 0.1
"""Smallest deviation of a feature, about six degrees: what hardly varies here may be far off on another skeleton."""
SCORED = (5, 15, 30, 45)
ARMS = (13, 16, 18, 20, 14, 17, 19, 21)


@dataclass(frozen=True)
class Truth:
    """What lies in the gaps: rotations (N, P, 22, 4) and root (N, P, 3) in the world at phases (N, P).

    kind (N,): what is lost, the whole body or which part of it.
    """

    rotations: Tensor
    root: Tensor
    phase: Tensor
    kind: Tensor


class PassageTask(PriorTask):
    """Draw borders, say what lies between them, compare at a few places with the truth."""

    name = "passage"
    network: PassageNetwork
    usual: Tensor

    def __init__(self, about: Mapping[str, Any]):
        super().__init__(about)
        self.weights = replace(self.weights, position=1.0, rotation=2.0)
        # what interpolation is off by, by length of gap and kind of loss: every kind counts alike
        self.register_buffer("usual", torch.zeros(GapSize.STEPS, len(PARTS) + 1, 3), persistent=False)

    @classmethod
    def configure(
        cls, size: str, overrides: Sequence[str], pack: Pack, init: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """See `PriorTask`; ``size`` is not used, ``FIELD=VALUE`` are those of `PassageConfig`."""
        if init and not init.get("passage"):
            raise MotionError("The prior to start from has no passages' network; leave out --init.")
        config = PassageConfig(**init["passage"]) if init else PassageConfig()
        return {"passage": asdict(overridden(config, overrides))}

    def fitted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Also those of a prior that begins at passages."""
        return {name.removeprefix("passage."): value for name, value in weights.items()}

    def prepare(self, clips: Clips, generator: torch.Generator, batches: int = 60) -> None:
        """Measure the features and the residuals on training data."""
        drawn = [self.draw(clips, 3000, generator) for _ in range(batches)]
        network, squares, active = self.network, [], []
        for truth, passages in drawn:
            reading, _ = network.read(passages)
            true = reading.frame.enter(truth.rotations, truth.root)
            squares.append(network.residual(reading, *true, truth.phase).square().mean(dim=1))
            active.append(activity(reading, ~passages.given))
        given = torch.cat([passages.given for _, passages in drawn])
        seconds = torch.cat([passages.seconds for _, passages in drawn])
        network.size.measure(seconds, torch.cat(active), torch.cat(squares), ~given)
        features = torch.cat([network.read(passages)[1] for _, passages in drawn])  # in sizes that are known only now
        network.measure(features, given, LEAST)

    def draw(  # type: ignore[override]
        self, clips: Clips, frames: int, generator: torch.Generator, parts: bool | None = None
    ) -> tuple[Truth, Passages]:
        """About ``frames`` places in gaps of any length, whole bodies or (parts) parts of them."""
        count = max(8, frames // PLACES)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator).to(clips.device)

        if parts is None:
            parts = float(torch.rand((), generator=generator)) < self.network.config.parts
        if self.network.config.mixed:
            count += count % 2
        u = uniform(count).sqrt()
        seconds = SHORT * (COMMON / SHORT) ** u
        seconds = torch.where(uniform(count) < LONG_SHARE, COMMON * (LONGEST / COMMON) ** uniform(count), seconds)
        phase = uniform(count, PLACES)
        if self.network.config.mixed:
            seconds, phase = (x[: count // 2].repeat(2, *[1] * (x.ndim - 1)) for x in (seconds, phase))
        truth, passages = cut(clips, seconds, phase, parts, generator)
        return varied(truth, passages, self.network.config, generator)

    def forward(self, batch: Truth, windows: Passages, generator: torch.Generator) -> dict[str, Tensor]:  # type: ignore[override]
        """Loss terms: distances of the body and its joints, and of the quaternions, over interpolation's usual ones."""
        reading, features = self.network.read(windows)
        true = reading.frame.enter(batch.rotations, batch.root)
        true_places = reading.frame.positions(*true)

        def off(motion: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            """Per gap: distances of joints, of the body as one vector, and of the quaternions as one vector."""
            error = (reading.frame.positions(*motion) - true_places).square().sum(dim=-1)
            sign = torch.where((motion[0] * true[0]).sum(dim=-1, keepdim=True) < 0, -1.0, 1.0)
            turn = (sign * motion[0] - true[0]).square().sum(dim=(-1, -2))
            return (
                (error + 1e-7).sqrt().mean(dim=(1, 2)), (error.sum(dim=-1) + 1e-6).sqrt().mean(dim=1),
                (turn + 1e-6).sqrt().mean(dim=1),
            )  # fmt: skip

        joints, body, turn = off(
            _with_given(windows, true, self.network.motion(reading, self.network(reading, features), batch.phase))
        )
        with torch.no_grad():
            _, *base = off(_with_given(windows, true, self.network.interpolated(reading, batch.phase)))
            where = (self.network.size.place(windows.seconds).round().long(), batch.kind)
            self.usual.mul_(0.98).index_put_(
                where, torch.stack([*base, torch.ones_like(turn)], dim=-1), accumulate=True
            )
            usual = self.usual[where]
            usual = (usual[:, :2] / usual[:, 2:]).clamp(min=0.01) * self._rarity(reading, ~windows.given)[:, None]
        return {"position": ((body + 2 * joints) / usual[:, 0]).mean(), "rotation": (turn / usual[:, 1]).mean()}

    def _rarity(self, reading: Reading, lost: Tensor) -> Tensor:
        """(N,): how much larger or smaller than usual for its length a gap's residual will be, half of that in log.

        So who hardly moves counts for more than by what there is to gain, and for less than those who move.
        """
        there = channels(lost.float())
        expected = (reading.size.square() * there).sum(dim=1)
        typical = (self.network.size.usual(reading.seconds).square() * there).sum(dim=1)
        return (expected / typical.clamp(min=1e-12)).pow(0.25).clamp(0.2, 3)

    @torch.no_grad()
    def score(self, clips: Clips, generator: torch.Generator) -> dict[str, float]:
        """Ratios to interpolation, mean over gaps of 5 to 45 frames at 30 fps: joints' distances and angles."""
        found = []
        parts = self.network.config.parts > 0.5
        for frames in SCORED:
            seconds = torch.full((256,), (frames + 1) / 30, device=clips.device)
            phase = even_places(clips.device)[::3].expand(256, -1)
            truth, passages = cut(clips, seconds, phase, parts, generator, augment=False)
            reading, features = self.network.read(passages)
            true = reading.frame.enter(truth.rotations, truth.root)
            ratio = []
            for motion in (
                self.network.motion(reading, self.network(reading, features), phase),
                self.network.interpolated(reading, phase),
            ):
                q, hips = _with_given(passages, true, motion)
                gone = (reading.frame.positions(q, hips) - reading.frame.positions(*true)).norm(dim=-1).mean()
                ratio.append((float(gone), float(rot.angle(q, true[0]).mean())))
            found.append([a / b for a, b in zip(*ratio, strict=True)])
        means = torch.tensor(found).mean(dim=0)
        return {"position": float(means[0]), "angle": float(means[1])}


def _with_given(
    passages: Passages, true: tuple[Tensor, Tensor], motion: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """An inside motion (rotations, hips) with the truth in the columns that are given."""
    given = passages.given[:, None]
    return torch.where(given[..., :22, None], true[0], motion[0]), torch.where(given[..., 22:], true[1], motion[1])


def cut(
    clips: Clips, seconds: Tensor, phase: Tensor, parts: bool, generator: torch.Generator, augment: bool = True
) -> tuple[Truth, Passages]:
    """Gaps of ``seconds`` (N,) from random places, with the truth at phases (N, P).

    parts: a part of the body is lost, else all of it. augment: as in `Clips.sample`; and the surroundings of some
    borders are known only for a while, beyond which they are interpolated between lone keys, or held.
    """
    count, device = len(seconds), clips.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(device)

    rate = torch.full((count,), clips.fps, device=device)
    if augment:
        rate = warped(rate, uniform(count))
    rate = torch.minimum(rate, (clips.length.max() - 2) / (seconds + 2 * MARGIN))
    clip, first = clips.pick((seconds + 2 * MARGIN) * rate, generator)
    border = torch.stack([first + MARGIN * rate, first + (MARGIN + seconds) * rate], dim=1)[..., None]
    away = torch.tensor([-1.0, 1.0], device=device)[:, None] * rate[:, None, None]
    lag = torch.tensor(AROUND, device=device).expand(count, 2, -1)
    near, far, part, known = lag, lag, torch.zeros_like(lag), torch.ones_like(lag)
    if augment:
        dense = torch.where(uniform(count, 2, 1) < 0.5, 0.3 * uniform(count, 2, 1), 0.0)
        dense = torch.where((uniform(count, 1, 1) < DENSE_SHARE) | (uniform(count, 2, 1) < 0.3), 1.0, dense)
        apart = 0.08 * (1.5 / 0.08) ** uniform(count, 2, 1)
        step = ((lag - dense) / apart).clamp(min=0)
        known = (lag <= dense).float()
        held = uniform(count, 2, 1) < 0.15
        near = torch.where(lag <= dense, lag, dense + torch.where(held, 0.0, step.floor() * apart))
        far = torch.where(lag <= dense, lag, dense + torch.where(held, 0.0, (step.floor() + 1) * apart))
        part = torch.where(lag <= dense, 0.0, step.frac())
    inside = even_places(device).expand(count, -1)
    phases = torch.cat([phase, inside], dim=1) if parts else phase
    between = first[:, None] + (MARGIN + seconds[:, None] * phases) * rate[:, None]
    last = clips.length[clip][:, None] - 1.001
    times = [(border + away * x).flatten(1).clamp(min=torch.zeros_like(last), max=last) for x in (near, far)]
    q, p = clips.at(clip, torch.cat([*times, between], dim=1))
    bodies = clips.bodies(clip)
    if augment:
        q, p, bodies = mirrored(q, p, bodies, uniform(count) < 0.5)
        bodies = proportions(bodies, uniform(count, 4))
    samples = times[0].shape[1]
    share = part.flatten(1)[..., None]
    at_near, at_far = (slice(i * samples, (i + 1) * samples) for i in range(2))
    sign = torch.where((q[:, at_near] * q[:, at_far]).sum(dim=-1, keepdim=True) < 0, -1.0, 1.0)
    around = q[:, at_near] + share[..., None] * (sign * q[:, at_far] - q[:, at_near])
    moved = p[:, at_near] + share * (p[:, at_far] - p[:, at_near])
    lost, kind = losses(count, parts, generator)
    rest = slice(2 * samples, 2 * samples + phase.shape[1])
    passages = Passages(
        rot.normalize(around).unflatten(1, (2, -1)), moved.unflatten(1, (2, -1)), known, seconds, bodies,
        ~lost.to(device), (q[:, rest.stop :], p[:, rest.stop :]) if parts else None,
    )  # fmt: skip
    return Truth(q[:, rest], p[:, rest], phase, kind.to(device)), passages


def varied(
    truth: Truth, passages: Passages, config: PassageConfig, generator: torch.Generator
) -> tuple[Truth, Passages]:
    """People who do not exist: other poses and skeletons (config.bent, .axes), arms of somebody else (config.mixed).

    For ``mixed``, the second half of the batch has the lengths and places of the first.
    """
    count = len(passages.seconds)
    q = [passages.rotations.flatten(1, 2), truth.rotations, *(passages.inside or ())[:1]]
    bodies = passages.bodies

    def turns(degrees: float) -> Tensor:
        """(N, 22, 4): one for every joint but the pelvis, which says where the body is headed."""
        size = math.radians(degrees) * torch.rand((count, 1, 1), generator=generator)
        turn = rot.exp((size * torch.randn((count, 22, 3), generator=generator)).to(passages.root)).clone()
        turn[:, 0] = torch.tensor(rot.IDENTITY)
        return turn

    if config.bent:
        turn = turns(config.bent)[:, None]
        q = [rot.multiply(x, turn) for x in q]
    if config.axes:
        turn = turns(config.axes)
        back = rot.conjugate(turn)[:, [max(parent, 0) for parent in PARENTS]]
        q = [rot.multiply(rot.multiply(back[:, None], x), turn[:, None]) for x in q]
        bodies = Bodies(rot.rotate(back, bodies.offsets), bodies.exists)
    if config.mixed:
        half = count // 2
        alike = (passages.known[:half] == passages.known[half:]).flatten(1).all(dim=1)
        swap = (alike & (torch.rand(half, generator=generator) < config.mixed).to(alike.device)).repeat(2)
        arms = torch.zeros(22, dtype=torch.bool, device=passages.root.device)
        arms[list(ARMS)] = True
        which = (swap[:, None] & arms)[:, None, :, None]
        q = [torch.where(which, x.roll(half, dims=0), x) for x in q]
    inside = (q[2], passages.inside[1]) if passages.inside is not None else None
    return (
        replace(truth, rotations=q[1]),
        replace(passages, rotations=q[0].unflatten(1, passages.root.shape[1:3]), inside=inside, bodies=bodies),
    )


def losses(count: int, parts: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which columns (N, 23) are lost, and the kind (N,) of each loss: 0 = the whole body, else a part."""
    if not parts:
        return torch.ones((count, 23), dtype=torch.bool), torch.zeros(count, dtype=torch.long)
    table = torch.zeros((len(PARTS), 23), dtype=torch.bool)
    for i, part in enumerate(PARTS):
        table[i, list(part)] = True
    which = torch.multinomial(torch.from_numpy(PART_SHARE), count, replacement=True, generator=generator)
    lost = table[which]
    some = torch.rand((count, 1), generator=generator) < 0.15  # joints at random
    joints = torch.rand((count, 23), generator=generator) < torch.rand((count, 1), generator=generator) * 0.6
    joints[:, 20] |= ~joints.any(dim=1)
    lost = torch.where(some, joints, lost)
    lost[:, 22] = lost[:, 0]
    return lost, which + 1
