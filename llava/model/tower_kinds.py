"""The kinds of vision towers, and a tower as a checkpoint uses it. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llava.model.rules import ACTIVATION, EPSILON, FLAG, NULL, NUM_LAYERS, Rule, one_of, whole

Normalization = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of the three colors."""

_RULES: Mapping[str, Rule] = {
    "hidden_size": whole(),
    "intermediate_size": whole(),
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": whole(),
    "num_channels": one_of(3),
    "image_size": whole(),
    "patch_size": whole(),
    "hidden_act": ACTIVATION,
    "layer_norm_eps": EPSILON,
}
_NOT_BUILT: Mapping[str, Rule] = {"quantization_config": NULL}
_BASE_SIZES = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
}
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")
_DEFAULT_SCALES = "336,672,1008"
NAMED_IMAGE_SIZE = "mm_vision_image_size"
"""Field of a loaded model for what its tower's name says, which is no longer known there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerKind:
    """What is known of all towers of a kind.

    Attributes:
        name: As people call it.
        defaults: What a configuration leaves out, by field.
        own_rules: Of the fields that other kinds do not have.
        prefix: Before the names of its tensors in checkpoints of the original format.
        has_class_token: Whether a feature for the whole image goes before those of the patches.
        drops_last_layer: Whether the original format takes all layers but the last one, whatever
            `mm_vision_select_layer` and `mm_vision_select_feature` say.
        is_sized_by_name: Whether images have 448 pixels a side if the tower's name holds `448`, and
            336 otherwise; the position embeddings are fitted to that.
        squashes: Whether images are resized to a square, instead of having their center cropped.
        normalization: What the original format takes instead of the image processor in the tower's
            folder; None where that one counts.
    """

    name: str
    defaults: Mapping[str, Any]
    own_rules: Mapping[str, Rule] = field(default_factory=dict)
    prefix: str = "vision_model."
    has_class_token: bool = True
    drops_last_layer: bool = False
    is_sized_by_name: bool = False
    squashes: bool = False
    normalization: Normalization | None = None

    @property
    def rules(self) -> Mapping[str, Rule]:
        """What the fields of a configuration may be."""
        return {**_RULES, **self.own_rules, **_NOT_BUILT}


CLIP, SIGLIP, INTERN_VIT = "clip_vision_model", "siglip_vision_model", "intern_vit_6b"
KINDS: Mapping[str, TowerKind] = {
    CLIP: TowerKind(
        name="CLIP",
        defaults=_BASE_SIZES
        | {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    ),
    SIGLIP: TowerKind(
        name="SigLIP",
        defaults=_BASE_SIZES
        | {"patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
        | {"vision_use_head": True},
        own_rules={"vision_use_head": FLAG},
        has_class_token=False,
        drops_last_layer=True,
        squashes=True,
        normalization=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ),
    INTERN_VIT: TowerKind(
        name="InternViT-6B",
        defaults={"num_channels": 3, "hidden_act": "gelu", "layer_norm_eps": 1e-6}
        | {"qkv_bias": False, "qk_normalization": True, "norm_type": "rms_norm"},
        own_rules={
            "qkv_bias": FLAG,
            "qk_normalization": FLAG,
            "norm_type": one_of("rms_norm"),
        },
        prefix="",
        is_sized_by_name=True,
        normalization=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ),
}
"""By `model_type` of the vision part of a configuration."""

SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("image_size", "patch_size"),
)
"""What a tower's own file states; inside another one, what equals the defaults is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """A vision tower as a checkpoint uses it.

    Attributes:
        model_type: Its kind, see `KINDS`.
        config: The configuration that it is built from, complete.
        image_size: Side of an image or tile in pixels, as the tower takes it.
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
    def num_patches(self) -> int:
        """Patches of an image."""
        return self.num_patches_per_side**2

    @property
    def num_features(self) -> int:
        """Features of an image: a patch each, and perhaps the class token."""
        return self.num_patches + (self.select_feature == "cls_patch")

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
        """Whether it is built with a tensor of its files: the end may be left out."""
        if layer := _LAYER.match(name):
            return int(layer[1]) < int(self.config["num_hidden_layers"])
        return bool(self.config.get("vision_use_head", True)) or not name.startswith("head.")


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
    known = kind.rules.keys() - _NOT_BUILT.keys()
    built = {**kind.defaults, **{name: part[name] for name in part.keys() & known}}
    layer = config.get("mm_vision_select_layer")
    feature = config.get("mm_vision_select_feature", "patch")
    if kind.drops_last_layer and not inside:
        built |= {"num_hidden_layers": built["num_hidden_layers"] - 1, "vision_use_head": False}
        layer = -1
    size = built["image_size"]
    if kind.is_sized_by_name:
        name = str(config.get("mm_vision_tower") or config.get("vision_tower"))
        size = config.get(NAMED_IMAGE_SIZE) or (448 if "448" in name else 336)
    scales = config.get("s2_scales", _DEFAULT_SCALES) if config.get("s2") else ""
    return Tower(
        model_type=model_type,
        config=built,
        image_size=size,
        select_layer=layer,  # type: ignore[arg-type]  # checked where the file is known
        select_feature=feature if kind.has_class_token else "patch",
        follows_files=inside or kind.normalization is None,
        scales=tuple(sorted(int(scale) for scale in scales.split(",") if scale)),
    )
