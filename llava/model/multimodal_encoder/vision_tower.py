"""What all vision towers have in common.

Legend: B images (or tiles), P patches an image, D_v width of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from llava.errors import CheckpointError
from llava.model.tower_facts import is_tower_tuned, processor_fields, read_tower
from llava.model.tower_kinds import count_layers
from llava.model.weights import read_tower_tensors

MAX_IMAGES = 32
"""Images or tiles that go through the tower together: more gain nothing and take its memory."""


class _NamedAsStored(nn.Module):
    """Puts the tower under `vision_model`, where original checkpoints have its tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.vision_model = model


class VisionTower(nn.Module):
    """A vision model of which one hidden layer is taken as image features.

    Args:
        vision_tower: Folder of the vision model.
        args: The checkpoint's config: `mm_vision_select_layer`, `mm_vision_select_feature`, `s2`,
            `s2_scales` and `unfreeze_mm_vision_tower` or `mm_tunable_parts`.
        delay_load: Leave the weights for `load_model`. A tower that was tuned with the language
            model has its weights in the checkpoint: its structure is built at once, so that they
            find their place.

    Attributes:
        facts: What is known of the tower without its weights.
        image_size: Side of an image or tile in pixels.
        hidden_size: Width D_v of the features.
        num_patches: Patches P of an image; `num_patches_per_side` along one side.

    Raises:
        ValueError: `mm_vision_select_feature` is unknown.
        CheckpointError: the tower's configuration cannot be read.
    """

    config_class: ClassVar[Any]
    model_class: ClassVar[Any]
    processor_class: ClassVar[Any]

    def __init__(self, vision_tower: str, args: Any, *, delay_load: bool = False) -> None:
        super().__init__()
        self.vision_tower_name = vision_tower
        self.facts = facts = read_tower(Path(vision_tower), vars(args))
        self.select_layer, self.select_feature = facts.select_layer, facts.select_feature
        self.image_size, self.hidden_size = facts.image_size, facts.hidden_size
        self.num_patches_per_side = facts.num_patches_per_side
        self.num_patches = facts.num_patches_per_side**2
        if self.select_feature not in ("patch", "cls_patch"):
            raise ValueError(
                "`mm_vision_select_feature` must be patch or cls_patch, but is "
                f"{self.select_feature!r}. Correct the checkpoint's config.json."
            )
        self.is_loaded = False
        self.config = self.config_class(**facts.config)
        if is_tower_tuned(vars(args)):
            self._take(self.model_class(self.config))
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
            CheckpointError: a tensor is missing or has no place, or the weights cannot be read.
        """
        if self.is_loaded:
            return
        stored = read_tower_tensors(Path(self.vision_tower_name))
        # not by the library, which other files of the folder lead elsewhere
        model, info = self.model_class.from_pretrained(
            None,
            config=self.config,
            state_dict={name: stored[name] for name in stored if self.facts.has_place_for(name)},
            dtype=dtype,
            device_map=device_map,
            output_loading_info=True,
        )
        if info["missing_keys"]:
            raise CheckpointError(
                f"The vision tower in {self.vision_tower_name} lacks {len(info['missing_keys'])} "
                f"tensors, such as {min(info['missing_keys'])}. Download it again."
            )
        if info["unexpected_keys"]:
            raise CheckpointError(
                f"The vision tower in {self.vision_tower_name} holds "
                f"{len(info['unexpected_keys'])} tensors, such as {min(info['unexpected_keys'])}, "
                "that its config.json does not describe. Take the config.json that belongs to it."
            )
        model.requires_grad_(False)
        self._take(model if device is None else model.to(device))

    def hold(self, model: nn.Module) -> None:
        """Has a vision model of this tower's class, weights and all, stand for its own."""
        self.vision_tower = _NamedAsStored(model) if self.facts.kind.prefix else model

    def _take(self, model: nn.Module) -> None:
        self.hold(model)
        fields = processor_fields(Path(self.vision_tower_name), self.facts)
        self.image_processor = self.processor_class(**fields)
        self.is_loaded = True

    @property
    def model(self) -> Any:
        """The vision model itself."""
        return self.vision_tower.vision_model if self.facts.kind.prefix else self.vision_tower

    @property
    def layers(self) -> nn.ModuleList:
        """Its layers up to the selected one."""
        layers = self.model.encoder.layers
        return layers[: count_layers(self.select_layer, len(layers))]

    def forward(
        self, images: torch.Tensor | Sequence[torch.Tensor]
    ) -> torch.Tensor | list[torch.Tensor]:
        """Returns the features of the selected layer, in the dtype of the images.

        Args:
            images: (B, 3, H, W), normalized, or a sequence of (3, H, W).

        Returns:
            (B, P, D_v), with one more row for the class token if the feature is `cls_patch`; for a
            sequence a list of (1, P, D_v). RuntimeError if the tower is not loaded.
        """
        if not isinstance(images, torch.Tensor):
            return [self._features(image[None]) for image in images]
        return torch.cat([self._features(part) for part in images.split(self.images_at_once)])

    @property
    def images_at_once(self) -> int:
        """Images that go through the tower together."""
        return max(1, MAX_IMAGES // self.facts.num_passes)

    @torch.no_grad()
    def _features(self, images: torch.Tensor) -> torch.Tensor:
        if not self.is_loaded:
            raise RuntimeError("The vision tower is not loaded. Call `load_model()` first.")
        hidden = self._embed(images.to(device=self.device, dtype=self.dtype))
        for layer in self.layers:
            hidden = layer(hidden, None)
        features = hidden.to(images.dtype)
        is_patch = self.select_feature == "patch" and self.facts.kind.has_class_token
        return features[:, 1:] if is_patch else features  # (B, P, D_v)

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) to what the first layer takes, (B, P, D_v) or one row more."""
        return self.model.embeddings(pixels)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return next(self.vision_tower.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.vision_tower.parameters()).device


def find_tower(model: Any) -> VisionTower | None:
    """Returns a model's vision tower; None for a model without images."""
    get_tower = getattr(model, "get_vision_tower", None)
    return get_tower() if get_tower else None
