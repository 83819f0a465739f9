"""The CLIP vision tower, and the one that sees an image at several scales (S2).

Legend: B images, P patches an image, D_v width of the features, S scales.
"""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from llava.model.multimodal_encoder.vision_tower import VisionTower


class CLIPVisionTower(VisionTower):
    """CLIP: the class token and the patches, normalized before the first layer."""

    config_class = CLIPVisionConfig
    model_class = CLIPVisionModel
    processor_class = CLIPImageProcessorPil

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.pre_layrnorm(self.model.embeddings(pixels))


class CLIPVisionTowerS2(CLIPVisionTower):
    """CLIP on an image at S scales; each patch has the features of all of them.

    The smallest scale is the tower's own image size. A larger image is cut into tiles of it, whose
    features are put together to a map and averaged over the areas of the smallest scale's patches.
    Features have S times the tower's width, the smallest scale first.
    """

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        maps = [self._map(images, scale) for scale in self.facts.scales]
        return torch.cat(maps, dim=1).flatten(2).transpose(1, 2)  # (B, P, S * D_v)

    def _map(self, images: torch.Tensor, scale: int) -> torch.Tensor:
        """Features (B, D_v, h, w) of images seen at a scale, h and w patches of the smallest."""
        cuts, side = scale // self.image_size, self.num_patches_per_side
        pixels = interpolate(images.float(), size=(scale, scale), mode="bicubic").to(images.dtype)
        tiles = pixels.unflatten(3, (cuts, -1)).unflatten(2, (cuts, -1))
        tiles = tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)  # (B * cuts * cuts, 3, H, W)
        grid = super()._features(tiles).view(len(images), cuts, cuts, side, side, -1)
        whole = grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return interpolate(whole.float(), size=(side, side), mode="area").to(whole.dtype)
