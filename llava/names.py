"""Names of models from their paths."""

from __future__ import annotations

import re


def get_model_name_from_path(model_path: str) -> str:
    """Returns the last part of a path or hub id; a training checkpoint keeps its parent's name.

    >>> get_model_name_from_path("liuhaotian/llava-v1.5-7b")
    'llava-v1.5-7b'
    >>> get_model_name_from_path("runs/llava/checkpoint-12/")
    'llava_checkpoint-12'
    """
    parts = model_path.strip("/").split("/")
    if parts[-1].startswith("checkpoint-") and len(parts) > 1:
        return f"{parts[-2]}_{parts[-1]}"
    return parts[-1]


def identity_of(path: str) -> str:
    """Returns the name by which a model is known wherever its folder lies, in lower case.

    >>> identity_of("/data/train/Vicuna-7b-v1.5/")
    'vicuna-7b-v1.5'
    >>> identity_of("hub/models--lmsys--vicuna-7b-v1.5/snapshots/a1b2")
    'vicuna-7b-v1.5'
    """
    parts = [part for part in re.split(r"[\\/]+", path.lower()) if part not in ("", ".")]
    if parts[-2:-1] == ["snapshots"] and len(parts) > 2:
        return parts[-3].rsplit("--", 1)[-1]
    return get_model_name_from_path("/".join(parts))
