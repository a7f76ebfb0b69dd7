"""The one transformer block that every encoder variant and the decoder is made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from .embeddings import rotate_pairs


class Attention(nn.Module):
    """Multi-head attention over the second axis; self-attention, or cross-attention to a context."""

    def __init__(self, dim: int, heads: int, head_dim: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, heads * head_dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim)

    def forward(
        self, x: Tensor, context: Tensor | None = None, angles: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """x (N, L, dim), context (N, M, dim) → (N, L, dim).

        mask: bool, broadcast to (N, heads, L, M), True = attend.
        """
        n, length, _ = x.shape
        source = x if context is None else context
        q = self.query(x).view(n, length, self.heads, -1).transpose(1, 2)
        k, v = self.key_value(source).view(n, source.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        if angles is not None:
            q, k = rotate_pairs(q, angles), rotate_pairs(k, angles)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).reshape(n, length, -1))


class Block(nn.Module):
    """Pre-LN transformer block: attention, then a feed-forward part, each on a residual path."""

    def __init__(self, dim: int, heads: int, head_dim: int, ffn: int, cross: bool = False):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim) if cross else None
        self.attention = Attention(dim, heads, head_dim)
        self.feed_forward = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, ffn), nn.GELU(), nn.Linear(ffn, dim))

    def forward(
        self, x: Tensor, context: Tensor | None = None, angles: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """See `Attention`."""
        if context is not None and self.norm_context is not None:
            context = self.norm_context(context)
        x = x + self.attention(self.norm(x), context, angles, mask)
        return x + self.feed_forward(x)
