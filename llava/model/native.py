"""The format of transformers' own LLaVA classes, in the terms of the original one.

`LlavaForConditionalGeneration` (v1.5), `LlavaNextForConditionalGeneration` (v1.6) and
`LlavaOnevisionForConditionalGeneration` hold the same weights under other names, with language
model and tower described inside one config.json. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llava.model.families import FAMILIES
from llava.model.rules import ASPECT_RATIO, NULL, OBJECT, PAIRS, check_fields, one_of
from llava.model.tower_facts import vision_part

_SELECT_FEATURES = {"default": "patch", "full": "cls_patch"}
_FIRST: Mapping[str, Any] = {
    "text_type": "llama",
    "vision_feature_select_strategy": "default",
    "vision_feature_layer": -2,
}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llava": _FIRST,
    "llava_next": {
        **_FIRST,
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
    },
    "llava_onevision": {
        "text_type": "qwen2",
        "vision_feature_select_strategy": "full",
        "vision_feature_layer": -1,
        "image_grid_pinpoints": [[384 * i, 384 * j] for i in range(1, 7) for j in range(1, 7)],
        "vision_aspect_ratio": "anyres_max_9",
    },
}
"""What a config.json of each type leaves out."""

NATIVE_TYPES = tuple(_DEFAULTS)
_RULES = {
    "text_config": OBJECT,
    "vision_config": OBJECT,
    "vision_feature_select_strategy": one_of(*_SELECT_FEATURES),
    "projector_hidden_act": one_of("gelu"),
    "multimodal_projector_bias": one_of(True),
    "image_grid_pinpoints": PAIRS | NULL,
    "use_image_newline_parameter": one_of(True),
    "vision_aspect_ratio": ASPECT_RATIO,
}

_TOWER = "model.vision_tower.vision_tower.vision_model."
_NAMES: Mapping[str, tuple[str, ...]] = {
    _TOWER: (
        *("model.vision_tower.vision_model.", "vision_tower.vision_model."),
        *("model.vision_tower.", "vision_tower."),
    ),
    "model.mm_projector.0.": (
        *("model.multi_modal_projector.linear_1.", "multi_modal_projector.linear_1."),
    ),
    "model.mm_projector.2.": (
        *("model.multi_modal_projector.linear_2.", "multi_modal_projector.linear_2."),
    ),
    "model.image_newline.": ("model.image_newline.", "image_newline."),
    "lm_head.": ("language_model.lm_head.",),
    "model.": ("model.language_model.", "language_model.model."),
}
"""How names begin in the original format, and in versions of transformers."""


def is_native_config(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes one of transformers' own LLaVA classes."""
    model_type = config.get("model_type")
    if model_type != "llava":
        return model_type in NATIVE_TYPES
    return bool(config.keys() & {"text_config", "vision_config"})


def rename_tensor(name: str) -> str:
    """Returns the original format's name of a tensor or module, which may have it already.

    >>> rename_tensor("multi_modal_projector.linear_2.bias")
    'model.mm_projector.2.bias'
    >>> rename_tensor("language_model.model.norm.weight")
    'model.norm.weight'
    """
    dotted = f"{name}."  # as beginnings are, that of a whole name too
    if dotted.startswith(_TOWER):
        return name
    for own, others in _NAMES.items():
        for other in others:
            if dotted.startswith(other):
                return f"{own}{dotted.removeprefix(other)}".removesuffix(".")
    return name


def trained_names(name: str) -> list[str]:
    """Returns the names that what the original format calls so has had in transformers' classes.

    >>> trained_names("model.norm")
    ['model.language_model.norm', 'language_model.model.norm', 'model.norm']
    """
    dotted = f"{name}."
    for own, others in _NAMES.items():
        if dotted.startswith(own):
            rest = dotted.removeprefix(own)
            return [*(f"{other}{rest}".removesuffix(".") for other in others), name]
    return [name]


def translate_config(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the fields that the original format has for the same model.

    The context is as long as the language model's positions, which this format states; the vision
    tower lies in the same folder.

    Raises:
        CheckpointError: the model has something that the original format cannot express.
    """
    path = folder / "config.json"
    check_fields({"text_config": None, "vision_config": None} | dict(config), _RULES, path)
    vision = vision_part(config, path)
    text = dict(config["text_config"])
    defaults = _DEFAULTS[config["model_type"]]
    text_type = text.get("model_type", defaults["text_type"])
    known = one_of(*(name for name, family in FAMILIES.items() if family.defaults))
    check_fields({"model_type": text_type}, {"model_type": known}, path, "text_config.")
    text = {**FAMILIES[text_type].defaults, **text}
    stated = {**defaults, **config}
    fields = text | {
        "model_type": FAMILIES[text_type].llava_types[0],
        "max_sequence_length": text["max_position_embeddings"],
        "mm_vision_tower": str(folder),
        "mm_hidden_size": vision["hidden_size"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": stated["vision_feature_layer"],
        "mm_vision_select_feature": _SELECT_FEATURES[stated["vision_feature_select_strategy"]],
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "unfreeze_mm_vision_tower": True,
        "vision_config": vision,
        "image_aspect_ratio": config.get("image_aspect_ratio"),  # mostly left to the processor
    }
    dtypes = {name: config.get(name) for name in ("torch_dtype", "dtype")}
    if any(dtype is not None for dtype in dtypes.values()):  # what the whole model was saved in
        fields |= dtypes
    # either level has had it, by version and class
    name = "tie_word_embeddings"
    fields[name] = text.get(name) or config.get(name, False)
    if "image_grid_pinpoints" in defaults:
        pinpoints = stated["image_grid_pinpoints"] or defaults["image_grid_pinpoints"]
        fields |= {
            "image_aspect_ratio": "anyres",
            "mm_patch_merge_type": "spatial_unpad",
            "image_grid_pinpoints": [[width, height] for height, width in pinpoints],
        }
    if "vision_aspect_ratio" in defaults:
        fields["image_aspect_ratio"] = stated["vision_aspect_ratio"]
        fields["image_newline_of_each"] = True  # of several images, which the class does not tile
    return fields
