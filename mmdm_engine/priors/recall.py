"""What the take itself does elsewhere: people repeat themselves, and nobody moves like them but they.

A gap of an animator's lies in a take of many seconds. Where the same person once was at two borders like these, what
lay between them is the best witness there is, on any skeleton and in any style: of a gait, of a dance, of a hand that
waves. So the take is searched for passages that look like the gap at its borders, and like what is known inside it,
as they are and with left and right exchanged; the answer leans on them by as much as they are alike and agree.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import kinematics
from .. import rotations as rot
from ..baselines import interpolate
from ..contract import MIRROR, Motion
from .passage import AROUND, COLUMNS, SPEED, PassageNetwork, Passages, Reading, at_frames, channels, even_places
from .window import Bodies, mirrored

RATE = 30.0
"""Places per second at which a take is looked at."""
LEAST = 1.5
"""Seconds that a take must show in all to be searched."""
LAG = AROUND[SPEED]
"""Seconds over which speeds at borders are compared."""
EVERY = 4
"""Of the even places in a gap, one in so many is compared where something is known inside."""
TURN, SPEEDS, SPEED_TURN = 3.0, 4.0, 0.7
"""Weights, beside one for joints' places: of local rotations, of speeds (per second of the gap, at most half a one),
and of turning among them. Of a dozen settings tried on gaps of 30 frames; `docs/priors.md` says on which."""
POSE = 9
"""Values that `_poses` has of a joint: its place and its rotation."""
BEST = 8
"""Passages that are mixed."""
APART = 3
"""Places from the beginning of one of them to that of the next, at least: neighbours tell the same."""
LENIENCE = 0.6
"""How much farther off than the best one, in parts of its distance, a passage may be before it counts e times less."""
TRUST = (-1.292, -0.69, -0.807, -0.765, 0.697, 1.163)
"""Weights of `Recalled.evidence`, fitted on people that were kept apart in training, beside their own takes and beside
strangers' in which there may be nothing of the kind: `benchmarks/recall.py --fit`."""
EVEN = 0.05
"""Leg lengths by which left and right bones may differ where one side may do what the other did."""

Pose = tuple[Tensor, Tensor]
"""World rotations (N, 22, 4) and root (N, 3)."""


@dataclass(frozen=True)
class Recalled:
    """Passages of the take like one gap.

    state (P, 69): their residual over interpolation, a weighted mean. unlike (): how far the best one is from the gap.
    spread (69,): mean square by which they part from their mean.
    """

    state: Tensor
    unlike: Tensor
    spread: Tensor

    def evidence(self, state: Tensor, size: Tensor, seconds: Tensor) -> Tensor:
        """(23, 6) what tells how far a column of it can be trusted beside the network's own residual (P, 69).

        One; how far the best passage is from the gap. Then logarithms: of that; by how much passages part from each
        other, and their mean from what the network says, in the column's `GapSize` (69,); how long the gap is.
        """
        unit = _per_column(size.square())
        apart = _per_column((self.state - state).square().mean(dim=0))
        each = [torch.full_like(unit, float(self.unlike)), _per_column(self.spread) / unit, apart / unit]
        each.append(seconds.expand_as(unit))
        return torch.stack([torch.ones_like(unit), each[0], *((x + 1e-4).log() for x in each)], dim=-1)

    def trust(self, state: Tensor, size: Tensor, seconds: Tensor) -> Tensor:
        """(23,) how far to go from the network's answer to this one, 0 to 1."""
        weights = torch.tensor(TRUST, device=state.device)
        return torch.sigmoid(self.evidence(state, size, seconds) @ weights)

    def drawn(self, state: Tensor, size: Tensor, seconds: Tensor) -> Tensor:
        """The network's residual (P, 69) drawn towards this one, as far as that can be trusted."""
        return torch.lerp(state, self.state, channels(self.trust(state, size, seconds)))


class Memory:
    """A take to be searched: rotations (T, 22, 4), root (T, 3) in metres, seen (T,) bool, frames known throughout."""

    def __init__(self, rotations: Tensor, root: Tensor, seen: Tensor, bodies: Bodies, fps: float):
        self.bodies, self.fps = bodies, fps
        self.times = torch.arange(0, len(root) - 1 + 1e-3, fps / RATE, device=root.device)  # in frames
        self._hide(rotations[None], root[None], ~seen)
        here = self._at(self.times[None])
        self._poses = _poses(*here, bodies)
        self._heading = rot.heading(here[0][:, 0])
        self._places = here[1]
        self._speeds = [
            _speeds(here, self._at((self.times + sign * LAG * fps)[None]), bodies, self._heading) for sign in (-1, 1)
        ]

    @classmethod
    def of(cls, motion: Motion, hidden: np.ndarray, device: torch.device | str = "cpu") -> Memory | None:
        """A take in which hidden (T, 23) or (T,) bool is not known; None where it shows less than `LEAST` seconds."""
        seen = ~hidden if hidden.ndim == 1 else ~hidden.any(axis=1)
        if seen.sum() < LEAST * motion.fps:
            return None
        rotations = rot.continuous(np.where(seen[:, None, None], motion.rotations, np.array(rot.IDENTITY, np.float32)))
        root = np.where(seen[:, None], motion.root - motion.root[seen].mean(axis=0), 0)

        def number(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).float().to(device)

        skeleton = motion.skeleton
        bodies = Bodies(number(skeleton.offsets)[None], torch.from_numpy(skeleton.exists)[None].to(device))
        return cls(number(rotations), number(root), torch.from_numpy(seen).to(device), bodies, motion.fps)

    def _hide(self, rotations: Tensor, root: Tensor, hidden: Tensor, near: slice = slice(None)) -> None:
        """What is hidden (T,) is interpolated, so that nothing of it is told, and no passage may touch it.

        near: only there; it has to hold whole runs of hidden frames and what borders on them.
        """
        self.rotations, self.root = rotations.clone(), root.clone()
        observed = ~hidden[None, near, None].expand(1, -1, COLUMNS)
        self.rotations[:, near], self.root[:, near] = interpolate(rotations[:, near], root[:, near], observed)
        self._hidden = hidden
        self._missing = torch.cat([torch.zeros_like(self.times[:1]), hidden.to(self.times).cumsum(dim=0)])

    def without(self, start: int, stop: int) -> Memory:
        """The same take with frames [start, stop) hidden as well."""
        other = copy.copy(self)
        hidden = self._hidden.clone()
        hidden[start:stop] = True
        known = (~hidden).nonzero()[:, 0]
        before, after = known[known < start], known[known >= stop]
        near = slice(int(before[-1]) if len(before) else 0, int(after[0]) + 1 if len(after) else len(hidden))
        other._hide(self.rotations, self.root, hidden, near)
        return other

    def _at(self, times: Tensor) -> Pose:
        q, p = at_frames(self.rotations, self.root, torch.zeros(1, dtype=torch.long, device=times.device), times)
        return q[0], p[0]

    def unlike(self, passages: Passages, i: int) -> Tensor:
        """(G,) how far passages that begin at each of `times` are from gap i; infinite where the take hides a part.

        A sum of mean squares, in leg lengths and radians: of the pose and the speed at both borders, of the way and
        the turn from one to the other, and of the pose of what is known inside.
        """
        seconds, leg, bodies = passages.seconds[i], self.bodies.leg[0], self.bodies
        begin = torch.arange(len(self.times), device=self.times.device, dtype=self.times.dtype)
        stop = begin + seconds * RATE
        borders = [(passages.rotations[i, side, :1], passages.root[i, side, :1]) for side in (0, 1)]
        heading = rot.heading(torch.cat([q[:, 0] for q, _ in borders]))
        out = torch.zeros_like(self.times)
        for side, index in enumerate((begin, stop)):
            pose = _poses(*borders[side], bodies)
            out += (_between(self._poses, index) - pose).square().mean(dim=1)
            near = (passages.rotations[i, side, SPEED, None], passages.root[i, side, SPEED, None])
            speed = _speeds(borders[side], near, bodies, heading[side, None])
            weight = passages.known[i, side, SPEED] * SPEEDS * seconds.clamp(max=0.5) ** 2
            out += weight * (_between(self._speeds[side], index) - speed).square().mean(dim=1)
        way = _faced(_between(self._places, stop) - self._places, self._heading)
        out += ((way - _faced(borders[1][1] - borders[0][1], heading[:1])) / leg).square().sum(dim=1)
        course = _faced(_flat(_between(self._heading, stop)), self._heading)
        out += (course - _faced(_flat(heading[1:]), heading[:1])).square().sum(dim=1)
        there = passages.given[i, :22].repeat_interleave(POSE)
        if passages.inside is not None and bool(there.any()):
            some = slice(EVERY // 2, None, EVERY)
            phases = even_places(begin.device)[some]
            known = _poses(passages.inside[0][i, some], passages.inside[1][i, some], bodies)
            for phase, pose in zip(phases, known, strict=True):
                off = (_between(self._poses, torch.lerp(begin, stop, phase)) - pose).square()
                out += 2 * (off * there).sum(dim=1) / there.sum() / len(phases)
        first = (self.times - LAG * self.fps + 1e-3).floor().long()  # speeds are read beyond the borders
        last = (self.times + (seconds + LAG) * self.fps - 1e-3).ceil().long() + 1
        inside = (first >= 0) & (last < len(self._missing))
        whole = self._missing[last.clamp(max=len(self._missing) - 1)] == self._missing[first.clamp(min=0)]
        return torch.where(inside & whole, out, torch.inf)

    def recall(self, network: PassageNetwork, passages: Passages, i: int, phase: Tensor) -> Recalled | None:
        """What passages like gap i do at phases (P,); None where the take shows none of its length."""
        ways = [self.unlike(passages, i)]
        if self._even():
            ways.append(self.unlike(_flipped(passages, i), 0))
        place, unlike = _best(torch.stack(ways))
        if not len(place):
            return None
        flip, first = place // len(self.times), self.times[place % len(self.times)]
        count, seconds = len(place), passages.seconds[i].expand(len(place))
        lag = torch.tensor(AROUND, device=first.device) * self.fps
        border = torch.stack([first, first + seconds * self.fps], dim=1)[..., None]
        around = torch.cat([border[:, :1] - lag, border[:, 1:] + lag], dim=1)
        times = torch.cat([around.flatten(1), torch.lerp(border[:, 0], border[:, 1], phase)], dim=1)
        row = torch.zeros(count, dtype=torch.long, device=first.device)
        bodies = Bodies(self.bodies.offsets.expand(count, -1, -1), self.bodies.exists.expand(count, -1))
        q, p, _ = mirrored(*at_frames(self.rotations, self.root, row, times), bodies, flip == 1)
        given = torch.zeros((count, COLUMNS), dtype=torch.bool, device=first.device)
        borders = slice(0, around[0].numel())
        reading, _ = network.read(
            Passages(
                q[:, borders].unflatten(1, (2, -1)), p[:, borders].unflatten(1, (2, -1)),
                torch.ones_like(around), seconds, bodies, given,
            )
        )  # fmt: skip
        inside = reading.frame.enter(q[:, borders.stop :], p[:, borders.stop :])
        state = network.residual(reading, *inside, phase)
        weight = torch.softmax(-unlike / (LENIENCE * unlike[0] + 1e-6), dim=0)[:, None, None]
        mean = (weight * state).sum(dim=0)
        return Recalled(mean, unlike[0], (weight * (state - mean).square()).sum(dim=0).mean(dim=0))

    def leant_on(
        self, network: PassageNetwork, passages: Passages, reading: Reading, i: int, state: Tensor, phase: Tensor
    ) -> Tensor:
        """The network's residual (P, 69) over interpolation in gap i, drawn towards what the take does elsewhere."""
        found = self.recall(network, passages, i, phase)
        return state if found is None else found.drawn(state, reading.size[i], reading.seconds[i])

    def _even(self) -> bool:
        """Whether left and right are built alike, so that the one may do what the other did."""
        bodies = self.bodies
        rest = torch.tensor(rot.IDENTITY, device=self.root.device).expand(1, 1, 22, 4)
        other = mirrored(rest, self.root[:, :1], bodies, torch.ones(1, dtype=torch.bool, device=rest.device))[2]
        return bool((other.offsets - bodies.offsets).norm(dim=-1).max() < EVEN * bodies.leg[0])


def _best(unlike: Tensor) -> tuple[Tensor, Tensor]:
    """Places in the flattened (W, G) of the smallest values, apart from each other, and these values; best first."""
    cost, chosen = unlike.clone(), []
    for _ in range(BEST):
        way, place = divmod(int(cost.argmin()), cost.shape[1])
        if not math.isfinite(float(cost[way, place])):
            break
        chosen.append(way * cost.shape[1] + place)
        cost[way, max(0, place - APART + 1) : place + APART] = torch.inf
    found = torch.tensor(chosen, dtype=torch.long, device=unlike.device)
    return found, unlike.flatten()[found]


def _flipped(passages: Passages, i: int) -> Passages:
    """Gap i alone, with left and right exchanged."""
    mine = slice(i, i + 1)
    bodies = Bodies(passages.bodies.offsets[mine], passages.bodies.exists[mine])
    yes = torch.ones(1, dtype=torch.bool, device=passages.root.device)
    q, p, other = mirrored(passages.rotations[mine].flatten(1, 2), passages.root[mine].flatten(1, 2), bodies, yes)
    shape, inside = passages.root.shape[1:3], None
    if passages.inside is not None:
        inside = mirrored(passages.inside[0][mine], passages.inside[1][mine], bodies, yes)[:2]
    return Passages(
        q.unflatten(1, shape), p.unflatten(1, shape), passages.known[mine], passages.seconds[mine], other,
        passages.given[mine][:, [*MIRROR, 22]], inside,
    )  # fmt: skip


def _between(values: Tensor, index: Tensor) -> Tensor:
    """Values (G, D) at fractional places (N,), held beyond the last."""
    index = index.clamp(max=len(values) - 1)
    low = index.long()
    return torch.lerp(values[low], values[(low + 1).clamp(max=len(values) - 1)], (index - low)[:, None])


def _faced(vectors: Tensor, heading: Tensor) -> Tensor:
    """Vectors (..., 3) as seen by who faces ``heading`` (..., 2): x to their left, z ahead."""
    s, c = heading[..., 0], heading[..., 1]
    x, y, z = vectors.unbind(dim=-1)
    return torch.stack([c * x - s * z, y, s * x + c * z], dim=-1)


def _per_column(channels_: Tensor) -> Tensor:
    """Values of channels (69,) as their columns' sums (23,)."""
    return channels_.unflatten(0, (COLUMNS, 3)).sum(dim=1)


def _flat(heading: Tensor) -> Tensor:
    """Directions (N, 2) in the plane as vectors (N, 3)."""
    return torch.stack([heading[:, 0], torch.zeros_like(heading[:, 0]), heading[:, 1]], dim=1)


def _poses(rotations: Tensor, root: Tensor, bodies: Bodies) -> Tensor:
    """(N, 22 · `POSE`) joint by joint: where it is about the pelvis, as that faces, and its local rotation."""
    heading = rot.heading(rotations[:, 0])
    places = kinematics.positions(rotations, torch.zeros_like(root), bodies.offsets)
    back = rot.about_y(-torch.atan2(heading[:, 0], heading[:, 1]))
    turned = torch.cat([rot.multiply(back, rotations[:, 0])[:, None], rotations[:, 1:]], dim=1)
    seen = _faced(places, heading[:, None]) / bodies.leg[0]
    return torch.cat([seen, TURN * rot.to_6d(turned)], dim=-1).flatten(1)


def _speeds(here: Pose, there: Pose, bodies: Bodies, heading: Tensor) -> Tensor:
    """(N, 22 · 6) how joints move and turn from one pose to another `LAG` seconds away, per second."""
    a, b = (kinematics.positions(*pose, bodies.offsets) for pose in (here, there))
    moved = _faced(b - a, heading[:, None]) / bodies.leg[0]
    turned = rot.log(rot.multiply(rot.conjugate(here[0]), there[0]))
    return (torch.cat([moved, SPEED_TURN * turned], dim=-1) / LAG).flatten(1)
