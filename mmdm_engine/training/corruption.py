"""What training hides and spoils: gap schedules for in-betweening, lost limbs for completion, noise for refinement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import kinematics
from .. import rotations as rot
from ..contract.skeleton import LIMBS

CONTEXT = 0.4
"""Seconds of trusted motion on each side of a gap."""
FRAMES = 84
"""Window length: a gap of sixty frames with its context at 30 fps."""
LONGEST = 60
"""Frames of the longest gap."""
FPS = (30, 30, 30, 30, 60, 24, 25, 20, 50, 40)
"""Frame rates drawn in training; 30 is the commonest target of clean-up work."""
COARSE_FPS = (5, 6, 10, 15)
"""Rates of the first pass over gaps that are too long for one go."""
BANK = 8192


@dataclass(frozen=True)
class Schedules:
    """A bank of masks, drawn once: what each window may see. observed (N, FRAMES, 23) bool, fps (N,)."""

    observed: Tensor
    fps: Tensor

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """observed (count, FRAMES, 23) and fps (count,)."""
        index = torch.randint(len(self.fps), (count,), generator=generator)
        return self.observed[index], self.fps[index]


class Gaps(Schedules):
    """What in-betweening sees."""

    @classmethod
    def make(cls, seed: int = 0, count: int = BANK) -> Gaps:
        """Plain gaps, several to a window where they are short; keys kept inside; hidden limbs; one side only."""
        random = np.random.default_rng(seed)
        observed = np.ones((count, FRAMES, 23), bool)
        fps = np.empty(count)
        for mask, n in zip(observed, range(count), strict=True):
            kind = random.choice(["gap", "keys", "limb", "one_sided", "coarse"], p=[0.58, 0.18, 0.08, 0.07, 0.09])
            fps[n] = random.choice(COARSE_FPS if kind == "coarse" else FPS)
            context = max(3, round(CONTEXT * fps[n]))
            at = int(random.integers(context, context + 8))
            while at + 2 + context <= FRAMES:
                room = min(LONGEST, FRAMES - context - at, round(fps[n] * (8 if kind == "coarse" else 2)))
                length = min(room, 2 + round(random.random() ** random.choice([1.0, 2.0]) * (LONGEST - 2)))
                _hide(mask[at : at + length], kind, random)
                at += length + context + int(random.integers(0, 6))
            if kind == "one_sided":
                side = int(random.integers(context, LONGEST))
                mask[:] = True
                mask[FRAMES - side :] = False
                if random.random() < 0.5:
                    mask[:] = mask[::-1].copy()
        return cls(torch.from_numpy(observed), torch.from_numpy(fps).float())


PARTS: tuple[tuple[int, ...], ...] = (
    *LIMBS,
    *(limb[1:] for limb in LIMBS),  # from the knee, from the shoulder
    (12, 15), (15,), (7, 10, 8, 11), (20, 21), (13, 16, 18, 20, 14, 17, 19, 21), (3, 6, 9),
    (1, 4, 7, 10, 2, 5, 8, 11), (0, 1, 4, 7, 10, 2, 5, 8, 11),
)  # fmt: skip
"""What capture loses together: limbs and their ends, head, feet, hands, arms, torso, all below the waist."""


class Losses(Schedules):
    """What completion sees: a body of which parts are missing for a while, or for the whole window."""

    @classmethod
    def make(cls, seed: int = 0, count: int = BANK) -> Losses:
        """Parts lost for runs of frames, at an end, throughout; joints lost at random; a few whole poses."""
        random = np.random.default_rng(seed)
        observed = np.ones((count, FRAMES, 23), bool)
        fps = np.empty(count)
        for mask, n in zip(observed, range(count), strict=True):
            fps[n] = random.choice(FPS)
            kind = random.choice(["part", "joints", "scattered", "pose"], p=[0.82, 0.1, 0.04, 0.04])
            if kind == "scattered":  # the paper's pattern B: each token on its own
                mask[:, :22] = random.random((FRAMES, 22)) >= random.random() * 0.6
                mask[:, 22] = mask[:, 0]
                mask[int(random.integers(FRAMES))] = True
                continue
            for _ in range(1 if random.random() < 0.7 else 2):
                lost = np.zeros(23, bool)
                if kind == "part":
                    lost[list(PARTS[random.choice(len(PARTS), p=PART_SHARE)])] = True
                elif kind == "joints":
                    lost[:22] = random.random(22) < random.random() * 0.6
                else:
                    lost[:] = True
                lost[22] = lost[0]
                start, stop = _run(kind, random)
                if lost[22]:  # the body's place must be known somewhere
                    start, stop = max(start, 12), min(stop, FRAMES - 12)
                mask[start:stop, lost] = False
        return cls(torch.from_numpy(observed), torch.from_numpy(fps).float())


PART_SHARE = np.array([3.0] * 4 + [1.0] * 4 + [0.7] * 2 + [1.0] * 6)
PART_SHARE /= PART_SHARE.sum()


def _run(kind: str, random: np.random.Generator) -> tuple[int, int]:
    """Frames [start, stop) for which something is lost: inside, reaching an end, or throughout."""
    place = random.choice(["inside", "end", "all"], p=[0.68, 0.14, 0.18] if kind != "pose" else [1, 0, 0])
    if place == "all":
        return 0, FRAMES
    length = 4 + round(random.random() ** 1.2 * (LONGEST - 4))
    if place == "inside":
        start = int(random.integers(8, max(9, FRAMES - 8 - length)))
        return start, start + length
    return (0, length) if random.random() < 0.5 else (FRAMES - length, FRAMES)


def _hide(gap: np.ndarray, kind: str, random: np.random.Generator) -> None:
    """Hide a gap (length, 23) in place, in the manner of its kind."""
    if kind == "keys":
        gap[random.random(len(gap)) >= random.random() * 0.3] = False
    elif kind == "limb":
        hide = random.random(22) < random.random() * 0.5
        for limb in LIMBS:
            hide[list(limb)] |= random.random() < 0.3
        gap[:, np.append(hide, hide[0])] = False  # the root's position goes with its rotation
    else:
        gap[:] = False


def _log_uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    u = torch.rand(shape, generator=generator)
    return low * (high / low) ** u


def add_noise(rotations: Tensor, root: Tensor, offsets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Spoil clean windows as capture does: white or lightly correlated jitter of unknown level.

    Of ten windows one stays clean and two have joints seen at shaken places, so that short bones turn most; in the
    others joints turn about, all alike, unevenly, or only a few of them. rotations (B, T, 22, 4), root (B, T, 3)
    metres, offsets (B, 22, 3).
    """
    b, t = root.shape[:2]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def some(share: float) -> Tensor:
        return (torch.rand((b,), generator=generator) < share).float()

    turn, shift = normal(b, t, 22, 3), normal(b, t, 22, 3)
    memory = (some(0.3) * torch.rand((b,), generator=generator) * 0.7)[:, None]
    for x in (turn, shift):  # first-order autoregression, unit variance
        flat = x.view(b, t, -1)
        for i in range(1, t):
            flat[:, i] = memory * flat[:, i - 1] + (1 - memory**2).sqrt() * flat[:, i]
    uneven = some(0.4)[:, None]
    per_joint = torch.exp(normal(b, 22) * 0.6 * uneven)
    few = some(0.2)[:, None] * (torch.rand((b, 22), generator=generator) > _log_uniform(0.04, 0.5, (b, 1), generator))
    per_joint = per_joint * (1 - few)
    dirty = 1 - some(0.1)
    angle = torch.deg2rad(_log_uniform(0.5, 12.0, (b,), generator)) * dirty
    distance = _log_uniform(0.002, 0.05, (b,), generator) * dirty
    places = some(0.2) * dirty
    turn = turn * (angle[:, None] * per_joint)[:, None, :, None]
    spikes = (torch.rand((b, t, 22), generator=generator) < 0.01) * (some(0.15) * dirty)[:, None, None]
    turn = turn + spikes[..., None] * normal(b, t, 22, 3) * 0.4
    turned = rot.multiply(rotations, rot.exp(turn.to(rotations)))
    joints = offsets[:, None].expand_as(rotations[..., :3])
    seen = shift * (0.6 * distance)[:, None, None, None]  # 1 mm to 3 cm
    aimed, led = kinematics.aim(rotations, root, joints, kinematics.positions(rotations, root, joints) + seen.to(root))
    at_places = places.bool().to(root.device)[:, None, None]
    still = (few.any(dim=1).float() * some(0.7))[:, None, None]  # few joints shake, and mostly the root does not
    moved = root + (shift[:, :, 0] * distance[:, None, None] * (1 - still)).to(root)
    return (
        rot.normalize(torch.where(at_places[..., None], aimed, turned)),
        torch.where(at_places, led, moved),
    )
