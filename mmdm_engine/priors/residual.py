"""Residuals over a base motion: the space in which the priors diffuse.

State per joint token: rotation vector log(base⁻¹ · motion) in channels 0-2, and for the root token the difference of
the hips in leg lengths in channels 3-5 (zero for other joints). Divided by a scale, so that a frame next to a key and
one in the middle of a long gap both come out of order one: neither drowns the other, and what the network says is
worth little where little can change.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import rotations as rot

STATE = 6


def difference(base_rotations: Tensor, base_hips: Tensor, rotations: Tensor, hips: Tensor) -> Tensor:
    """Unscaled state (B, T, 22, 6) that leads from the base to the motion."""
    turn = rot.log(rot.multiply(rot.conjugate(base_rotations), rotations))
    shift = torch.zeros_like(turn)
    shift[:, :, 0] = hips - base_hips
    return torch.cat([turn, shift], dim=-1)


def add(base_rotations: Tensor, base_hips: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The motion that an unscaled state (B, T, 22, 6) leads to."""
    return rot.multiply(base_rotations, rot.exp(state[..., :3])), base_hips + state[:, :, 0, 3:]


def weigh(bank: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of a bank's states (..., K, 6) → (..., 6); weights (..., 2 K), for rotation and for the shift."""
    turn, shift = weights.unflatten(-1, (2, bank.shape[-2])).unbind(-2)
    return torch.cat(
        [(turn[..., None] * bank[..., :3]).sum(dim=-2), (shift[..., None] * bank[..., 3:]).sum(dim=-2)], dim=-1
    )


def columns(mask: Tensor) -> Tensor:
    """A motion mask (B, T, 23) as a mask of state channels (B, T, 22, 6): the root's shift follows column 22."""
    turn = mask[..., :22, None].expand(*mask.shape[:-1], 22, 3)
    shift = torch.zeros_like(turn)
    shift[..., 0, :] = mask[..., 22:23]
    return torch.cat([turn, shift], dim=-1)


class GapScale(nn.Module):
    """RMS of the interpolation residual by gap length, phase and channel; measured on training data, kept with it.

    A gap of g seconds between two trusted frames at phase p ∈ (0, 1) is looked up bilinearly in (log g, p); a value
    that is trusted on one side only, in log seconds from that side; one that is trusted nowhere in the window has one
    value per channel, about the mean pose `rest` (22, 4), which is the base there.
    """

    GAPS = 16
    PHASES = 9
    SHORTEST, LONGEST = 0.03, 10.0
    two_sided: Tensor
    one_sided: Tensor
    unseen: Tensor
    rest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("two_sided", torch.ones(self.GAPS, self.PHASES, 22, STATE))
        self.register_buffer("one_sided", torch.ones(self.GAPS, 22, STATE))
        self.register_buffer("unseen", torch.ones(22, STATE))
        self.register_buffer("rest", torch.tensor(rot.IDENTITY).repeat(22, 1))

    def at_rest(self, rotations: Tensor, observed: Tensor) -> Tensor:
        """Interpolated rotations (B, T, 22, 4), the mean pose where ``observed`` (B, T, 23) is false throughout."""
        unseen = ~observed[..., :22].any(dim=1)[:, None, :, None]
        return torch.where(unseen, self.rest, rotations)

    def _gap_index(self, seconds: Tensor) -> Tensor:
        low, high = math.log(self.SHORTEST), math.log(self.LONGEST)
        position = (seconds.clamp(self.SHORTEST, self.LONGEST).log() - low) / (high - low)
        return position * (self.GAPS - 1)

    @staticmethod
    def _phase_index(phase: Tensor, phases: int) -> Tensor:
        return (phase * (phases + 1) - 1).clamp(0, phases - 1)

    def _corners(self, before: Tensor, after: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor, Tensor]:
        gap = before + after
        g = self._gap_index(gap)
        p = self._phase_index(before / gap, self.PHASES)
        corners = []
        for gi, gw in ((g.floor(), 1 - g.frac()), (g.floor() + 1, g.frac())):
            for pi, pw in ((p.floor(), 1 - p.frac()), (p.floor() + 1, p.frac())):
                cell = gi.clamp(max=self.GAPS - 1) * self.PHASES + pi.clamp(max=self.PHASES - 1)
                corners.append((cell.long(), gw * pw))
        # phases below the first cell's centre fall to zero towards the key, as the residual does
        edge = torch.minimum(before, after) / gap * (self.PHASES + 1)
        return corners, edge.clamp(max=1.0), g, p

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Seconds since and until trusted values (B, T, 23), 0 where trusted, inf where none → (B, T, 22, 6)."""
        joint = torch.arange(22, device=before.device)

        def rows(x: Tensor) -> tuple[Tensor, Tensor]:
            return x[..., :22], x[..., 22:]

        out = []
        for part, (b, a) in enumerate(zip(rows(before), rows(after), strict=True)):
            channels = slice(0, 3) if part == 0 else slice(3, 6)
            index = joint if part == 0 else joint[:1]
            both = torch.isfinite(b) & torch.isfinite(a) & (b + a > 0)
            corners, edge, _, _ = self._corners(torch.where(both, b, 0.5), torch.where(both, a, 0.5))
            table = self.two_sided[..., channels].flatten(0, 1)
            scale = sum((w[..., None] * table[cell, index] for cell, w in corners), torch.zeros(())) * edge[..., None]
            side = torch.minimum(b, a)
            one = torch.isfinite(side) & ~both & (side > 0)
            g = self._gap_index(torch.where(one, side, 0.5))
            cell = g.floor().long()
            single = self.one_sided[..., channels]
            lone = (1 - g.frac())[..., None] * single[cell, index]
            lone = lone + g.frac()[..., None] * single[(cell + 1).clamp(max=self.GAPS - 1), index]
            never = (torch.isinf(b) & torch.isinf(a))[..., None] * self.unseen[index][:, channels]
            scale = torch.where(both[..., None], scale, torch.where(one[..., None], lone, never))
            out.append(scale)
        shift = torch.zeros_like(out[0])
        shift[:, :, :1] = out[1]
        return torch.cat([out[0], shift], dim=-1)

    def measure(self, batches: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Set the tables from (state, before, after) batches of unscaled training residuals."""
        shape = (self.GAPS, self.PHASES, 22, STATE)
        total, count = torch.zeros(shape), torch.zeros(shape)
        total_one, count_one = torch.zeros(self.GAPS, 22, STATE), torch.zeros(self.GAPS, 22, STATE)
        total_none, count_none = torch.zeros(1, 22, STATE), torch.zeros(1, 22, STATE)
        for state, before, after in batches:
            for part in (0, 1):
                columns_ = slice(0, 22) if part == 0 else slice(22, 23)
                channels = slice(0, 3) if part == 0 else slice(3, 6)
                b, a = before[..., columns_], after[..., columns_]
                square = state[:, :, : b.shape[-1], channels] ** 2
                joint = torch.arange(b.shape[-1]).expand(b.shape)
                both = torch.isfinite(b) & torch.isfinite(a) & (b + a > 0) & (torch.minimum(a, b) > 0)
                _, edge, g, p = self._corners(torch.where(both, b, 0.5), torch.where(both, a, 0.5))
                both &= edge >= 1  # frames nearer a key than the first phase's centre are extrapolated
                place = (g.round().long()[both], p.round().long()[both], joint[both])
                total[..., channels].index_put_(place, square[both], accumulate=True)
                count[..., channels].index_put_(place, torch.ones_like(square[both]), accumulate=True)
                side = torch.minimum(b, a)
                one = torch.isfinite(side) & (side > 0) & ~(torch.isfinite(b) & torch.isfinite(a))
                place_one = (self._gap_index(side[one]).round().long(), joint[one])
                total_one[..., channels].index_put_(place_one, square[one], accumulate=True)
                count_one[..., channels].index_put_(place_one, torch.ones_like(square[one]), accumulate=True)
                none = torch.isinf(b) & torch.isinf(a)
                place_none = (torch.zeros_like(joint[none]), joint[none])
                total_none[..., channels].index_put_(place_none, square[none], accumulate=True)
                count_none[..., channels].index_put_(place_none, torch.ones_like(square[none]), accumulate=True)
        self.two_sided.copy_(_filled(total, count))
        self.one_sided.copy_(_filled(total_one, count_one))
        self.unseen.copy_(_filled(total_none, count_none)[0])


def _filled(total: Tensor, count: Tensor) -> Tensor:
    """Root mean squares; cells that too little data fell into take a shorter gap's value, else a longer gap's."""
    rms = torch.where(count >= 20, (total / count.clamp(min=1)).sqrt(), torch.full_like(total, float("nan")))
    for i in range(1, len(rms)):
        rms[i] = torch.where(rms[i].isnan(), rms[i - 1], rms[i])
    for i in reversed(range(len(rms) - 1)):
        rms[i] = torch.where(rms[i].isnan(), rms[i + 1], rms[i])
    return torch.nan_to_num(rms, nan=1e-3).clamp(min=1e-4)
