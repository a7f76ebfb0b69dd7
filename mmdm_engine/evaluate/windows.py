"""The stretches of motion that are measured: even over a pack, the same ones on every call with the same seed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..contract import Motion, MotionError
from ..pack import Pack, resample

if TYPE_CHECKING:
    from ..priors.recall import Memory

CONTEXT = 0.4
"""Seconds of motion on each side of a gap."""
BATCH = 32
"""Windows given to a method at once."""


@dataclass(frozen=True)
class Window:
    """A stretch of one clip. clip: its number in the pack; category: what kind of movement it shows; start: its first
    frame in the clip, at the rate of the cut."""  # fmt: skip

    motion: Motion
    clip: int
    category: str
    start: int


def category(name: str, label: str) -> str:
    """A clip's kind of movement: its label's first words, or the content of a ``set_content_style_id`` name."""
    if label:
        return re.split(r"\s+-\s+|[,/;(]", label.strip().lower())[0].strip()
    parts = name.split("_")
    return parts[1].lower() if len(parts) >= 4 else ""


def cut(pack: Pack, fps: float, frames: int, count: int, seed: int = 0) -> list[Window]:
    """About ``count`` windows of ``frames`` frames, evenly over the pack: the same ones on every call.

    seed: where the first one lies; 0 = half a stride in. Raises `MotionError` where no clip is long enough.
    """
    room = [int((n - 1) * fps / f + 1e-6) + 2 - frames for n, f in zip(pack.length, pack.fps, strict=True)]
    total = sum(max(r, 0) for r in room)
    if total == 0:
        raise MotionError(
            f"No clip of {pack.path.name} holds {frames} frames at {fps:g} fps; choose shorter gaps or longer takes."
        )
    stride = max(1, total // count)
    place = int(np.random.default_rng(seed).integers(stride)) if seed else stride // 2
    windows = []
    for clip, starts in enumerate(room):
        here = range(place, max(starts, 0), stride)
        place -= max(starts, 0)
        if not here:
            continue
        place += len(here) * stride
        motion = resample(pack.decode(clip), fps)
        kind = category(pack.names[clip], pack.labels[clip])
        windows += [Window(motion.slice(start, start + frames), clip, kind, start) for start in here]
    return windows


def clips_of(windows: Sequence[Window]) -> np.ndarray:
    """(N,) the clip of each window."""
    return np.array([w.clip for w in windows])


def stack(motions: Sequence[Motion]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equally long motions → rotations (N, T, 22, 4), root (N, T, 3), offsets (N, 22, 3)."""
    return (
        np.stack([m.rotations for m in motions]),
        np.stack([m.root for m in motions]),
        np.stack([m.skeleton.offsets for m in motions]),
    )


def hide(motion: Motion, start: int, stop: int, kept: Iterable[int] = ()) -> Motion:
    """The motion with NaN in [start, stop) except in the kept frames."""
    rotations, root = motion.rotations.copy(), motion.root.copy()
    gone = np.setdiff1d(np.arange(start, stop), list(kept))
    rotations[gone], root[gone] = np.nan, np.nan
    return motion.with_frames(rotations, root)


def add_take_argument(parser: argparse.ArgumentParser) -> None:
    """The option that lets the prior look at the whole clip."""
    parser.add_argument(
        "--take",
        action="store_true",
        help=f"let the prior see the whole clip around each gap, as it does in use, not {CONTEXT} s (baselines do not)",
    )


def remembered(pack: Pack, windows: Sequence[Window], fps: float, hidden: np.ndarray) -> list[Memory | None]:
    """The clip that each window was cut from, without what is hidden (T,) bool in the window."""
    from ..priors.recall import Memory

    out: list[Memory | None] = []
    clip, memory = -1, None
    rows = np.flatnonzero(hidden)
    for window in windows:
        if window.clip != clip:
            clip, motion = window.clip, resample(pack.decode(window.clip), fps)
            memory = Memory.of(motion, np.zeros(len(motion), bool))
        out.append(memory and memory.without(window.start + int(rows[0]), window.start + int(rows[-1]) + 1))
    return out


def in_batches(
    function: Callable[..., list[Motion]],
    motions: list[Motion],
    progress: Callable[[int, int], None],
    memories: list[Memory | None] | None = None,
) -> list[Motion]:
    """The method's answer to all motions, `BATCH` at a time; to their takes' memories as well, where there are any."""
    out: list[Motion] = []
    while len(out) < len(motions):
        batch = slice(len(out), len(out) + BATCH)
        out += function(motions[batch], **({"memories": memories[batch]} if memories else {}))
        progress(len(out), len(motions))
    return out
