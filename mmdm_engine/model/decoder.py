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
        memory_seen: Tensor,
        step: Tensor,
        seconds: Tensor,
        frame_step: Tensor,
    ) -> Tensor:
        """query (B, T, J, dim), state (B, T, J, c), memory (B, M, dim), memory_seen (B, M) bool → (B, T, J, c)."""
        b, t, j, d = query.shape
        code = self.codes(seconds, frame_step, step)
        x = query + self.embed(state)
        mask = memory_seen[:, None, None, :]
        for block in self.blocks:
            x = block((x + code).reshape(b, t * j, d), memory, mask=mask).view(b, t, j, d)
        return self.read(self.norm(x))


class MaskedModel(nn.Module):
    """Masked autoencoder with diffusion on 3-D joint positions (Eqs. 1-8).

    The encoder sees the visible joints; hidden ones enter as the learned mask embedding z, which tells structure and
    time attention that something is missing here. The decoder predicts x0 (or noise) for every token.
    """

    def __init__(self, config: MaskedConfig):
        super().__init__()
        self.config = config
        dim = config.kaa.joint_dim
        self.embed = nn.Linear(config.decoder.state, dim)
        self.mask_embedding = nn.Parameter(torch.randn(dim))
        self.encoder = KAA(config.kaa, config.joints)
        self.to_decoder = nn.Linear(dim, config.decoder.dim) if dim != config.decoder.dim else nn.Identity()
        self.decoder = Decoder(config.decoder, config.joints)

    def forward(
        self, positions: Tensor, visible: Tensor, state: Tensor, step: Tensor, seconds: Tensor, frame_step: Tensor
    ) -> Tensor:
        """positions (B, T, J, 3), used where ``visible`` (B, T, J); state (B, T, J, 3) at ``step`` (B,).

        Returns the prediction for all tokens, (B, T, J, 3).
        """
        b, t, j, _ = positions.shape
        seen = visible[..., None]
        h = torch.where(
            seen, self.embed(torch.where(seen, positions, torch.zeros_like(positions))), self.mask_embedding
        )
        h, e = self.encoder(h, seconds, frame_step, step)
        memory = self.to_decoder(h).reshape(b, t * j, -1)
        memory_seen = visible.reshape(b, t * j)
        if e is not None:  # the kinematic condition c joins the memory, one token a frame
            memory = torch.cat([memory, self.to_decoder(e)], dim=1)
            memory_seen = torch.cat([memory_seen, torch.ones_like(memory_seen[:, :t])], dim=1)
        query = self.to_decoder(torch.where(seen, h, self.mask_embedding))
        return self.decoder(query, state, memory, memory_seen, step, seconds, frame_step)
