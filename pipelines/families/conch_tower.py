"""The image tower of CONCH, with the names of its published weights."""

from collections.abc import Mapping
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer


class ConchTower(torch.nn.Module):
    """A vision transformer, one query that attends to its tokens, and a projection.

    Attributes
    ----------
    projects
        Whether the vector is projected into the space shared with text.
    """

    def __init__(self, trunk: Mapping[str, Any], embed_dim: int) -> None:
        super().__init__()
        self.trunk = VisionTransformer(**trunk, num_classes=0, dynamic_img_size=True)
        self.attn_pool_contrast = AttentionalPooler(embed_dim, self.trunk.num_features)
        self.ln_contrast = torch.nn.LayerNorm(embed_dim)
        self.proj_contrast = torch.nn.Parameter(torch.empty(embed_dim, embed_dim))
        self.projects = True

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the vectors ``(b, d)`` of images ``(b, 3, h, w)``."""
        tokens = self.trunk.forward_features(pixels)
        pooled: torch.Tensor = self.ln_contrast(self.attn_pool_contrast(tokens))
        return pooled @ self.proj_contrast if self.projects else pooled

    def extra_repr(self) -> str:
        """Say which of the two vectors it is."""
        return f"projects={self.projects}"


class AttentionalPooler(torch.nn.Module):
    """One learned query that attends to all tokens."""

    def __init__(self, d_model: int, context_dim: int, n_head: int = 8) -> None:
        super().__init__()
        self.query = torch.nn.Parameter(torch.empty(1, d_model))
        self.attn = torch.nn.MultiheadAttention(d_model, n_head, kdim=context_dim, vdim=context_dim)
        self.ln_q = torch.nn.LayerNorm(d_model)
        self.ln_k = torch.nn.LayerNorm(context_dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the pooled vectors ``(b, d_model)`` of tokens ``(b, n, context_dim)``."""
        keys = self.ln_k(tokens).permute(1, 0, 2)
        query = self.ln_q(self.query)[:, None].expand(-1, keys.shape[1], -1)
        pooled: torch.Tensor = self.attn(query, keys, keys, need_weights=False)[0]
        return pooled[0]
