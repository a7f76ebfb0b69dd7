"""Where a gap's borders are heading: damped extrapolations of the border velocities, as tangents over interpolation.

Interpolation leaves its borders at the wrong speed. Carrying the true border velocity a little way into the gap is the
first thing that any in-betweening must learn, so the network gets it ready-made from either side, as a feature and as
a direction that it can weigh.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import rotations as rot
from ..baselines import neighbours

DECAY = 0.25
"""Seconds over which a border's velocity is forgotten."""
COUNT = 2
LAG = 2
"""Frames over which a border velocity is measured."""


def tangents(
    rotations: Tensor, hips: Tensor, observed: Tensor, before: Tensor, after: Tensor, frame_step: Tensor
) -> Tensor:
    """Base motion inside a prior's frame → (B, T, 22, 2, 6) unscaled states, from the earlier and the later border.

    rotations (B, T, 22, 4) and hips (B, T, 3) interpolated; observed (B, T, 23); before, after (B, T, 23) seconds.
    A tangent is the excess of the border's velocity over the interpolation's, times t · exp(−t / decay), faded out
    towards the other border. The velocity is that of the frames beyond the border; where these are not observed, at a
    key that stands alone, it is that of the parabola through the key and its neighbours. Zero where none is known.
    """
    frames = rotations.shape[1]
    step = frame_step[:, None, None]
    out = []
    first, last = neighbours(observed)
    for border, away, mine, other in ((first, -1, before, after), (last, 1, after, before)):
        dense = border + LAG * away
        measured = (dense >= 0) & (dense < frames)
        for lag in range(LAG + 1):
            measured &= observed.gather(1, (border + lag * away).clamp(0, frames - 1))
        key = border.gather(1, (border + away).clamp(0, frames - 1))  # the next one observed, away from the gap
        beyond = torch.where(measured, dense, key).clamp(0, frames - 1)
        distance = (beyond - border) * away
        known = (distance > 0) & torch.isfinite(mine) & (mine > 0)
        seconds = distance.clamp(min=1) * step
        gap = mine + other
        share = torch.where(torch.isfinite(gap), gap / (gap + seconds), torch.ones_like(mine))
        share = torch.where(measured, torch.ones_like(mine), share)
        t = torch.where(known, mine, torch.ones_like(mine))
        fade = torch.where(torch.isfinite(other), other / gap.clamp(min=1e-6), torch.ones_like(mine))
        reach = torch.where(known, share * t * torch.exp(-t / DECAY) * fade, torch.zeros_like(mine))[..., None]
        t, seconds = t[..., None], seconds[..., None]

        # velocities into the gap: the observed motion's, continued from beyond the border, minus the base's own
        here = _at(rotations, border[..., :22])
        to_base = rot.multiply(rot.conjugate(here), rotations)
        outward = rot.log(rot.multiply(rot.conjugate(here), _at(rotations, beyond[..., :22]))) / seconds[:, :, :22]
        excess = -outward - rot.log(to_base) / t[:, :, :22]
        turn = rot.rotate(rot.conjugate(to_base), excess) * reach[:, :, :22]

        hips_here = _at(hips[:, :, None], border[..., 22:])
        hips_outward = (_at(hips[:, :, None], beyond[..., 22:]) - hips_here) / seconds[:, :, 22:]
        hips_excess = -hips_outward - (hips[:, :, None] - hips_here) / t[:, :, 22:]
        shift = torch.zeros_like(turn)
        shift[:, :, :1] = hips_excess * reach[:, :, 22:]
        out.append(torch.cat([turn, shift], dim=-1))
    return torch.stack(out, dim=-2)


def _at(values: Tensor, frames: Tensor) -> Tensor:
    """values (B, T, C or 1, k) at frames (B, T, C)."""
    frames = frames.clamp(min=0)
    return values.gather(1, frames[..., None].expand(*frames.shape, values.shape[-1]))
