"""The InternViT-6B vision tower, with the names that its tensors have where it is published.

Legend: B images, P patches an image, D width, N heads, d width of a head.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import interpolate, scaled_dot_product_attention
from transformers import CLIPImageProcessorPil, PreTrainedConfig, PreTrainedModel
from transformers.models.clip.modeling_clip import CLIPMLP

from llava.model.multimodal_encoder.vision_tower import VisionTower


class _Embeddings(nn.Module):
    """Class token and patches with their positions, which are fitted to the image's size."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.side = config.image_size // patch
        self.class_embedding = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embedding = nn.Conv2d(config.num_channels, width, patch, stride=patch)
        self.position_embedding = nn.Parameter(torch.zeros(1, self.side**2 + 1, width))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) to (B, 1 + P, D)."""
        patches = self.patch_embedding(pixels)  # (B, D, h, w)
        first, table = self.position_embedding[:, :1], self.position_embedding[:, 1:]
        table = table.transpose(1, 2).unflatten(2, (self.side, self.side))
        table = interpolate(table.float(), size=patches.shape[2:], mode="bicubic").to(first)
        rows = (patches + table).flatten(2).transpose(1, 2)
        return torch.cat(((self.class_embedding + first).expand(len(rows), -1, -1), rows), dim=1)


class _Attention(nn.Module):
    """Attention of all to all; queries and keys may be normalized over all heads at once."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, self.num_heads = config.hidden_size, config.num_attention_heads
        self.qkv = nn.Linear(width, 3 * width, bias=config.qkv_bias)
        self.proj = nn.Linear(width, width)
        self.q_norm, self.k_norm = (
            nn.RMSNorm(width, config.layer_norm_eps) if config.qk_normalization else nn.Identity()
            for _ in range(2)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, 1 + P, D) to the same."""
        query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        heads = (
            rows.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, N, 1 + P, d)
            for rows in (self.q_norm(query), self.k_norm(key), value)
        )
        mixed = scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return self.proj(mixed)


class _Layer(nn.Module):
    """Attention and MLP, each normalized before, scaled behind, and added."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.attn, self.mlp = _Attention(config), CLIPMLP(config)
        self.norm1, self.norm2 = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)
        self.ls1, self.ls2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, hidden: torch.Tensor, _mask: None = None) -> torch.Tensor:
        """(B, 1 + P, D) to the same; there is no mask, which other towers' layers ask for."""
        hidden = hidden + self.ls1 * self.attn(self.norm1(hidden))
        return hidden + self.ls2 * self.mlp(self.norm2(hidden))


class InternViT(PreTrainedModel):
    """The parts of InternViT-6B; `InternViTVisionTower` puts them together."""

    config_class = PreTrainedConfig
    _no_split_modules: ClassVar[list[str]] = ["_Layer"]

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.embeddings = _Embeddings(config)
        layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layers": layers})
        self.post_init()


class InternViTVisionTower(VisionTower):
    """InternViT-6B, as InternVL-Chat V1.0 uses it."""

    config_class = PreTrainedConfig
    model_class = InternViT
    processor_class = CLIPImageProcessorPil
