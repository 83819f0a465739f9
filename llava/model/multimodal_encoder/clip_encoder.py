"""The CLIP vision tower.

Legend: B images (or tiles), P patches an image, D_v hidden width of the tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from llava.errors import CheckpointError
from llava.model.tower import read_tower
from llava.model.tower_facts import is_tower_tuned, processor_fields, tower_fields

MAX_IMAGES = 32
"""Images or tiles that go through the tower together: more gain nothing and take its memory."""


class _NamedAsStored(nn.Module):
    """Puts the tower under `vision_model`, where original checkpoints have its tensors."""

    def __init__(self, model: CLIPVisionModel) -> None:
        super().__init__()
        self.vision_model = model


class CLIPVisionTower(nn.Module):
    """A CLIP vision model of which one hidden layer is taken as image features.

    Args:
        vision_tower: Folder of the CLIP model.
        args: The checkpoint's config: `mm_vision_select_layer`, `mm_vision_select_feature` and
            `unfreeze_mm_vision_tower` or `mm_tunable_parts`.
        delay_load: Leave the weights for `load_model`. A tower that was tuned with the language
            model has its weights in the checkpoint: its structure is built at once, so that they
            find their place.

    Raises:
        ValueError: `mm_vision_select_feature` is unknown.
        CheckpointError: the tower's configuration cannot be read.
    """

    def __init__(self, vision_tower: str, args: Any, *, delay_load: bool = False) -> None:
        super().__init__()
        self.vision_tower_name = vision_tower
        self.select_layer: int = args.mm_vision_select_layer
        self.select_feature: str = getattr(args, "mm_vision_select_feature", "patch")
        if self.select_feature not in ("patch", "cls_patch"):
            raise ValueError(
                "`mm_vision_select_feature` must be patch or cls_patch, but is "
                f"{self.select_feature!r}. Correct the checkpoint's config.json."
            )
        self.is_loaded = False
        self.config = CLIPVisionConfig(**tower_fields(Path(vision_tower)))
        if is_tower_tuned(vars(args)):
            self.vision_tower = _NamedAsStored(CLIPVisionModel(self.config))
            self.image_processor = self._new_image_processor()
            self.is_loaded = True
        elif not delay_load:
            self.load_model()

    def load_model(
        self,
        device_map: Any = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Loads weights and image processor, unless that was done before; the tower is frozen.

        Args:
            device_map: As transformers takes it; None for `device`.
            device: Where the tower goes; None for the CPU.
            dtype: Of the tower's weights; the reference keeps a frozen tower in float32.

        Raises:
            CheckpointError: a tensor is missing, or the weights cannot be read.
        """
        if self.is_loaded:
            return
        # not by the library, which other files of the folder lead elsewhere
        model, info = CLIPVisionModel.from_pretrained(
            None,
            config=self.config,
            state_dict=read_tower(Path(self.vision_tower_name)),
            dtype=dtype,
            device_map=device_map,
            output_loading_info=True,
        )
        if info["missing_keys"]:
            raise CheckpointError(
                f"The vision tower in {self.vision_tower_name} lacks {len(info['missing_keys'])} "
                f"tensors, such as {min(info['missing_keys'])}. Download it again."
            )
        model.requires_grad_(False)
        self.vision_tower = _NamedAsStored(model if device is None else model.to(device))
        self.image_processor = self._new_image_processor()
        self.is_loaded = True

    def _new_image_processor(self) -> CLIPImageProcessorPil:
        return CLIPImageProcessorPil(**processor_fields(Path(self.vision_tower_name)))

    def forward(
        self, images: torch.Tensor | Sequence[torch.Tensor]
    ) -> torch.Tensor | list[torch.Tensor]:
        """Returns the features of the selected layer, in the dtype of the images.

        Args:
            images: (B, 3, H, W), CLIP-normalized, or a sequence of (3, H, W).

        Returns:
            (B, P, D_v), with one more row for the class token if the feature is `cls_patch`; for a
            sequence a list of (1, P, D_v). RuntimeError if the tower is not loaded.
        """
        if not isinstance(images, torch.Tensor):
            return [self._features(image[None]) for image in images]
        return torch.cat([self._features(part) for part in images.split(MAX_IMAGES)])

    @torch.no_grad()
    def _features(self, images: torch.Tensor) -> torch.Tensor:
        if not self.is_loaded:
            raise RuntimeError("The vision tower is not loaded. Call `load_model()` first.")
        model = self.vision_tower.vision_model
        encoder, layers = model.encoder, model.encoder.layers
        encoder.layers = layers[: self._num_layers]
        try:
            hidden = model(images.to(device=self.device, dtype=self.dtype)).last_hidden_state
        finally:
            encoder.layers = layers
        features = hidden.to(images.dtype)
        return features[:, 1:] if self.select_feature == "patch" else features  # (B, P, D_v)

    @property
    def _num_layers(self) -> int:
        """Layers up to the selected one, whose output decides; the embeddings count as one."""
        layer = self.select_layer
        return layer if layer >= 0 else self.config.num_hidden_layers + 1 + layer

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return next(self.vision_tower.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.vision_tower.parameters()).device

    @property
    def hidden_size(self) -> int:
        """Width D_v of the features."""
        return int(self.config.hidden_size)

    @property
    def image_size(self) -> int:
        """Side of an image or tile in pixels."""
        return int(self.config.image_size)

    @cached_property
    def num_patches_per_side(self) -> int:
        """Patches along one side of an image."""
        return int(self.config.image_size // self.config.patch_size)

    @cached_property
    def num_patches(self) -> int:
        """Patches P of an image."""
        return self.num_patches_per_side**2


def find_tower(model: Any) -> CLIPVisionTower | None:
    """Returns a model's vision tower; None for a model without images."""
    get_tower = getattr(model, "get_vision_tower", None)
    return get_tower() if get_tower else None
