"""The paper's masked model for completion and refinement: encoder over what is seen, cross-attention decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import Block
from .config import DecoderConfig, MaskedConfig
from .embeddings import Codes
from .kaa import KAA


class Decoder(nn.Module):
    """Predicts the state of all joint tokens from noisy tokens, by cross-attention to the encoder's tokens (Eq. 7).

    Attention runs over all tokens of the window, as the paper's ten-frame windows allow.
    """

    def __init__(self, config: DecoderConfig, joints: int):
        super().__init__()
        self.embed = nn.Linear(config.state, config.dim)
        self.codes = Codes(config.dim, joints)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.head_dim, config.ffn, cross=True) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.read = nn.Linear(config.dim, config.state)

    def forward(
        self,
        query: Tensor,
        state: Tensor,
        memory: Tensor,
        memory_seen: Tensor | None,
        step: Tensor,
        seconds: Tensor,
        frame_step: Tensor,
    ) -> Tensor:
        """query (B, T, J, dim), state (B, T, J, c), memory (B, M, dim), memory_seen (B, M) bool → (B, T, J, c)."""
        b, t, j, d = query.shape
        code = self.codes(seconds, frame_step, step)
        x = query + self.embed(state)
        mask = None if memory_seen is None else memory_seen[:, None, None, :]
        for block in self.blocks:
            x = block((x + code).reshape(b, t * j, d), memory, mask=mask).view(b, t, j, d)
        return self.read(self.norm(x))


class MaskedModel(nn.Module):
    """Masked autoencoder with diffusion on 3-D joint positions (Eqs. 1-8).

    The encoder reads visible joints alone (Eq. 1): hidden tokens take part in no attention as keys, and what became of
    them is thrown away. The learned mask embedding z stands for them in the decoder's queries (Eq. 2), together with
    their noisy state; its memory is the visible tokens h and, one a frame, the kinematic condition c (Eq. 7).
    """

    def __init__(self, config: MaskedConfig):
        super().__init__()
        self.config = config
        dim = config.kaa.joint_dim
        self.embed = nn.Linear(config.decoder.state, dim)
        self.mask_embedding = nn.Parameter(torch.randn(dim))
        self.encoder = KAA(config.kaa, config.joints)
        self.to_decoder = nn.Linear(dim, config.decoder.dim) if dim != config.decoder.dim else nn.Identity()
        pose = config.kaa.pose_dim
        self.condition = nn.Linear(pose, config.decoder.dim) if pose != config.decoder.dim else nn.Identity()
        self.base = nn.Linear(config.decoder.state, config.decoder.dim) if config.residual else None
        self.decoder = Decoder(config.decoder, config.joints)
        if config.residual:  # before it has learned anything, a residual is none
            nn.init.zeros_(self.decoder.read.weight)
            nn.init.zeros_(self.decoder.read.bias)

    def forward(
        self,
        positions: Tensor,
        visible: Tensor | None,
        state: Tensor,
        step: Tensor,
        seconds: Tensor,
        frame_step: Tensor,
        base: Tensor | None = None,
    ) -> Tensor:
        """positions (B, T, J, 3), read where ``visible`` (B, T, J); state (B, T, J, 3) at ``step`` (B,).

        visible: None = everything, which saves the masks. base (B, T, J, 3): what the state is a residual of, where it
        is one. Returns the prediction for all tokens, (B, T, J, 3).
        """
        b, t, j, _ = positions.shape
        if visible is not None:
            positions = torch.where(visible[..., None], positions, torch.zeros_like(positions))
        h, e = self.encoder(self.embed(positions), seconds, frame_step, step, visible=visible)
        if visible is not None:
            h = torch.where(visible[..., None], h, self.mask_embedding)
        query = self.to_decoder(h)
        memory = query.reshape(b, t * j, -1)
        seen = None if visible is None else visible.reshape(b, t * j)
        if e is not None:
            memory = torch.cat([memory, self.condition(e)], dim=1)
            seen = None if seen is None else torch.cat([seen, torch.ones_like(seen[:, :t])], dim=1)
        elif seen is not None:  # a window that shows nothing would leave the softmax empty
            seen = seen | ~seen.any(dim=1, keepdim=True)
        if self.base is not None and base is not None:
            query = query + self.base(base)
        return self.decoder(query, state, memory, seen, step, seconds, frame_step)
