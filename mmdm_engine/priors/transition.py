"""A gap filled by a generative network: motions in, motions out, as the evaluation and a script want it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .. import rotations as rot
from ..baselines import interpolate
from ..contract import Motion, MotionError
from .generative import GenerativeNetwork, Guidance
from .network import Windows
from .window import Bodies

STEPS = 50
"""DDIM steps."""


def fill_many(
    network: GenerativeNetwork,
    motions: Sequence[Motion],
    start: int,
    stop: int,
    *,
    keep: Sequence[int] | None = None,
    steps: int = STEPS,
    seed: int = 0,
    guidance: Guidance | None = None,
    label: str = "",
    close: bool = True,
) -> list[Motion]:
    """Motions of equal length and rate with frames [start, stop) generated, except the kept ones.

    What is generated is ignored on input and may be NaN; everything else comes back with the same bits. One window
    holds the whole motion: the network was trained on 45 to 224 frames. label: what is done, in words the network
    knows. guidance: what the sampler adds, nothing by default. close: let the root arrive at the far side, see
    `joint_level.decode`. Raises `MotionError`.
    """
    if not motions:
        return []
    frames, fps = len(motions[0]), motions[0].fps
    if any(len(m) != frames or m.fps != fps for m in motions):
        raise MotionError("Motions that are filled together must have one length and one frame rate; group them.")
    observed = np.ones(frames, bool)
    if not 0 <= start < stop <= frames:
        raise MotionError(f"The gap from {start} to {stop} does not lie inside {frames} frames; choose another.")
    observed[start:stop] = False
    observed[list(keep or ())] = True
    if not observed.any():
        raise MotionError("The gap leaves no known frame; keep at least one.")
    columns = np.repeat(observed[:, None], 23, axis=1)
    for motion in motions:
        motion.require_finite(columns)
    rotations = np.stack([m.rotations for m in motions]).astype(np.float64)
    root = np.stack([m.root for m in motions]).astype(np.float64)
    origin = root[:, observed][:, :1] * (1, 0, 1)  # near the origin, where float32 is fine
    guess, place = interpolate(rotations, root - origin, columns)

    device = next(network.parameters()).device

    def number(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).float().to(device)

    count = len(motions)
    seen = torch.from_numpy(columns).to(device).expand(count, -1, -1)
    nothing = torch.zeros(seen.shape, device=device)
    words = _label(network, label, count)
    windows = Windows(
        number(guess), number(place), seen, nothing, nothing, torch.ones_like(nothing[..., :22]),
        Bodies(
            number(np.stack([m.skeleton.offsets for m in motions])),
            torch.from_numpy(np.stack([m.skeleton.exists for m in motions])).to(device),
        ),
        torch.full((count,), 1 / fps, device=device), words,
    )  # fmt: skip
    with torch.no_grad():
        scene = network.condition(windows)
        tokens = network.sample(scene, steps, torch.Generator().manual_seed(seed), guidance or Guidance())
        q, p = scene.frame.leave(*network.motion(scene, tokens, close))
    generated = q.cpu().double().numpy()
    generated = np.where(np.sum(generated * guess, axis=-1, keepdims=True) < 0, -generated, generated)
    moved = p.cpu().double().numpy() + origin
    return [_keeping(m, observed, rot.normalize(a), b) for m, a, b in zip(motions, generated, moved, strict=True)]


def _label(network: GenerativeNetwork, label: str, count: int) -> torch.Tensor | None:
    if not label.strip():
        return None
    if network.text is None:
        raise MotionError("This network was trained without labels; leave the label out.")
    return network.text.encode([label]).expand(count, -1)


def _keeping(motion: Motion, observed: np.ndarray, rotations: np.ndarray, root: np.ndarray) -> Motion:
    return motion.with_frames(
        np.where(observed[:, None, None], motion.rotations, rotations.astype(np.float32)),
        np.where(observed[:, None], motion.root, root.astype(np.float32)),
    )
