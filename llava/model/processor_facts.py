"""How images are prepared for a vision tower: the files that say so, and what they may say.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llava.model.locate import read_json_object
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
from llava.model.tower_kinds import Tower

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
}
_SQUASHED = {
    "image_processor_type": matching(
        "(Siglip|LlavaOnevision)ImageProcessor(Fast|Pil)?", "a SigLIP image processor"
    ),
    "do_center_crop": OFF,
}
_PIXELS = ("size", "crop_size")
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


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
    processor, _, _ = read_processor(folder)
    known = (*_PROCESSED, "image_processor_type", "do_center_crop", *_PIXELS)
    return {k: v for k, v in processor.items() if k in known} | (sizes if tower.scales else {})


def processor_files(folder: Path, tower: Tower) -> list[Path]:
    """Returns the files that may say how images are prepared for a tower; none where code does."""
    if not tower.follows_files:
        return []
    return [folder / _PROCESSOR_FILES[1], read_processor(folder)[1]]


def check_processor(folder: Path, config: Mapping[str, Any], tower: Tower) -> None:
    """Checks how images are prepared for a tower, where a file in its folder says so.

    The checkpoint's `config` may have them made square before.

    Raises:
        CheckpointError: it is the processor of another kind, or makes images of another size.
    """
    if not tower.follows_files:
        return
    processor, path, prefix = read_processor(folder)
    side, square = tower.image_size, _square(tower.image_size)
    words = f"{side}, the tower's `image_size`, in height and width"
    if tower.kind.squashes:
        # stated, as the known classes differ in what they take otherwise
        stated = dict.fromkeys(("size", "image_mean", "image_std")) | processor
        rules = {**_PROCESSED, **_SQUASHED, "size": Rule(words, lambda size: size == square)}
        check_fields(stated, rules, path, prefix)
        return
    check_fields(processor, {**_PROCESSED, **_CROPPED}, path, prefix)
    squared = config.get("image_aspect_ratio") not in (None, "square")
    if processor.get("do_center_crop") is False and not squared:
        raise unknown_value(f"{prefix}do_center_crop", "true", False, path)
    # what the file leaves out is of the size that CLIP has at first
    size, crop = (processor.get(name, 224 if side == 224 else None) for name in _PIXELS)
    shortest = size.get("shortest_edge") if isinstance(size, dict) else size
    if not whole().holds(shortest):
        told = 'a whole number or {"shortest_edge": <pixels>}'
        raise unknown_value(f"{prefix}size", told, size, path)
    if crop not in (side, square):
        raise unknown_value(f"{prefix}crop_size", words, crop, path)


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}
