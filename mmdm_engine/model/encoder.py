"""Linear in, aggregator, linear out: the network of Eq. 11 and of the product priors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import EncoderConfig
from .kaa import KAA


class Encoder(nn.Module):
    """Predicts per-joint outputs from per-joint features and the noisy state.

    The read-out sees the joint tokens and, through a path of its own, the pose token: what the whole body knows
    reaches every joint without passing the narrow tokens. It starts at zero, so an untrained prior is its baseline.
    In the variant "pose" that path is all there is.

    half_precision: whether training is to run its matrix products in bfloat16; set by the training loop.
    """

    half_precision = False

    def __init__(self, config: EncoderConfig, joints: int = 22):
        super().__init__()
        self.config = config
        self.joints = joints
        kaa = config.kaa
        channels = config.features + config.state
        joint_tokens = kaa.variant != "pose"
        self.embed = nn.Linear(channels, kaa.joint_dim) if joint_tokens else None
        self.kaa = KAA(kaa, joints, config.label)
        wide = not joint_tokens or (self.kaa.aggregates and kaa.joint_dim != kaa.pose_dim)
        self.embed_pose = nn.Linear(joints * channels, kaa.pose_dim) if wide else None
        self.norm = nn.LayerNorm(kaa.joint_dim) if joint_tokens else None
        self.read = nn.Linear(kaa.joint_dim, config.outputs) if joint_tokens else None
        self.norm_pose = nn.LayerNorm(kaa.pose_dim) if wide else None
        self.read_pose = nn.Linear(kaa.pose_dim, joints * config.outputs) if wide else None
        for layer in (self.read, self.read_pose):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def widened(self, name: str, value: Tensor) -> Tensor:
        """A read-out's weights of an encoder with fewer outputs, with zeros for those it lacks."""
        joints = self.joints if name.startswith("read_pose.") else 1
        value = value.unflatten(0, (joints, -1))
        wide = value.new_zeros((joints, self.config.outputs, *value.shape[2:]))
        wide[:, : value.shape[1]] = value
        return wide.flatten(0, 1)

    def forward(
        self,
        features: Tensor,
        state: Tensor,
        step: Tensor,
        seconds: Tensor,
        frame_step: Tensor,
        label: Tensor | None = None,
    ) -> Tensor:
        """features (B, T, J, features), state (B, T, J, state), step (B,) int, seconds (B, T), frame_step (B,).

        label: (B, label), zeros or None where nothing is said. Returns (B, T, J, outputs).
        """
        x = torch.cat([features, state], dim=-1)
        pose_seed = self.embed_pose(x.flatten(2)) if self.embed_pose is not None else None
        h, e = self.kaa(x if self.embed is None else self.embed(x), seconds, frame_step, step, pose_seed, label)
        y = x.new_zeros(())
        if self.read is not None and self.norm is not None:
            y = self.read(self.norm(h))
        if self.read_pose is not None and self.norm_pose is not None and e is not None:
            y = y + self.read_pose(self.norm_pose(e)).unflatten(-1, (self.joints, -1))
        return y
