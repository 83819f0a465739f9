"""The identity of an image by what is seen on it; imports no torch."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def hash_image(image: Image) -> str:
    """Returns the sha256 (hex) of an image's mode, size and pixels, whatever file it came from."""
    header = f"{image.mode} {image.size[0]}x{image.size[1]} ".encode()
    return hashlib.sha256(header + image.tobytes()).hexdigest()
