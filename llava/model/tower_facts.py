"""The vision tower of a checkpoint: its folder, and what its JSON files may say.

What decides how images are prepared and seen is read here, before anything is loaded. Imports no
torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    FLAG,
    NULL,
    NUMBER,
    OBJECT,
    OFF,
    POSITIVE,
    Rule,
    check_fields,
    list_of,
    matching,
    one_of,
    unknown_value,
    whole,
)
from llava.model.tower_kinds import (
    CLIP,
    DEFAULT_SCALES,
    KINDS,
    LAYER,
    NAMED_IMAGE_SIZE,
    PART_TYPES,
    SIGLIP,
    SIZES,
    Tower,
    describe_tower,
)
from llava.tiling import read_layout, read_pinpoints

_DEFAULT_TYPES = PART_TYPES | {"llava_onevision": SIGLIP}

_PROCESSED: Mapping[str, Rule] = {
    "do_resize": one_of(True),
    **dict.fromkeys(("do_rescale", "do_normalize"), FLAG),
    "do_convert_rgb": FLAG | NULL,
    "resample": whole(0, 5),
    "rescale_factor": POSITIVE,
    "image_mean": list_of(NUMBER, 3, 3),
    "image_std": list_of(POSITIVE, 3, 3),
}
_CROPPED = {
    "image_processor_type": matching(
        "(CLIP|Llava|LlavaNext)(ImageProcessor(Fast|Pil)?|FeatureExtractor)",
        "a CLIP image processor",
    ),
    "do_center_crop": FLAG,
    "do_pad": FLAG | NULL,
    "size": Rule(
        'a whole number or {"shortest_edge": <pixels>}',
        lambda size: whole().holds(size.get("shortest_edge") if isinstance(size, dict) else size),
    ),
}
_SQUASHED = {
    "image_processor_type": matching(
        "(Siglip|LlavaOnevision)ImageProcessor(Fast|Pil)?", "a SigLIP image processor"
    ),
    "do_center_crop": OFF,
}
_PIXELS = ("size", "crop_size")
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def read_tower(folder: Path, config: Mapping[str, Any]) -> Tower:
    """Returns the tower of a folder as a checkpoint uses it.

    It may be the folder of a checkpoint in one of transformers' formats. What else its config.json
    holds steers nothing. `config` is the checkpoint's, in the original format's terms.

    Raises:
        CheckpointError: it is a tower of an unknown kind, or a field has a value that is not known.
    """
    whole_config, path = read_config(folder), folder / "config.json"
    if "vision_config" not in whole_config:
        _check_tower(whole_config, path)
        return describe_tower(whole_config, config)
    part = vision_part(whole_config, path)
    return describe_tower(part, config, inside=_describes_llava(whole_config))


def _describes_llava(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a language model with a tower, not of the latter or of a CLIP."""
    is_part = one_of(*PART_TYPES).holds(config.get("model_type", "clip"))
    return "vision_config" in config and not is_part


def vision_part(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns the `vision_config` of a configuration, checked and with its defaults.

    Raises:
        CheckpointError: it is a tower of an unknown kind, or a field has a value that is not known.
    """
    check_fields(config, {"vision_config": OBJECT}, path)
    default = _DEFAULT_TYPES.get(str(config.get("model_type")), CLIP)
    part = {"model_type": default, **config["vision_config"]}
    _check_tower(part, path, "vision_config.")
    return {**KINDS[part["model_type"]].defaults, **part}


def _check_tower(part: Mapping[str, Any], path: Path, prefix: str = "") -> None:
    """Checks a tower's fields; without a prefix in its own file, which states all sizes."""
    model_type = part.get("model_type", CLIP)
    if not one_of(*KINDS).holds(model_type):
        raise _unknown_kind(f"{prefix}model_type", model_type, path)
    kind = KINDS[model_type]
    sizes: dict[str, Any] = dict.fromkeys(SIZES) | (dict(kind.defaults) if prefix else {})
    sizes |= part
    check_fields(sizes, {**kind.rules, "quantization_config": NULL}, path, prefix)
    side, width = sizes["image_size"], sizes["hidden_size"]
    if sizes["patch_size"] > side:
        words = f"a whole number from 1 to `image_size`, {side}"
        raise unknown_value(f"{prefix}patch_size", words, sizes["patch_size"], path)
    if width % sizes["num_attention_heads"]:
        words, heads = f"a divisor of `hidden_size`, {width}", sizes["num_attention_heads"]
        raise unknown_value(f"{prefix}num_attention_heads", words, heads, path)


def _unknown_kind(name: str, model_type: object, path: Path) -> CheckpointError:
    known = ", ".join(f"{kind.name} ({model_type})" for model_type, kind in KINDS.items())
    return CheckpointError(
        f"The vision tower is of the kind {model_type!r:.100}, as `{name}` says in {path}, but "
        f"only these can be loaded: {known}."
    )


def _read_tiles(config: Mapping[str, Any], tile_size: int, path: Path) -> dict[str, Any]:
    """The field of tiling sizes, in pixels and of whole tiles; nothing where none are asked for."""
    if not str(config.get("image_aspect_ratio")).startswith("anyres"):
        _check_fixed_tiles(config, tile_size, path)
        return {}
    written = config.get("image_grid_pinpoints")
    try:
        sizes = read_pinpoints(written, tile_size)  # type: ignore[arg-type]
        if any(side % tile_size for size in sizes for side in size):
            raise ValueError("a size is not made of whole tiles")
    except ValueError as error:
        pairs = [[tile_size, 2 * tile_size], [2 * tile_size, tile_size]]
        words = (
            f"widths and heights in multiples of the tower's {tile_size} pixels, such as {pairs}, "
            "or a range of grids, such as (1x1),...,(6x6), because images are tiled"
        )
        raise unknown_value("image_grid_pinpoints", words, written, path) from error
    return {"image_grid_pinpoints": [list(size) for size in sizes]}


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


def is_tower_tuned(config: Mapping[str, Any]) -> bool:
    """Whether a configuration says that the vision tower was trained with the language model.

    LLaVA says so in `unfreeze_mm_vision_tower`, LLaVA-NeXT in a list, `mm_tunable_parts`.

    >>> is_tower_tuned({"mm_tunable_parts": "mm_mlp_adapter,mm_vision_tower"})
    True
    """
    parts = tuned_parts(config.get("mm_tunable_parts") or "")
    return bool(config.get("unfreeze_mm_vision_tower")) or "mm_vision_tower" in parts


def tuned_parts(value: str | Iterable[object]) -> list[str]:
    """Returns the parts of a model that LLaVA-NeXT's training names, in text or a list."""
    named = value.split(",") if isinstance(value, str) else value
    return [str(part).strip() for part in named]


def read_image_facts(
    config: Mapping[str, Any], config_path: Path, tower_dir: Path, tower: Tower
) -> dict[str, Any]:
    """What is known of images once the tower is: if they are padded, their size, sizes of tilings.

    Raises:
        CheckpointError: the tower does not go with the configuration or its image processor.
    """
    ratio = _check_processor(tower_dir, config, tower)
    width, known = tower.hidden_size, config.get("mm_hidden_size")
    if width != known:
        raise CheckpointError(
            f"The vision tower in {tower_dir} has features of width {width}, but "
            f"`mm_hidden_size` is {known} in {config_path}. Use the tower that the checkpoint was "
            "trained with."
        )
    named = {NAMED_IMAGE_SIZE: tower.image_size} if tower.kind.is_sized_by_name else {}
    tiles = _read_tiles(config, tower.image_size, config_path)
    return {"image_aspect_ratio": ratio, **named, **tiles}


def find_tower(
    config: Mapping[str, Any], config_path: Path, folder: Path, base: Path | None, *, native: bool
) -> tuple[Path, Tower]:
    """Returns the folder of the vision tower that a checkpoint names, and the tower.

    A `native` configuration was translated, and describes the tower itself.

    Raises:
        CheckpointError: no tower is named, it is not there or of an unknown kind, or it lacks the
            layer or feature asked for.
    """
    if native:
        tower_dir = Path(config["mm_vision_tower"])
    else:
        name = config.get("mm_vision_tower") or config.get("vision_tower")
        if not name:
            raise CheckpointError(
                f"`mm_vision_tower` is missing in {config_path}: without it the model "
                "cannot see. Take the config.json that was saved with the checkpoint."
            )
        tower_dir = resolve_vision_tower(name, folder, base)
        own = read_config(tower_dir)
        if _describes_llava(own):
            raise _unknown_kind("model_type", own["model_type"], tower_dir / "config.json")
    tower = read_tower(tower_dir, {**config, NAMED_IMAGE_SIZE: None})  # the name is known here
    if not native and not is_tower_tuned(config):
        _check_layers(tower_dir, tower)
    _check_selection(tower, tower_dir, config, config_path, native=native)
    if tower.scales:
        _check_scales(tower, config, config_path)
    return tower_dir, tower


def _check_selection(
    tower: Tower, tower_dir: Path, config: Mapping[str, Any], config_path: Path, *, native: bool
) -> None:
    """Checks that a tower has the layer and the features that are asked for."""
    num_layers, layer = tower.config["num_hidden_layers"], tower.select_layer
    # the embeddings count as the output of a layer before the first
    known = whole(-num_layers - 1, num_layers)
    if not known.holds(layer):
        key = "vision_feature_layer" if native else "mm_vision_select_layer"
        words = f"{known.words}, as the vision tower in {tower_dir} has {num_layers} layers"
        raise unknown_value(key, words, layer, config_path)
    strategy = "vision_feature_select_strategy"
    is_full = config.get("mm_vision_select_feature") == "cls_patch"
    if native and not tower.kind.has_class_token and not is_full:
        words = f"full, as a {tower.kind.name} tower has no class token to leave out"
        raise unknown_value(strategy, words, "default", config_path)
    # tiles that are put together to a map bring no class token of their own
    spatial = config.get("mm_patch_merge_type", "flat") != "flat"
    ratio = config.get("image_aspect_ratio")
    tiled = ratio not in (None, "square", "pad")
    if spatial and tiled and tower.select_feature == "cls_patch":
        if native:
            words = "default, because images are tiled"
            raise unknown_value(strategy, words, "full", config_path)
        words = f"patch, because `image_aspect_ratio` is {ratio}"
        raise unknown_value("mm_vision_select_feature", words, "cls_patch", config_path)


def _check_scales(tower: Tower, config: Mapping[str, Any], path: Path) -> None:
    """Checks that a tower can look at images at several scales as a checkpoint asks for."""
    side, scales = tower.image_size, tower.scales
    if tower.model_type != CLIP:
        words = f"false, as the vision tower is {tower.kind.name}, not CLIP"
        raise unknown_value("s2", words, True, path)
    if scales[0] != side or any(scale % side for scale in scales):
        words = f"multiples of {side}, the tower's `image_size`, and {side} among them"
        raise unknown_value("s2_scales", words, config.get("s2_scales") or DEFAULT_SCALES, path)
    if tower.select_feature != "patch":
        words = "patch, because `s2` is true"
        raise unknown_value("mm_vision_select_feature", words, tower.select_feature, path)
    if (ratio := config.get("image_aspect_ratio")) not in (None, "square", "pad"):
        words = "pad or square, because `s2` is true"
        raise unknown_value("image_aspect_ratio", words, ratio, path)


def _check_layers(folder: Path, tower: Tower) -> None:
    """Checks that a tower has as many layers as its config.json says: they are counted from both.

    Layers that the file knows nothing of would be left out without a word.
    """
    matches = map(LAYER.match, stored_names(find_weight_files(folder)))
    found = {int(match[1]) for match in matches if match}
    stated = tower.config["num_hidden_layers"] + tower.kind.drops_last_layer
    if found and max(found) + 1 != stated:
        words = f"{max(found) + 1}, as the weights beside it have so many layers"
        raise unknown_value("num_hidden_layers", words, stated, folder / "config.json")


def _read_processor(folder: Path) -> tuple[dict[str, Any], Path, str]:
    """How images are prepared for a tower, the file that says so, and where in it.

    Today's processor_config.json counts where it says so, and preprocessor_config.json elsewhere.
    """
    newer, older = (folder / name for name in _PROCESSOR_FILES)
    remedy = "Download the vision tower again."
    if _describes_llava(read_config(folder)):
        remedy = "Copy it from the model that the checkpoint was trained from."
    if newer.is_file():
        inner = read_json_object(newer, remedy).get("image_processor")
        check_fields({"image_processor": inner}, {"image_processor": OBJECT | NULL}, newer)
        if inner is not None:
            return inner, newer, "image_processor."
    return read_json_object(older, remedy), older, ""


def processor_fields(folder: Path, tower: Tower) -> dict[str, Any]:
    """Returns the options of the image processor that goes with a tower, and no others.

    Raises:
        CheckpointError: the folder has no file that says so, or it cannot be read.
    """
    side = tower.pixel_size
    sizes: dict[str, Any] = {"size": _square(side)}
    if not tower.kind.squashes:
        sizes = {"size": {"shortest_edge": side}, "crop_size": _square(side)}
    if tower.kind.normalization is not None and not tower.follows_files:
        mean, std = tower.kind.normalization
        return sizes | {"image_mean": mean, "image_std": std}
    processor, _, _ = _read_processor(folder)
    known = (*_PROCESSED, "image_processor_type", "do_center_crop", *_PIXELS)
    return {k: v for k, v in processor.items() if k in known} | (sizes if tower.scales else {})


def processor_files(folder: Path, tower: Tower) -> list[Path]:
    """Returns the files that may say how images are prepared for a tower; none where code does."""
    if not tower.follows_files:
        return []
    return [folder / _PROCESSOR_FILES[1], _read_processor(folder)[1]]


def _check_processor(folder: Path, config: Mapping[str, Any], tower: Tower) -> str | None:
    """`image_aspect_ratio`; checks that images are prepared for a tower as it takes them."""
    ratio: str | None = config.get("image_aspect_ratio")
    if not tower.follows_files:
        return ratio
    processor, path, prefix = _read_processor(folder)
    side, square = tower.image_size, _square(tower.image_size)
    words = f"{side}, the tower's `image_size`, in height and width"
    if tower.kind.squashes:
        # stated, as the known classes differ in what they take otherwise
        stated: dict[str, Any] = dict.fromkeys(("size", "image_mean", "image_std"))
        own = {**_SQUASHED, "size": Rule(words, lambda size: size == square)}
    else:
        # what the file leaves out is of the size that CLIP has at first
        stated = dict.fromkeys(_PIXELS, 224 if side == 224 else None)
        own = {**_CROPPED, "crop_size": Rule(words, lambda crop: crop in (side, square))}
        if "vision_config" in config and ratio is None:  # padded, as LLaVA trains, if none says so
            ratio = "square" if processor.get("do_pad") is False else "pad"
        elif "vision_config" in config and ratio in ("pad", "square"):
            words = f"left out or {str(ratio == 'pad').lower()}, as `image_aspect_ratio` is {ratio}"
            own["do_pad"] = Rule(words, one_of(ratio == "pad", None).holds)
        if ratio in (None, "square"):
            own["do_center_crop"] = one_of(True)
    check_fields(stated | processor, {**_PROCESSED, **own}, path, prefix)
    return ratio


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}
