"""Made-up people and packs: smooth motion of which nothing is known but its formula."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdm_engine import Motion, Skeleton
from mmdm_engine import rotations as rot
from mmdm_engine.contract.skeleton import CANONICAL_DIRECTIONS, PARENTS


def skeleton(hip_forward: float = 0.0) -> Skeleton:
    """A person with bones of 20 cm and legs of 84; hip_forward: metres by which the hips stand before the pelvis."""
    offsets = np.zeros((22, 3), np.float32)
    for j in range(1, 22):
        offsets[j] = CANONICAL_DIRECTIONS[PARENTS[j]] * 0.2
    offsets[[1, 2]] = [[0.1, -0.05, hip_forward], [-0.1, -0.05, hip_forward]]
    offsets[[4, 5, 7, 8]] = [0, -0.42, 0]
    return Skeleton(offsets)


def sway(
    random: np.random.Generator, frames: int, *, fps: float = 60.0, size: float = 0.3, rates: Sequence[float] = (1.1,)
) -> np.ndarray:
    """Rotations (frames, 22, 4): every joint swings about its rest, a sine for each of the rates in hertz."""
    t = np.arange(frames)[:, None, None] / fps
    waves = [
        random.normal(0, size, (22, 3)) * np.sin(2 * np.pi * rate * t + random.uniform(0, 6, (22, 3))) for rate in rates
    ]
    return rot.continuous(rot.exp(sum(waves)))


def swaying(
    random: np.random.Generator, frames: int, *, fps: float = 60.0, speed: float = 0.5, rates: Sequence[float] = (1.1,)
) -> Motion:
    """Somebody who sways while gliding forwards at ``speed`` metres per second."""
    t = np.arange(frames) / fps
    root = np.stack([speed * t, 0.95 + 0.02 * np.sin(t), 0 * t], axis=-1)
    return Motion(sway(random, frames, fps=fps, rates=rates), root, skeleton(), fps)


def write_pack(path: Path, clips: Sequence[Motion], labels: Sequence[str] | None = None, **extra: Any) -> Path:
    """A pack of clips of one frame rate, named clip_0, clip_1 …; extra: further arrays, or other ``names``."""
    length = np.array([len(m) for m in clips])
    arrays: dict[str, Any] = {
        "rotations": np.concatenate([np.round(m.rotations * 32767).astype(np.int16) for m in clips]),
        "root": np.concatenate([m.root for m in clips]),
        "clip_start": np.cumsum(length) - length,
        "clip_length": length,
        "offsets": np.stack([m.skeleton.offsets for m in clips]),
        "fps": np.float32(clips[0].fps),
        "names": np.array([f"clip_{i}" for i in range(len(clips))]),
        "labels": np.array(labels if labels is not None else [""] * len(clips)),
    }
    np.savez(path, **arrays | extra)
    return path
