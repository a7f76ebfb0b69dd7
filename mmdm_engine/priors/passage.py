"""A gap seen as one: the motion between two borders, from the poses and speeds at them and from what is known between.

The encoder reads a motion frame by frame, which is dear. But what a gap holds is smooth: a dozen half waves per
channel describe it. So this network reads the borders as one vector and says those half waves. In training it sees a
thousand gaps a second where the encoder sees thirty, and it does what can be done without a look at single frames. The
encoder's residual begins at its answer instead of at interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from .. import rotations as rot
from ..contract import MotionError
from .border import DECAY
from .window import Bodies, Frame, find_frame

if TYPE_CHECKING:
    from .recall import Memory

AROUND = (0, 1 / 30, 2 / 30, 4 / 30, 6 / 30, 9 / 30, 12 / 30)
"""Seconds from a border, away from the gap, at which its surroundings are read; the first is the border itself."""
SPEED = 2
"""Which of them a border's velocity is measured to."""
MODES = 12
"""Half waves over a gap: sines, which leave the borders as they are."""
INSIDE = 24
"""Places in a gap at which the columns known there are read."""
CHANNELS = 69
"""22 rotation vectors, then the shift of the hips in leg lengths."""
COLUMNS = 23
SHORTEST, LONGEST = 0.03, 4.2
"""Seconds between borders that the network is trained for."""
LENGTHS = (3, 6, 9, 12, 16, 18, 20)
"""Bones whose length, in leg lengths, is told."""


@dataclass(frozen=True)
class Passages:
    """N gaps with both borders.

    rotations (N, 2, 7, 22, 4), root (N, 2, 7, 3): the world's motion at and `AROUND` the earlier and the later border.
    known (N, 2, 7): how much of that is observed, in [0, 1]; the rest is interpolated or held. seconds (N,) between the
    borders. inside: rotations (N, 24, 22, 4) and root (N, 24, 3) at even places between the borders, of which the
    columns ``given`` (N, 23) bool count; None = no column is known inside.
    """

    rotations: Tensor
    root: Tensor
    known: Tensor
    seconds: Tensor
    bodies: Bodies
    given: Tensor
    inside: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Reading:
    """What the network's answer is added to, in the gaps' own frames.

    rotations (N, 2, 22, 4), hips (N, 2, 3): the borders. turn (N, 66), travel (N, 3): from one to the other.
    speeds (N, 2, 69): velocities out of the borders, away from the gap, per second. size (N, 69): of the residual that
    is to be expected.
    """

    frame: Frame
    rotations: Tensor
    hips: Tensor
    turn: Tensor
    travel: Tensor
    speeds: Tensor
    seconds: Tensor
    size: Tensor

    def at(self, owner: Tensor) -> Reading:
        """The gaps ``owner`` (M,), each as often as it is named."""
        frame, bodies = self.frame, self.frame.bodies
        own = Frame(frame.turn[owner], frame.origin[owner], Bodies(bodies.offsets[owner], bodies.exists[owner]))
        return Reading(
            own, self.rotations[owner], self.hips[owner], self.turn[owner], self.travel[owner], self.speeds[owner],
            self.seconds[owner], self.size[owner],
        )  # fmt: skip


@dataclass(frozen=True)
class PassageConfig:
    """width, blocks: of the residual MLP.

    For training: dropout, blanks: shares of hidden units and of inputs that are dropped. deaf: share of gaps of which
    some of the columns known inside are not read. parts: share of gaps in which only a part of the body is lost.
    bent: degrees by which poses are changed, at most. axes: degrees by which joints' axes are turned, at most, without
    moving anybody, as they differ between skeletons. mixed: share of gaps whose arms are somebody else's.
    """

    width: int = 1024
    blocks: int = 3
    dropout: float = 0.2
    blanks: float = 0.1
    deaf: float = 0.0
    parts: float = 0.2
    bent: float = 0.0
    axes: float = 0.0
    mixed: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.dropout, self.blanks, self.deaf, self.parts, self.mixed)
        degrees = (self.bent, self.axes)
        if self.width < 1 or self.blocks < 0 or min(degrees) < 0 or not all(0 <= share <= 1 for share in shares):
            raise MotionError(
                "A passages' network needs a width of 1 or more, no negative blocks or degrees, and shares from 0 to 1."
            )


def half_waves(phase: Tensor) -> Tensor:
    """Phases (...) in [0, 1] → (..., `MODES`). The k-th is by k smaller, since motion is smooth."""
    count = torch.arange(1, MODES + 1, device=phase.device)
    return torch.sin(math.pi * phase[..., None] * count) / count


def even_places(device: torch.device | str = "cpu") -> Tensor:
    """(24,) phases at which `Passages.inside` is given."""
    return (torch.arange(INSIDE, device=device) + 1) / (INSIDE + 1)


class GapSize(nn.Module):
    """RMS of the residual over interpolation, (69,) channels, from training data.

    By the seconds between borders, and by how much the lost columns are on the move there: who stands still at both
    borders is hardly elsewhere between them, whatever the rest of the body does.
    """

    STEPS, LEVELS = 24, 12
    CALM, BUSY = 0.003, 3.0
    """Radians or leg lengths, see `activity`."""
    table: Tensor
    plain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.ones(self.STEPS, self.LEVELS, CHANNELS))
        self.register_buffer("plain", torch.ones(self.STEPS, CHANNELS))

    @classmethod
    def place(cls, seconds: Tensor) -> Tensor:
        """Seconds (N,) → places (N,) in the tables, fractional."""
        return _place(seconds, SHORTEST, LONGEST, cls.STEPS)

    def usual(self, seconds: Tensor) -> Tensor:
        """(N,) → (N, 69), over all that may go on at the borders."""
        low, high, part = _neighbours(self.plain, self.place(seconds))
        return torch.lerp(low, high, part)

    def forward(self, seconds: Tensor, activity: Tensor) -> Tensor:
        """(N,) seconds, (N, 23) activity → (N, 69)."""
        low, high, part = _neighbours(self.table, self.place(seconds))
        table = torch.lerp(low, high, part[..., None]).unflatten(-1, (COLUMNS, 3))  # (N, levels, 23, 3)
        level = _place(activity, self.CALM, self.BUSY, self.LEVELS)[:, None, :, None].expand(-1, -1, -1, 3)
        below = level.long().clamp(max=self.LEVELS - 2)
        low, high = table.gather(1, below)[:, 0], table.gather(1, below + 1)[:, 0]
        return torch.lerp(low, high, (level - below)[:, 0]).flatten(1)

    def measure(self, seconds: Tensor, activity: Tensor, square: Tensor, lost: Tensor) -> None:
        """Set the tables from gaps (N,), activities (N, 23) and mean squared residuals (N, 69) where lost (N, 23)."""
        cells = self.STEPS * self.LEVELS
        level = _place(activity, self.CALM, self.BUSY, self.LEVELS).round().long()
        cell = (self.place(seconds).round().long()[:, None] * self.LEVELS + level) * COLUMNS
        cell = cell + torch.arange(COLUMNS, device=cell.device)
        total = square.new_zeros((cells * COLUMNS, 3)).index_add_(0, cell[lost], square.unflatten(1, (-1, 3))[lost])
        count = square.new_zeros(cells * COLUMNS).index_add_(0, cell[lost], torch.ones_like(square[:, :COLUMNS])[lost])
        shape = (self.STEPS, self.LEVELS, COLUMNS)
        totals, counts = total.view(*shape, 3).cpu().numpy(), count.view(shape).cpu().numpy()
        # what no gap of training had takes the value of its likes
        near = [
            (gaussian_filter(totals, (*width, 0, 0)), gaussian_filter(counts, (*width, 0))[..., None])
            for width in ((1.0, 0.7), (2.5, 1.5), (8.0, 4.0))
        ]
        mean = sum(weight * a for weight, (a, _) in zip((1, 1e-2, 1e-5), near, strict=True))
        weight = sum(weight * b for weight, (_, b) in zip((1, 1e-2, 1e-5), near, strict=True)) + 1e-20
        self.table.copy_(torch.from_numpy(np.sqrt(mean / weight)).flatten(2).clamp(min=1e-4))
        plain = gaussian_filter(totals.sum(axis=1), (1.5, 0, 0)) / gaussian_filter(
            counts.sum(axis=1) + 1e-9, (1.5, 0)
        )[..., None]  # fmt: skip
        self.plain.copy_(torch.from_numpy(np.sqrt(plain)).flatten(1).clamp(min=1e-4))


def _place(values: Tensor, low: float, high: float, steps: int) -> Tensor:
    """Where values lie among ``steps`` places from low to high, even in their logarithms."""
    return (values.clamp(low, high) / low).log() / math.log(high / low) * (steps - 1)


def _neighbours(table: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the table (S, …) below and above places (N,), and how far from the one to the other (N, 1)."""
    low = place.long().clamp(max=len(table) - 2)
    return table[low], table[low + 1], (place - low)[:, None]


def activity(reading: Reading, lost: Tensor) -> Tensor:
    """(N, 23): by how much each column is on the move at a gap's borders, in radians or leg lengths.

    Half of the square is the column's own, from border to border and by its velocities in half a second at most; half
    is the mean of all lost (N, 23) columns.
    """
    reach = reading.seconds[:, None, None].clamp(max=0.5)
    across = torch.cat([reading.turn, reading.travel], dim=-1).square()
    square = (across + (reading.speeds * reach).square().mean(dim=1)).unflatten(1, (COLUMNS, 3)).sum(dim=-1)
    there = lost.to(square)
    mean = (square * there).sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True).clamp(min=1)
    return ((square + mean) / 2).sqrt()


class _Block(nn.Module):
    """Residual feed-forward block that begins as nothing."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(N, width) → the same shape."""
        return x + self.body(x)


class PassageNetwork(nn.Module):
    """An MLP beside a linear map, from a gap's borders to half waves over interpolation.

    Two directions besides the half waves, weighed for each joint: the velocities of either border carried on.
    """

    FEATURES = 2 * 22 * 6 + 66 + 6 + 2 * (6 * CHANNELS + CHANNELS + 6) + 9 + len(LENGTHS) + COLUMNS + MODES * CHANNELS
    OUTPUTS = MODES * CHANNELS + 2 * COLUMNS
    CAUTION = 0.15
    """Scale of the answers: a step of the optimiser moves thousands of weights of each at once."""
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: PassageConfig):
        super().__init__()
        self.config = config
        self.size = GapSize()
        self.register_buffer("mean", torch.zeros(self.FEATURES))
        self.register_buffer("deviation", torch.ones(self.FEATURES))
        self.enter = nn.Linear(self.FEATURES, config.width)
        self.blocks = nn.Sequential(*(_Block(config.width, config.dropout) for _ in range(config.blocks)))
        self.leave = nn.Sequential(nn.LayerNorm(config.width), nn.Dropout(config.dropout))
        self.answer = nn.Linear(config.width, self.OUTPUTS)
        self.straight = nn.Linear(self.FEATURES, self.OUTPUTS, bias=False)
        for layer in (self.answer, self.straight):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.answer.bias)

    def settings(self) -> dict[str, Any]:
        """What it takes to build this network again."""
        return {"passage": {"width": self.config.width, "blocks": self.config.blocks}}

    @classmethod
    def from_settings(cls, about: Mapping[str, Any]) -> PassageNetwork:
        """The network that `settings` speaks of."""
        return cls(PassageConfig(**about["passage"]))

    def read(self, passages: Passages) -> tuple[Reading, Tensor]:
        """The gaps in their own frames, and the features (N, F) to go by."""
        n, seconds = len(passages.seconds), passages.seconds
        shape = passages.root.shape[1:3]
        q, p = passages.rotations.flatten(1, 2), passages.root.flatten(1, 2)
        frame = find_frame(q, p, torch.ones(p.shape[:2], dtype=torch.bool, device=p.device), passages.bodies)
        q, hips = frame.enter(q, p)
        q, hips = q.unflatten(1, shape), hips.unflatten(1, shape)
        border, place = q[:, :, 0], hips[:, :, 0]
        turn = rot.log(rot.multiply(rot.conjugate(border[:, 0]), border[:, 1])).flatten(1)
        travel = place[:, 1] - place[:, 0]
        centre = place.mean(dim=1, keepdim=True) * place.new_tensor([1.0, 0.0, 1.0])

        back = rot.log(rot.multiply(rot.conjugate(q[:, :, :1]), q[:, :, 1:])).flatten(3)
        around = torch.cat([back, hips[:, :, 1:] - hips[:, :, :1]], dim=-1)  # (N, 2, 6, 69)
        lag = torch.tensor(AROUND[1:], device=p.device)[:, None]
        speeds = around[:, :, SPEED - 1] / AROUND[SPEED]
        usual = self.size.usual(seconds)
        reading = Reading(frame, border, place, turn, travel, speeds, seconds, usual)
        reading = replace(reading, size=self.size(seconds, activity(reading, ~passages.given)))
        sines = torch.zeros((n, MODES, CHANNELS), device=p.device)
        if passages.inside is not None:
            within = self.residual(reading, *frame.enter(*passages.inside), even_places(p.device))
            sines = torch.linalg.pinv(half_waves(even_places(p.device))) @ within / usual[:, None]
        given = passages.given.float()
        sines = sines.clamp(-6, 6) * channels(given)[:, None]
        length = seconds.clamp(SHORTEST, LONGEST).log()[:, None]
        bumps = torch.exp(-0.5 * ((length - torch.linspace(-3.2, 1.2, 8, device=p.device)) / 0.4) ** 2)
        bones = passages.bodies.offsets.norm(dim=-1)[:, LENGTHS] / passages.bodies.leg[:, None]
        features = [
            rot.to_6d(border).flatten(1), turn, (place - centre).flatten(1), (around / lag.sqrt()).flatten(1),
            (speeds * seconds[:, None, None].clamp(max=0.5)).flatten(1), passages.known[:, :, 1:].flatten(1),
            length, bumps, bones, given, sines.flatten(1),
        ]  # fmt: skip
        return reading, torch.cat(features, dim=-1)

    @torch.no_grad()
    def measure(self, features: Tensor, given: Tensor, least: float) -> None:
        """Set the features' means and deviations (no less than ``least``); what the network says stays what it was.

        That is in units of its sizes, and but for features beyond the five deviations that count. Half waves known
        inside count where they are given (N, 23), about zero.
        """
        mean, deviation = features.mean(dim=0), features.std(dim=0)
        inside = slice(self.FEATURES - MODES * CHANNELS, None)
        square = features[:, inside].square().unflatten(1, (MODES, CHANNELS)).sum(dim=0)
        deviation[inside] = (square / channels(given).sum(dim=0).clamp(min=1)).sqrt().flatten()
        mean[inside] = 0
        deviation = deviation.clamp(min=least)
        shift = (mean - self.mean) / self.deviation
        self.enter.bias.add_(self.enter.weight @ shift)
        self.answer.bias.add_(self.straight.weight @ shift)
        for layer in (self.enter, self.straight):
            layer.weight.mul_(deviation / self.deviation)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def forward(self, reading: Reading, features: Tensor) -> tuple[Tensor, Tensor]:
        """Half waves (N, 12, 69), and weights (N, 2, 69) of the border velocities."""
        x = ((features - self.mean) / self.deviation).clamp(-5, 5)
        x = nn.functional.dropout(x, self.config.blanks, self.training)
        if self.training and self.config.deaf:
            x = torch.cat([x[:, : -MODES * CHANNELS], self._overheard(x[:, -MODES * CHANNELS :])], dim=-1)
        said = (self.answer(self.leave(self.blocks(self.enter(x)))) + self.straight(x)) * self.CAUTION
        sines, weights = said.split([MODES * CHANNELS, 2 * COLUMNS], dim=-1)
        sines = sines.unflatten(1, (MODES, CHANNELS)) * reading.size[:, None]
        return sines, channels(1 + weights.unflatten(1, (2, COLUMNS)))

    def _overheard(self, sines: Tensor) -> Tensor:
        """Half waves (N, 828) of the columns known inside, all or some of them missing from some gaps."""
        deaf = torch.rand((len(sines), 1), device=sines.device) < self.config.deaf
        missed = torch.rand((len(sines), COLUMNS), device=sines.device) < 2 * torch.rand_like(sines[:, :1])
        kept = channels((~(deaf & missed)).float())
        return (sines.unflatten(1, (MODES, CHANNELS)) * kept[:, None]).flatten(1)

    @staticmethod
    def interpolated(reading: Reading, phase: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (N, P, 22, 4) and hips (N, P, 3) on the way from border to border, phase (N, P) or (P,)."""
        phase = phase.expand(len(reading.seconds), -1)[..., None]
        turned = rot.exp(reading.turn[:, None].unflatten(-1, (22, 3)) * phase[..., None])
        return rot.multiply(reading.rotations[:, :1], turned), reading.hips[:, :1] + reading.travel[:, None] * phase

    @classmethod
    def residual(cls, reading: Reading, rotations: Tensor, hips: Tensor, phase: Tensor) -> Tensor:
        """(N, P, 69) from interpolation to an inside motion."""
        q, p = cls.interpolated(reading, phase)
        return torch.cat([rot.log(rot.multiply(rot.conjugate(q), rotations)).flatten(2), hips - p], dim=-1)

    @staticmethod
    def state(reading: Reading, said: tuple[Tensor, Tensor], phase: Tensor) -> Tensor:
        """(N, P, 69) the residual over interpolation at phases (N, P) that `forward` said."""
        q, _ = PassageNetwork.interpolated(reading, phase)
        state = half_waves(phase) @ said[0]
        seconds = reading.seconds[:, None]
        for side, away in ((0, 1), (1, -1)):
            through = phase if side == 0 else 1 - phase
            t = through * seconds
            reach = (t * torch.exp(-t / DECAY) * (1 - through))[..., None]
            own = torch.cat([reading.turn, reading.travel], dim=-1) * away / seconds
            excess = ((-reading.speeds[:, side] - own) * said[1][:, side])[:, None].expand(-1, phase.shape[1], -1)
            here = rot.multiply(rot.conjugate(q), reading.rotations[:, side, None])  # the border's axes seen from q
            turned = rot.rotate(here, excess[..., :66].unflatten(-1, (22, 3))).flatten(2)
            state = state + torch.cat([turned, excess[..., 66:]], dim=-1) * reach
        return state

    @staticmethod
    def departed(reading: Reading, state: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        """Inside rotations (N, P, 22, 4) and hips (N, P, 3) that a residual (N, P, 69) leads to from interpolation."""
        q, p = PassageNetwork.interpolated(reading, phase)
        return rot.multiply(q, rot.exp(state[..., :66].unflatten(-1, (22, 3)))), p + state[..., 66:]

    def motion(self, reading: Reading, said: tuple[Tensor, Tensor], phase: Tensor) -> tuple[Tensor, Tensor]:
        """Inside rotations (N, P, 22, 4) and hips (N, P, 3) at phases (N, P) of what `forward` said."""
        return self.departed(reading, self.state(reading, said, phase), phase)

    @torch.no_grad()
    def guess(
        self,
        rotations: Tensor,
        root: Tensor,
        observed: Tensor,
        bodies: Bodies,
        frame_step: Tensor,
        memories: Sequence[Memory | None] = (),
    ) -> tuple[Tensor, Tensor]:
        """Windows (B, T, …) with every gap that has both borders filled by this network; other frames as given.

        rotations (B, T, 22, 4), root (B, T, 3) in the world, interpolated where observed (B, T, 23) is false. Columns
        that are lost together are filled together, from what is known of the others. memories: the take of each window,
        where it is known; the answer leans on what it does elsewhere.
        """
        window, start, stop, hidden = stretches(observed)
        seconds = (stop - start + 1) * frame_step[window]
        short = seconds <= LONGEST
        if not bool(short.any()):
            return rotations, root
        window, start, stop, hidden, seconds = (x[short] for x in (window, start, stop, hidden, seconds))
        mine = Bodies(bodies.offsets[window], bodies.exists[window])
        passages = _passages(rotations, root, observed, window, start, stop, hidden, mine, frame_step)
        reading, features = self.read(passages)
        said = self(reading, features)

        owner = torch.repeat_interleave(torch.arange(len(window), device=window.device), stop - start)
        first = torch.cumsum(stop - start, dim=0) - (stop - start)
        frame = torch.arange(len(owner), device=owner.device) - first[owner] + start[owner]
        phase = (frame - start[owner] + 1) / (stop - start + 1)[owner]
        each = reading.at(owner)
        state = self.state(each, (said[0][owner], said[1][owner]), phase[:, None])
        for i, of in enumerate(window.tolist()) if any(memories) else ():
            memory, rows = memories[of], owner == i
            if memory is not None:
                state[rows, 0] = memory.leant_on(self, passages, reading, i, state[rows, 0], phase[rows])
        turned, hips = self.departed(each, state, phase[:, None])
        local = hidden[owner, :22]
        known, _ = each.frame.enter(rotations[window[owner], frame][:, None], root[window[owner], frame][:, None])
        turned = torch.where(local[:, None, :, None], turned, known)
        turned, moved = each.frame.leave(turned, hips)
        rotations, root = rotations.clone(), root.clone()
        row, column = local.nonzero(as_tuple=True)
        rotations[window[owner][row], frame[row], column] = turned[row, 0, column]
        row = hidden[owner, 22].nonzero()[:, 0]
        root[window[owner][row], frame[row]] = moved[row, 0]
        return rotations, root


def channels(columns: Tensor) -> Tensor:
    """Values of the columns (..., 23) as values of the channels (..., 69)."""
    return columns.repeat_interleave(3, dim=-1)


def stretches(observed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gaps with both borders in windows (B, T, 23): window, start, stop (G,), hidden (G, 23) bool.

    Columns of one window that are hidden in the same frames [start, stop) are one gap.
    """
    hidden = ~observed.cpu().numpy()
    frames = hidden.shape[1]
    change = np.diff(np.pad(hidden.astype(np.int8), ((0, 0), (1, 1), (0, 0))), axis=1).transpose(0, 2, 1)
    starts, stops = np.argwhere(change == 1), np.argwhere(change == -1)
    runs = np.stack([starts[:, 0], starts[:, 2], stops[:, 2]], axis=1)
    closed = (runs[:, 1] > 0) & (runs[:, 2] < frames)
    gaps, which = np.unique(runs[closed], axis=0, return_inverse=True)
    together = np.zeros((len(gaps), COLUMNS), bool)
    together[which.reshape(-1), starts[closed, 1]] = True
    window, start, stop = (torch.from_numpy(x.copy()).to(observed.device) for x in gaps.reshape(-1, 3).T)
    return window, start, stop, torch.from_numpy(together).to(observed.device)


def _passages(
    rotations: Tensor, root: Tensor, observed: Tensor, window: Tensor, start: Tensor, stop: Tensor, hidden: Tensor,
    bodies: Bodies, frame_step: Tensor,
) -> Passages:  # fmt: skip
    """The gaps of some windows, read off their frames."""
    step = frame_step[window][:, None]
    lag = torch.tensor(AROUND, device=root.device) / step
    time = torch.stack([start[:, None] - 1 - lag, stop[:, None] + lag], dim=1)
    seconds = (stop - start + 1) * step[:, 0]
    q, p = at_frames(rotations, root, window, time.flatten(1))
    low = (time + 1e-4).floor().long()
    frames = observed.shape[1]
    trusted = (observed[window] | ~hidden[:, None]).all(dim=-1)  # of the columns that are lost in this gap
    known = torch.ones_like(time)
    for frame in (low, (time - 1e-4).ceil().long()):
        there = (frame >= 0) & (frame < frames)
        index = frame.clamp(0, frames - 1)
        known *= (trusted.gather(1, index.flatten(1)).unflatten(1, index.shape[1:]) & there).float()
    lost = (~observed).int().cumsum(dim=1)
    lost = torch.cat([torch.zeros_like(lost[:, :1]), lost], dim=1)
    given = lost[window, stop + 1] == lost[window, start - 1]
    inside = None
    if bool(given.any()):
        inside = at_frames(
            rotations, root, window, start[:, None] - 1 + even_places(root.device) * (stop - start + 1)[:, None]
        )
    return Passages(
        q.unflatten(1, time.shape[1:]), p.unflatten(1, time.shape[1:]), known, seconds, bodies, given, inside
    )  # fmt: skip


def at_frames(rotations: Tensor, root: Tensor, window: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Windows' motion at fractional frames (G, N), held beyond the ends."""
    frames = root.shape[1]
    time = time.clamp(0, frames - 1)
    low = (time + 1e-4).floor().long().clamp(max=max(frames - 2, 0))
    part = (time - low)[..., None]
    high = (low + 1).clamp(max=frames - 1)
    row = window[:, None]
    a, b = rotations[row, low], rotations[row, high]
    b = torch.where((a * b).sum(dim=-1, keepdim=True) < 0, -b, b)
    return rot.normalize(a + part[..., None] * (b - a)), root[row, low] + part * (root[row, high] - root[row, low])
