"""Names of models from their paths."""

from __future__ import annotations


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
