"""Kinematic Attention Aggregation and the encoder variants of the paper's Table VI, from one block class."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import Block
from .config import KAAConfig
from .embeddings import Codes, rotary_angles


def _readable(visible: Tensor) -> Tensor:
    """(N, L) bool → (N, 1, L, L) attention mask: every token reads the visible ones and itself."""
    return (visible[:, None] | torch.eye(visible.shape[1], dtype=torch.bool, device=visible.device))[:, None]


class Round(nn.Module):
    """One round of the chosen variant.

    KAA, structure-first: attention over ``[e, h]`` in each frame, then over time on the pose tokens e alone, then e is
    handed back to every joint token. Trajectory-first swaps the two. S, T and S&T work on joint tokens only, "pose" on
    pose tokens only.
    """

    def __init__(self, config: KAAConfig, joints: int):
        super().__init__()
        self.config = config
        joint, pose = config.joint_dim, config.pose_dim
        self.aggregates = config.variant in ("kaa", "kaa_t")
        has_structure = config.variant not in ("t", "pose")
        has_time = config.variant != "s"
        self.structure = Block(joint, config.heads, config.head_dim, config.ffn) if has_structure else None
        time_dim = pose if self.aggregates or config.variant == "pose" else joint
        self.time = nn.ModuleList(
            Block(time_dim, config.time_heads, config.time_head_dim, config.time_ffn)
            for _ in range(config.temporal_blocks if has_time else 0)
        )
        if self.aggregates and joint != pose:
            self.down = nn.Linear(pose, joint)
            self.gather = nn.Linear((joints + 1) * joint, pose)
            self.broadcast = nn.Linear(pose, joints * joint)

    def forward(
        self,
        h: Tensor,
        e: Tensor | None,
        joint_code: Tensor | None,
        pose_code: Tensor | None,
        angles: Tensor | None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """h (B, T, J, joint_dim), e (B, T, pose_dim) or None → the same shapes. visible: see `KAA.forward`."""
        if joint_code is None:
            assert e is not None
            assert pose_code is not None
            return h, self._over_time(e, pose_code, angles)
        if self.config.variant == "kaa_t":
            assert e is not None
            assert pose_code is not None
            e = self._over_time(e, pose_code, angles)
            h, e = self._over_joints(h, e, joint_code, visible)
            assert e is not None
        else:
            if self.structure is not None:
                h, e = self._over_joints(h, e, joint_code, visible)
            if not self.aggregates:
                return self._joints_over_time(h, joint_code, angles, visible), None
            assert e is not None
            assert pose_code is not None
            e = self._over_time(e, pose_code, angles)
        return self._hand_back(h, e), e

    def _over_joints(
        self, h: Tensor, e: Tensor | None, code: Tensor, visible: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        assert self.structure is not None
        b, t, j, d = h.shape
        x = h + code
        if e is None:
            mask = _readable(visible.reshape(b * t, j)) if visible is not None else None
            return self.structure(x.reshape(b * t, j, d), mask=mask).view(b, t, j, d), None
        wide = self.config.joint_dim != self.config.pose_dim
        token = self.down(e) if wide else e
        x = torch.cat([token[:, :, None], x], dim=2).reshape(b * t, j + 1, d)
        mask = None
        if visible is not None:  # the pose token is always there to be read
            mask = functional.pad(visible, (1, 0), value=True).view(b * t, 1, 1, j + 1)
        x = self.structure(x, mask=mask).view(b, t, j + 1, d)
        e = e + self.gather(x.flatten(2)) if wide else x[:, :, 0]
        return x[:, :, 1:], e

    def _over_time(self, e: Tensor, code: Tensor, angles: Tensor | None) -> Tensor:
        for block in self.time:
            e = block(e + code, angles=angles)
        return e

    def _joints_over_time(self, h: Tensor, code: Tensor, angles: Tensor | None, visible: Tensor | None) -> Tensor:
        b, t, j, d = h.shape
        mask = _readable(visible.transpose(1, 2).reshape(b * j, t)) if visible is not None else None
        if angles is not None:
            angles = angles.repeat_interleave(j, dim=0)
        for block in self.time:
            x = (h + code).transpose(1, 2).reshape(b * j, t, d)
            h = block(x, angles=angles, mask=mask).view(b, j, t, d).transpose(1, 2)
        return h

    def _hand_back(self, h: Tensor, e: Tensor) -> Tensor:
        if self.config.joint_dim == self.config.pose_dim:
            return h + e[:, :, None]
        return h + self.broadcast(e).view(h.shape)


class KAA(nn.Module):
    """Rounds of attention over joints and time. Codes are added before every processing step."""

    def __init__(self, config: KAAConfig, joints: int = 22, label: int = 0):
        super().__init__()
        self.config = config
        self.rounds = nn.ModuleList(Round(config, joints) for _ in range(config.rounds))
        if config.last_structure:
            self.rounds.append(Round(replace(config, temporal_blocks=0), joints))
        self.joint_codes = Codes(config.joint_dim, joints, label) if config.variant != "pose" else None
        self.aggregates = config.variant in ("kaa", "kaa_t")
        has_pose = self.aggregates or config.variant == "pose"
        self.pose_codes = Codes(config.pose_dim, None, label) if has_pose else None
        self.pose = nn.Parameter(0.02 * torch.randn(config.pose_dim)) if has_pose else None

    def forward(
        self,
        h: Tensor,
        seconds: Tensor,
        frame_step: Tensor,
        step: Tensor,
        pose_seed: Tensor | None = None,
        label: Tensor | None = None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """h (B, T, J, joint_dim), seconds (B, T) from the window centre, frame_step (B,), step (B,).

        pose_seed (B, T, pose_dim): what a wide pose token starts from besides its learned value. label (B, label):
        what is done, as a vector. visible (B, T, J) bool: joint tokens that attention may read; None = all.

        Returns joint tokens (as they came where the variant has none) and the kinematic condition: the pose tokens
        (B, T, pose_dim), None without them.
        """
        joint_code = self.joint_codes(seconds, frame_step, step, label) if self.joint_codes is not None else None
        pose_code, e = None, None
        if self.pose is not None and self.pose_codes is not None:
            pose_code = self.pose_codes(seconds, frame_step, step, label)
            e = self.pose.expand(*h.shape[:2], -1)
            if pose_seed is not None:
                e = e + pose_seed
        angles = rotary_angles(seconds, self.config.time_head_dim) if self.config.rotary else None
        for round_ in self.rounds:
            h, e = round_(h, e, joint_code, pose_code, angles, visible)
        return h, e
