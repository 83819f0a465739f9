"""What an image processor makes of an image, whichever tower it belongs to. Imports no torch."""

from __future__ import annotations

from typing import Any


def resize_side(processor: Any) -> int:
    """Returns the side in pixels to which a square image is resized."""
    size = processor.size
    return int(size.get("shortest_edge") or size["height"])


def crop_side(processor: Any) -> int:
    """Returns the side in pixels of what the tower sees."""
    crop = getattr(processor, "crop_size", None)
    return int(crop["height"]) if crop else resize_side(processor)


def crops(processor: Any) -> bool:
    """Whether the middle of an image is cut out; else the whole of it is squashed to a square."""
    return bool(getattr(processor, "do_center_crop", False))
