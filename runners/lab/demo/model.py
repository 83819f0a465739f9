"""The demo model: a vision tower, a two-layer projector and a language model, all small.

B pictures, T views of a picture, P patches of a view, S features of a picture, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import nn

from evals.demo.drawing import IMAGE_SIZE
from llava.anyres import merge_tiles
from llava.images import process_images
from runners.lab.demo.form import LANGUAGE_WIDTH, SELECT_LAYER, TOWER_WIDTH, Form

_PROJECTED_STD = 0.5


class DemoModel(nn.Module):
    """Tower, projector and language model side by side.

    Attributes:
        form: The format of the checkpoint that is to be written.
    """

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        self.tower = form.build_tower()
        self.projector = nn.Sequential(
            nn.Linear(TOWER_WIDTH, LANGUAGE_WIDTH),
            nn.GELU(),
            nn.Linear(LANGUAGE_WIDTH, LANGUAGE_WIDTH),
        )
        self.language = form.build_language()
        if form.layout.unpads:
            self.image_newline = nn.Parameter(torch.randn(LANGUAGE_WIDTH) / LANGUAGE_WIDTH**0.5)

    def select_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The tower's patch features, (B, P, D) float32, for (B, 3, H, W) float32 pixels."""
        # As LLaVA's tower does: of the last layer but one, without the class token.
        states = self.tower(pixel_values, output_hidden_states=True).hidden_states
        return states[SELECT_LAYER][:, int(self.form.has_class_token) :]

    def embed_pictures(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """What the language model reads of demo pictures, (B, S, D) float32.

        `pixel_values` are what `preprocess` gave.
        """
        learns = self.form.tunes_tower and torch.is_grad_enabled()
        with torch.set_grad_enabled(learns):
            features = self.select_features(pixel_values.flatten(0, -4))
        projected = self.projector(features)
        if pixel_values.ndim == 4:
            return projected
        size, side = (IMAGE_SIZE, IMAGE_SIZE), pixel_values.shape[-1]
        merged = [
            merge_tiles(views, self.form.layout, size, side, self.image_newline)
            for views in projected.unflatten(0, pixel_values.shape[:2])
        ]
        return torch.stack(merged)

    def round_tower(self) -> None:
        """Rounds the tower to float16, as it will be stored; ends its training if it is frozen."""
        self.tower.half().float().requires_grad_(self.form.tunes_tower)

    @torch.no_grad()
    def scale_projector(self, pixel_values: torch.Tensor) -> None:
        """Scales the projector's last layer so that images come out with a deviation of 0.5.

        The default initialization makes image embeddings so small that they are learned late.
        """
        projected = self.projector(self.select_features(pixel_values))
        self.projector[2].weight *= _PROJECTED_STD / projected.std()


def preprocess(form: Form, images: Sequence[Image.Image]) -> torch.Tensor:
    """Normalized pixels as the checkpoint's configuration has it, float32.

    (B, 3, H, W) of pictures seen whole, (B, T, 3, H, W) of pictures cut into tiles.
    """
    config = SimpleNamespace(**form.config)
    return torch.as_tensor(np.asarray(process_images(images, form.processor, config)))
