"""The sizes that an image processor has, by one name for all kinds. Imports no torch.

CLIP's resizes the shorter side and crops a square; SigLIP's resizes to a square.
"""

from __future__ import annotations

from typing import Any


def resize_side(processor: Any) -> int:
    """Returns the pixels to which a processor resizes the shorter side, or both."""
    size = processor.size
    return int(size["shortest_edge"] if "shortest_edge" in size else size["height"])


def crop_side(processor: Any) -> int:
    """Returns the side in pixels of the square that a processor makes of an image."""
    return resize_side(processor) if is_squashing(processor) else int(processor.crop_size["height"])


def is_squashing(processor: Any) -> bool:
    """Whether a processor resizes to a square, whatever the image's proportions are."""
    return "shortest_edge" not in processor.size
