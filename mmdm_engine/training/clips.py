"""A pack decoded once onto the training device, and windows cut from it in batch."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import rotations as rot
from ..contract import MotionError
from ..pack import Pack
from ..priors.window import Bodies, mirrored

LOCOMOTION = re.compile(r"walk|run|jog|march|stride|locomotion|navigate|zombie", re.IGNORECASE)
LOCOMOTION_SHARE = 0.35
UNRELIABLE_CONTACT = ("uneven_ground", "props", "skeleton_assumed")
HELD_OUT_SHARE = 0.08
"""Share of a pack's frames that is kept apart for early stopping."""
LabelIds = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Batch:
    """Clean windows: rotations (B, T, 22, 4), root (B, T, 3), frame_step (B,) seconds.

    contact: (B,) bool, whether the feet of the source clip can be believed. label: (B, W) word rows, see `text`.
    """

    rotations: Tensor
    root: Tensor
    bodies: Bodies
    frame_step: Tensor
    contact: Tensor
    label: Tensor


def held_out_clips(pack: Pack) -> np.ndarray:
    """(C,) bool: the clips kept apart, whole people where the pack names its subjects, else single clips.

    People (or clips) are taken in the order of a hash of their name until `HELD_OUT_SHARE` of the frames is reached;
    one who alone holds more than that share stays in training.
    """
    subjects = pack.extra.get("subjects")
    owner = np.array(pack.names) if subjects is None else np.asarray(subjects).astype(str)
    total = pack.length.sum()
    chosen, share = np.zeros(len(pack), bool), 0.0
    for name in sorted(set(owner), key=lambda n: (zlib.crc32(n.encode()), n)):
        mine = owner == name
        part = pack.length[mine].sum() / total
        if part <= HELD_OUT_SHARE and share < HELD_OUT_SHARE:
            chosen |= mine
            share += part
    return chosen


class Clips:
    """All frames of a pack on one device.

    held_out: use the clips kept apart for early stopping (True), the others (False), or all (None).
    decoded: the pack's rotations and root where another part has decoded them already.
    label_ids: turns the clips' labels into word rows (`text.WordTable.ids`); None = no labels.
    """

    def __init__(
        self,
        pack: Pack,
        device: torch.device | str = "cpu",
        held_out: bool | None = False,
        decoded: tuple[Tensor, Tensor] | None = None,
        label_ids: LabelIds | None = None,
    ):
        if len(set(pack.fps.tolist())) != 1:
            raise MotionError(f"{pack.path} mixes frame rates; make it again with one.")
        self.fps = float(pack.fps[0])
        self.device = torch.device(device)
        apart = held_out_clips(pack)
        chosen = [i for i in range(len(pack)) if held_out is None or apart[i] == held_out]
        if not chosen:
            raise MotionError(f"{pack.path} has too few clips to train on; add more takes.")
        if decoded is None:
            quaternions = torch.from_numpy(pack.rotations).to(self.device).float()
            decoded = (
                quaternions / quaternions.norm(dim=-1, keepdim=True).clamp(min=0.5),
                torch.from_numpy(pack.root).to(self.device),
            )
        self.rotations, self.root = decoded
        self.start = torch.tensor(pack.start[chosen], device=self.device)
        self.length = torch.tensor(pack.length[chosen], device=self.device)
        self.offsets = torch.tensor(pack.offsets[chosen], device=self.device)
        self.exists = torch.tensor(pack.exists[chosen], device=self.device)
        labels = [pack.labels[i] for i in chosen]
        rows = label_ids(labels) if label_ids else torch.zeros((len(chosen), 0), dtype=torch.long)
        self.label = rows.to(self.device)
        flags = pack.extra.get("flags")
        self.contact = torch.tensor(
            [flags is None or not any(f in str(flags[i]) for f in UNRELIABLE_CONTACT) for i in chosen],
            device=self.device,
        )
        moving = torch.tensor([bool(LOCOMOTION.search(pack.labels[i])) for i in chosen], device=self.device)
        frames = self.length.float()
        share = frames[moving].sum() / frames.sum()
        boost = (1 - share) / share * LOCOMOTION_SHARE / (1 - LOCOMOTION_SHARE) if 0 < share < LOCOMOTION_SHARE else 1.0
        self.weight = torch.where(moving, frames * boost, frames)

    @classmethod
    def split(cls, pack: Pack, device: torch.device | str, label_ids: LabelIds | None = None) -> tuple[Clips, Clips]:
        """The clips to train on and those held out, over one decoding of the frames."""
        train = cls(pack, device, label_ids=label_ids)
        return train, cls(pack, device, True, (train.rotations, train.root), label_ids)

    def __len__(self) -> int:
        return len(self.length)

    def sample(self, frames: int, fps: Tensor, generator: torch.Generator, augment: bool = True) -> Batch:
        """One random window for each rate in ``fps`` (B,).

        ``augment``: mirrored, time-warped 0.8-1.25 and re-proportioned. A rate so coarse that no clip is long enough
        for its window is sampled more finely instead.
        """
        batch = len(fps)
        fps = fps.to(self.device)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator).to(self.device)

        rate = self.fps / fps
        if augment:
            rate = warped(rate, uniform(batch))
        rate = torch.minimum(rate, (self.length.max() - 2) / (frames - 1))
        span = rate * (frames - 1)
        clip, first = self.pick(span, generator)
        rotations, root = self.at(clip, first[:, None] + rate[:, None] * torch.arange(frames, device=self.device))
        bodies = self.bodies(clip)
        if augment:
            rotations, root, bodies = mirrored(rotations, root, bodies, uniform(batch) < 0.5)
            bodies = proportions(bodies, uniform(batch, 4))
        return Batch(rotations, root, bodies, 1 / fps, self.contact[clip], self.label[clip])

    def pick(self, span: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random clip (B,) and place (B,) in it for stretches of ``span`` (B,) of the pack's frames."""
        fits = self.length > span[:, None] + 1
        clip = torch.multinomial((self.weight * fits).cpu(), 1, generator=generator)[:, 0].to(self.device)
        place = torch.rand(len(span), generator=generator).to(self.device)
        return clip, place * (self.length[clip] - 1 - span)

    def at(self, clip: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (B, N, 22, 4) and root (B, N, 3) of clips (B,) at times (B, N) in frames of the pack."""
        low = time.floor().long().clamp(min=0)
        low = torch.minimum(low, self.length[clip][:, None] - 2)
        part = (time - low)[..., None]
        low = low + self.start[clip][:, None]
        a, b = self.rotations[low], self.rotations[low + 1]
        rotations = rot.normalize(a + part[..., None] * (b - a))  # neighbours at 60 fps: chord and arc agree
        return rotations, self.root[low] + part * (self.root[low + 1] - self.root[low])

    def bodies(self, clip: Tensor) -> Bodies:
        """The bodies of clips (B,)."""
        return Bodies(self.offsets[clip], self.exists[clip])


def warped(rate: Tensor, u: Tensor) -> Tensor:
    """Rates played 0.8 to 1.25 times as fast, by u (B,) in [0, 1)."""
    return rate * 2 ** ((u - 0.5) * 0.64)


def proportions(bodies: Bodies, u: Tensor) -> Bodies:
    """Vary arm length and shoulder breadth by ±12 %, torso height by ±12 %, and where on the torso spine1 sits.

    Legs keep their proportions, since changing them would make planted feet slide.
    """
    scale = 1 + 0.24 * (u - 0.5)
    offsets = bodies.offsets.clone()
    offsets[:, [16, 17, 18, 19, 20, 21]] *= scale[:, :1, None]
    offsets[:, [13, 14]] *= scale[:, 1:2, None]
    offsets[:, [3, 6, 9, 12, 15]] *= scale[:, 2:3, None]
    shift = (u[:, 3:4] * 0.6) * offsets[:, 6]
    move = (offsets[:, 3].norm(dim=-1) < 0.01)[:, None]  # spine1 on the pelvis in most of the pack
    shift = torch.where(move, shift, torch.zeros_like(shift))
    offsets[:, 3] += shift
    offsets[:, 6] -= shift
    return Bodies(offsets, bodies.exists)
