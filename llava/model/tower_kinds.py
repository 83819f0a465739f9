"""The kinds of vision towers, and a tower as a checkpoint uses it. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llava.model.rules import ACTIVATION, EPSILON, FLAG, NUM_LAYERS, Rule, one_of, whole

DEFAULT_SCALES = "336,672,1008"
NAMED_IMAGE_SIZE = "mm_vision_image_size"
"""Field of a loaded model for what its tower's name says, which is no longer known there."""

SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("image_size", "patch_size"),
)
"""What a tower's own file states; inside another one, what equals the defaults is left out."""

_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(SIZES, whole()),
    "num_hidden_layers": NUM_LAYERS,
    "num_channels": one_of(3),
    "hidden_act": ACTIVATION,
    "layer_norm_eps": EPSILON,
    **dict.fromkeys(("vision_use_head", "qkv_bias", "qk_normalization"), FLAG),
    "norm_type": one_of("rms_norm"),
}
_BASE = dict(zip(SIZES, (768, 3072, 12, 12, 224), strict=False)) | {"num_channels": 3}
LAYER = re.compile(r"(?:vision_model\.)?encoder\.layers\.(\d+)\.")
"""The beginning of a tensor's name in a layer of a tower's files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerKind:
    """What is known of all towers of a kind.

    Attributes:
        name: As people call it.
        defaults: What a configuration leaves out, by field.
        prefix: Before the names of its tensors in checkpoints of the original format.
        has_class_token: Whether a feature for the whole image goes before those of the patches.
        drops_last_layer: Whether the original format takes all layers but the last one, whatever
            `mm_vision_select_layer` and `mm_vision_select_feature` say.
        is_sized_by_name: Whether images have 448 pixels a side if `mm_vision_tower` holds `448`,
            and 336 otherwise; the position embeddings are fitted to that.
        squashes: Whether images are resized to a square, instead of having their center cropped.
        normalization: Mean and deviation of the colors, which the original format takes instead of
            the image processor in the tower's folder; None where that one counts.
    """

    name: str
    defaults: Mapping[str, Any]
    prefix: str = "vision_model."
    has_class_token: bool = True
    drops_last_layer: bool = False
    is_sized_by_name: bool = False
    squashes: bool = False
    normalization: tuple[list[float], list[float]] | None = None

    @property
    def rules(self) -> dict[str, Rule]:
        """What the fields that it is built from may be."""
        return {name: _RULES[name] for name in dict.fromkeys((*SIZES, *self.defaults))}


CLIP, SIGLIP, INTERN_VIT = "clip_vision_model", "siglip_vision_model", "intern_vit_6b"
PART_TYPES = {"clip": CLIP, "siglip": SIGLIP}
"""`model_type` of a model of images and texts, and of the vision part that it has."""
KINDS: Mapping[str, TowerKind] = {
    CLIP: TowerKind(
        name="CLIP",
        defaults=_BASE | {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    ),
    SIGLIP: TowerKind(
        name="SigLIP",
        defaults=_BASE
        | {"patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
        | {"vision_use_head": True},
        has_class_token=False,
        drops_last_layer=True,
        squashes=True,
        normalization=([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ),
    INTERN_VIT: TowerKind(
        name="InternViT-6B",
        defaults={"num_channels": 3, "hidden_act": "gelu", "layer_norm_eps": 1e-6}
        | {"qkv_bias": False, "qk_normalization": True, "norm_type": "rms_norm"},
        prefix="",
        is_sized_by_name=True,
        normalization=([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ),
}
"""By `model_type` of the vision part of a configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """A vision tower as a checkpoint uses it.

    Attributes:
        model_type: Its kind, see `KINDS`.
        config: What it is built from, complete.
        image_size: Side of an image or tile in pixels, as the layers take it.
        select_layer: The layer whose output is taken: 0 for the embeddings, negative from the end.
        select_feature: `patch`, or `cls_patch` for the class token too.
        follows_files: Whether the image processor in the tower's folder counts.
        scales: Sides in pixels at which S2 has an image seen, ascending; empty without S2.
    """

    model_type: str
    config: Mapping[str, Any]
    image_size: int
    select_layer: int
    select_feature: str
    follows_files: bool = True
    scales: tuple[int, ...] = ()

    @property
    def kind(self) -> TowerKind:
        """What is known of its kind."""
        return KINDS[self.model_type]

    @property
    def num_layers(self) -> int:
        """Layers up to the selected one."""
        return count_layers(self.select_layer, self.config["num_hidden_layers"])

    @property
    def num_patches_per_side(self) -> int:
        """Patches along one side of an image."""
        return int(self.image_size // self.config["patch_size"])

    @property
    def num_features(self) -> int:
        """Features of an image: one of each patch, and perhaps the class token's."""
        return self.num_patches_per_side**2 + (self.select_feature == "cls_patch")

    @property
    def hidden_size(self) -> int:
        """Width of a feature."""
        return int(self.config["hidden_size"] * max(1, len(self.scales)))

    @property
    def pixel_size(self) -> int:
        """Side in pixels to which the image processor brings an image or tile."""
        return max(self.scales, default=self.image_size)

    @property
    def num_passes(self) -> int:
        """How many images of `image_size` go through the layers for one image."""
        return sum((scale // self.image_size) ** 2 for scale in self.scales) or 1

    def has_place_for(self, name: str) -> bool:
        """Whether it is built with a tensor of its files, whose end may be left out."""
        if layer := LAYER.match(name):
            return int(layer[1]) < int(self.config["num_hidden_layers"])
        return not name.startswith("head.")


def count_layers(select_layer: int, num_layers: int) -> int:
    """Returns how many layers lead to the selected one; the embeddings count as one before.

    >>> count_layers(-2, 24), count_layers(23, 24)
    (23, 23)
    """
    return select_layer if select_layer >= 0 else num_layers + 1 + select_layer


def describe_tower(
    part: Mapping[str, Any], config: Mapping[str, Any], *, inside: bool = False
) -> Tower:
    """Returns the tower of a configuration as a checkpoint uses it.

    Args:
        part: The vision part of the tower's configuration, its values known.
        config: The checkpoint's; where S2 is on, its scales are a text of numbers.
        inside: Whether the vision part lies inside the checkpoint's own configuration, as in
            transformers' formats.
    """
    model_type = part.get("model_type", CLIP)
    kind = KINDS[model_type]
    built = {**kind.defaults, **{name: part[name] for name in kind.rules if name in part}}
    layer = config.get("mm_vision_select_layer")
    if kind.drops_last_layer and not inside:
        built |= {"num_hidden_layers": built["num_hidden_layers"] - 1, "vision_use_head": False}
        layer = -1
    size = built["image_size"]
    if kind.is_sized_by_name:
        name = str(config.get("mm_vision_tower") or config.get("vision_tower"))
        size = config.get(NAMED_IMAGE_SIZE) or (448 if "448" in name else 336)
    scales = (config.get("s2_scales") or DEFAULT_SCALES).split(",") if config.get("s2") else ()
    feature = config.get("mm_vision_select_feature", "patch")
    return Tower(
        model_type=model_type,
        config=built,
        image_size=size,
        select_layer=layer,  # type: ignore[arg-type]  # checked where the file is known
        select_feature=feature if kind.has_class_token else "patch",
        follows_files=inside or kind.normalization is None,
        scales=tuple(sorted(map(int, scales))),
    )
