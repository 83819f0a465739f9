"""The format of transformers' own LLaVA classes, in the terms of the original one.

`LlavaForConditionalGeneration` (v1.5) and `LlavaNextForConditionalGeneration` (v1.6) hold the same
weights under other names, with language model and tower described inside one config.json. Imports
no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError

_NATIVE_TYPES = ("llava", "llava_next")
_SELECT_FEATURES = {"default": "patch", "full": "cls_patch"}
_DEFAULT_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]

_TENSOR_NAMES = (
    (r"(model\.)?vision_tower\.(vision_model\.)?", "model.vision_tower.vision_tower.vision_model."),
    (r"(model\.)?multi_modal_projector\.linear_1\.", "model.mm_projector.0."),
    (r"(model\.)?multi_modal_projector\.linear_2\.", "model.mm_projector.2."),
    (r"(model\.)?image_newline$", "model.image_newline"),
    (r"language_model\.lm_head\.", "lm_head."),
    (r"language_model\.model\.", "model."),
    (r"model\.language_model\.", "model."),
)


def is_native_config(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes one of transformers' own LLaVA classes."""
    return config.get("model_type") in _NATIVE_TYPES and "text_config" in config


def rename_tensor(name: str) -> str:
    """Returns the original format's name of a tensor.

    >>> rename_tensor("multi_modal_projector.linear_2.bias")
    'model.mm_projector.2.bias'
    >>> rename_tensor("language_model.model.norm.weight")
    'model.norm.weight'
    """
    for pattern, replacement in _TENSOR_NAMES:
        if match := re.match(pattern, name):
            return replacement + name[match.end() :]
    return name


def translate_config(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the fields that the original format has for the same model.

    A v1.5 model was trained on padded images, which this format does not record; it is read as
    padded.

    Args:
        config: Content of config.json.
        folder: Where it lies; also the vision tower's folder.

    Raises:
        CheckpointError: the model has something that the original format cannot express.
    """
    layer = config.get("vision_feature_layer", -2)
    strategy = config.get("vision_feature_select_strategy", "default")
    activation = config.get("projector_hidden_act", "gelu")
    bias = config.get("multimodal_projector_bias", True)
    for name, value, expressible in (
        ("vision_feature_layer", layer, isinstance(layer, int)),
        ("vision_feature_select_strategy", strategy, strategy in _SELECT_FEATURES),
        ("projector_hidden_act", activation, activation == "gelu"),
        ("multimodal_projector_bias", bias, bool(bias)),
    ):
        if not expressible:
            raise CheckpointError(
                f"`{name}` is {value!r} in {folder / 'config.json'}: LLaVA has no such model. "
                "Evaluate a checkpoint of the LLaVA family."
            )
    text = dict(config["text_config"])
    fields = text | {
        "model_type": f"llava_{text.get('model_type', 'llama')}",
        "mm_vision_tower": str(folder),
        "mm_hidden_size": config["vision_config"].get("hidden_size", 768),
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": layer,
        "mm_vision_select_feature": _SELECT_FEATURES[strategy],
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "unfreeze_mm_vision_tower": True,
        "vision_config": config["vision_config"],
        "image_aspect_ratio": "pad",
    }
    if config["model_type"] == "llava_next":
        pinpoints = config.get("image_grid_pinpoints") or _DEFAULT_PINPOINTS
        fields |= {
            "image_aspect_ratio": "anyres",
            "mm_patch_merge_type": "spatial_unpad",
            "image_grid_pinpoints": [[width, height] for height, width in pinpoints],
        }
    return fields
