"""The vision tower of a checkpoint: its folder, and what its JSON files may say.

What decides how images are seen is read here, before anything is loaded. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.model.locate import (
    find_weight_files,
    read_config,
    read_json_object,
    resolve_vision_tower,
)
from llava.model.quantized_weights import stored_names
from llava.model.rules import (
    ACTIVATION,
    EPSILON,
    FLAG,
    NULL,
    NUM_LAYERS,
    NUMBER,
    OBJECT,
    POSITIVE,
    Rule,
    check_fields,
    list_of,
    one_of,
    unknown_value,
    whole,
)
from llava.tiling import read_layout, read_pinpoints

_PROCESSOR = re.compile(r"(CLIP|Llava|LlavaNext)(ImageProcessor(Fast|Pil)?|FeatureExtractor)")
_TOWER: Mapping[str, Rule] = {
    "model_type": one_of("clip_vision_model"),
    "hidden_size": whole(),
    "intermediate_size": whole(),
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": whole(),
    "num_channels": one_of(3),
    "image_size": whole(),
    "patch_size": whole(),
    "hidden_act": ACTIVATION,
    "layer_norm_eps": EPSILON,
    "quantization_config": NULL,
}
_TOWER_FIELDS = _TOWER.keys() - {"model_type", "quantization_config"}
_TOWER_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("image_size", "patch_size"),
)
"""What a tower's own file states; inside another one, what equals CLIP's sizes is left out."""
_PROCESSED: Mapping[str, Rule] = {
    "image_processor_type": Rule(
        "a CLIP image processor",
        lambda value: isinstance(value, str) and bool(_PROCESSOR.fullmatch(value)),
    ),
    "do_resize": one_of(True),
    "do_center_crop": FLAG,
    "do_rescale": FLAG,
    "do_normalize": FLAG,
    "do_convert_rgb": FLAG | NULL,
    "resample": whole(0, 5),
    "rescale_factor": POSITIVE,
    "image_mean": list_of(NUMBER, 3, 3),
    "image_std": list_of(POSITIVE, 3, 3),
}
_PIXELS = ("size", "crop_size")
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def check_tower(tower: Mapping[str, Any], path: Path, prefix: str = "") -> None:
    """Checks the vision part of a tower's configuration.

    Raises:
        CheckpointError: it is no CLIP, or a field has a value that is not known.
    """
    check_fields(tower, _TOWER, path, prefix)
    for name in () if prefix else _TOWER_SIZES:
        if name not in tower:
            raise unknown_value(name, _TOWER[name].words, None, path)
    side, patch = tower.get("image_size", 224), tower.get("patch_size", 32)
    width, heads = tower.get("hidden_size", 768), tower.get("num_attention_heads", 12)
    if patch > side:
        words = f"a whole number from 1 to `image_size`, {side}"
        raise unknown_value(f"{prefix}patch_size", words, patch, path)
    if width % heads:
        words = f"a divisor of `hidden_size`, {width}"
        raise unknown_value(f"{prefix}num_attention_heads", words, heads, path)


def has_class_token(tower: Mapping[str, Any]) -> bool:
    """Whether a tower puts a class token before the patches of an image."""
    return not str(tower.get("model_type")).startswith("siglip")


def tower_fields(folder: Path) -> dict[str, Any]:
    """Returns the fields that make a tower: what else its config.json holds steers nothing."""
    config = read_config(folder)
    tower = config.get("vision_config", config)
    return {name: value for name, value in tower.items() if name in _TOWER_FIELDS}


def processor_fields(folder: Path) -> dict[str, Any]:
    """Returns the fields that say how images are prepared for a tower, and no others."""
    processor, _, _ = read_processor(folder)
    known = (*_PROCESSED, *_PIXELS)
    return {name: value for name, value in processor.items() if name in known}


def read_processor(folder: Path) -> tuple[dict[str, Any], Path, str]:
    """Returns how images are prepared for a tower, the file that says so, and where in it.

    Today's processor_config.json counts where it says so, and preprocessor_config.json elsewhere.

    Raises:
        CheckpointError: neither says so, or a file cannot be read.
    """
    newer, older = (folder / name for name in _PROCESSOR_FILES)
    remedy = "Download the vision tower again."
    if newer.is_file():
        inner = read_json_object(newer, remedy).get("image_processor")
        check_fields({"image_processor": inner}, {"image_processor": OBJECT | NULL}, newer)
        if inner is not None:
            return inner, newer, "image_processor."
    return read_json_object(older, remedy), older, ""


def check_processor(folder: Path, config: Mapping[str, Any], side: int) -> None:
    """Checks how images are prepared for a tower.

    Args:
        folder: The tower's.
        config: The checkpoint's, which may have images made square before.
        side: Of an image that the tower takes, in pixels.

    Raises:
        CheckpointError: it is no CLIP's, or makes images of another size.
    """
    processor, path, prefix = read_processor(folder)
    check_fields(processor, _PROCESSED, path, prefix)
    squared = config.get("image_aspect_ratio") not in (None, "square")
    if processor.get("do_center_crop") is False and not squared:
        raise unknown_value(f"{prefix}do_center_crop", "true", False, path)
    # what the file leaves out is of the size that CLIP has at first
    size, crop = (processor.get(name, 224 if side == 224 else None) for name in _PIXELS)
    shortest = size.get("shortest_edge") if isinstance(size, dict) else size
    if not whole().holds(shortest):
        words = 'a whole number or {"shortest_edge": <pixels>}'
        raise unknown_value(f"{prefix}size", words, size, path)
    if crop not in (side, {"height": side, "width": side}):
        words = f"{side}, the tower's `image_size`, in height and width"
        raise unknown_value(f"{prefix}crop_size", words, crop, path)


def read_tiles(config: Mapping[str, Any], tile_size: int, path: Path) -> list[list[int]] | None:
    """Returns the tiling sizes of a configuration in pixels; None where there are none.

    Raises:
        CheckpointError: they are missing, unreadable or not made of whole tiles.
    """
    if not str(config.get("image_aspect_ratio")).startswith("anyres"):
        _check_fixed_tiles(config, tile_size, path)
        return None
    name, written = "image_grid_pinpoints", config.get("image_grid_pinpoints")
    try:
        sizes = read_pinpoints(written, tile_size)  # type: ignore[arg-type]
    except ValueError as error:
        raise unknown_value(name, _pinpoints_in_words(tile_size), written, path) from error
    if any(width % tile_size or height % tile_size for width, height in sizes):
        raise unknown_value(name, _pinpoints_in_words(tile_size), written, path)
    return [list(size) for size in sizes]


def _check_fixed_tiles(config: Mapping[str, Any], tile_size: int, path: Path) -> None:
    """Checks tiles whose number does not depend on the image; read as a map they must be four."""
    try:
        layout = read_layout(config)
        num_views = layout.num_views(tile_size)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be followed: {error}") from error
    if layout.is_spatial and num_views not in (1, 5):
        words = f"flat, because {layout.mode} cuts images into {num_views} views"
        raise unknown_value("mm_patch_merge_type", words, config["mm_patch_merge_type"], path)


def _pinpoints_in_words(tile_size: int) -> str:
    pairs = [[tile_size, 2 * tile_size], [2 * tile_size, tile_size]]
    return (
        f"widths and heights in multiples of the tower's {tile_size} pixels, such as {pairs}, or a "
        "range of grids, such as (1x1),...,(6x6), because images are tiled"
    )


_CLIP_NUM_LAYERS = 12
"""Of a CLIP vision model whose config.json names no number."""
_TOWER_LAYER = re.compile(r"(?:vision_model\.)?encoder\.layers\.(\d+)\.")


def is_tower_tuned(config: Mapping[str, Any]) -> bool:
    """Whether a configuration says that the vision tower was trained with the language model.

    LLaVA says so in `unfreeze_mm_vision_tower`, LLaVA-NeXT in a list, `mm_tunable_parts`.

    >>> is_tower_tuned({"mm_tunable_parts": "mm_mlp_adapter,mm_vision_tower"})
    True
    """
    parts = config.get("mm_tunable_parts") or ""
    named = parts.split(",") if isinstance(parts, str) else parts
    return bool(config.get("unfreeze_mm_vision_tower")) or (
        "mm_vision_tower" in [str(part).strip() for part in named]
    )


def read_image_facts(
    config: Mapping[str, Any], config_path: Path, tower_dir: Path, tower: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of images once the tower is: the tiling sizes in pixels."""
    side = tower.get("image_size", 224)
    check_processor(tower_dir, config, side)
    width, known = tower.get("hidden_size", 768), config.get("mm_hidden_size")
    if width != known:
        raise CheckpointError(
            f"The vision tower in {tower_dir} has features of width {width}, but "
            f"`mm_hidden_size` is {known} in {config_path}. Use the tower that the checkpoint was "
            "trained with."
        )
    sizes = read_tiles(config, side, config_path)
    return {} if sizes is None else {"image_grid_pinpoints": sizes}


def find_tower(
    config: Mapping[str, Any], config_path: Path, folder: Path, base: Path | None, *, native: bool
) -> tuple[Path, Mapping[str, Any]]:
    """Returns folder and configuration of the vision tower that a checkpoint names.

    Args:
        config: The checkpoint's, from `read_facts`.
        config_path: Its file.
        folder: The checkpoint's.
        base: The folder of its base, if it has one.
        native: Whether the configuration was translated, so that it describes the tower itself.

    Raises:
        CheckpointError: no tower is named, it is not there, or it lacks the layer asked for.
    """
    key = "vision_feature_layer"
    if native:
        tower_dir, tower_config = Path(config["mm_vision_tower"]), config["vision_config"]
    else:
        tower = config.get("mm_vision_tower") or config.get("vision_tower")
        if not tower:
            raise CheckpointError(
                f"`mm_vision_tower` is missing in {config_path}: without it the model "
                "cannot see. Take the config.json that was saved with the checkpoint."
            )
        tower_dir, key = resolve_vision_tower(tower, folder, base), "mm_vision_select_layer"
        tower_config = _tower_config(tower_dir)
        if not is_tower_tuned(config):
            _check_layers(tower_dir, tower_config)
    num_layers = int(tower_config.get("num_hidden_layers") or _CLIP_NUM_LAYERS)
    layer = config.get("mm_vision_select_layer")
    # the embeddings count as the output of a layer before the first
    if type(layer) is not int or not -num_layers - 1 <= layer <= num_layers:
        raise CheckpointError(
            f"`{key}` must be a whole number from {-num_layers - 1} to {num_layers}, as the vision "
            f"tower in {tower_dir} has {num_layers} layers, but is {layer!r} in {config_path}. "
            "Take the config.json and the tower that belong to the checkpoint."
        )
    return tower_dir, tower_config


def _tower_config(folder: Path) -> dict[str, Any]:
    """The vision part of a tower's config.json, which CLIP keeps beside a text part."""
    config, path = read_config(folder), folder / "config.json"
    if "vision_config" not in config:
        check_tower(config, path)
        return config
    check_fields(config, {"model_type": one_of("clip"), "vision_config": OBJECT}, path)
    check_tower(config["vision_config"], path, "vision_config.")
    return dict(config["vision_config"])


def _check_layers(folder: Path, config: Mapping[str, Any]) -> None:
    """Checks that a tower has as many layers as its config.json says: they are counted from both.

    Layers that the file knows nothing of would be left out without a word.
    """
    found = {
        int(match[1])
        for name in stored_names(find_weight_files(folder))
        if (match := _TOWER_LAYER.match(name))
    }
    stated = config.get("num_hidden_layers", _CLIP_NUM_LAYERS)
    if found and max(found) + 1 != stated:
        words = f"{max(found) + 1}, as the weights beside it have so many layers"
        raise unknown_value("num_hidden_layers", words, stated, folder / "config.json")
