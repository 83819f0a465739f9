"""Pictures for the page, small and in full: each once, those that a reader wants to see first."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, zip_longest
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from evals.reading.images import ImageFile, ImageSource
from runners.environment import num_cores
from runners.views.report.shown import TaskReport

MIME_TYPE = "image/webp"
SUFFIX = ".webp"
UNREADABLE = -2
"""In place of the number of a thumbnail: the image cannot be opened."""
LARGEST_PX = 16_383
"""Of a picture in full: larger ones cannot be WebP files."""
_QUALITY, _FULL_QUALITY = 78, 92
_TINY_PX = 64

ImageName = tuple[str, str]
"""Task and key of an image."""


def choose_images(
    tasks: Sequence[TaskReport], limit: int | None = None
) -> dict[ImageName, ImageSource]:
    """Returns at most `limit` distinct images by name, or all of them.

    Those of questions on which the runs differ come first, then of those that went wrong. The
    benchmarks take turns, so that one of them does not push out the others.
    """
    queues = []
    for task in tasks:
        queue: dict[ImageName, ImageSource] = {}
        for row in sorted(task.rows, key=lambda row: row.interest):
            for image in row.images:
                queue.setdefault((task.name, image.key), image)
        queues.append(queue.items())
    turns = chain.from_iterable(zip_longest(*queues))
    chosen = [entry for entry in turns if entry is not None]
    return dict(chosen[:limit])


def make_thumbnails(
    images: Mapping[ImageName, ImageSource], max_px: int
) -> tuple[list[bytes], dict[ImageName, int]]:
    """Returns the distinct thumbnails as WebP files, and the number of each image's.

    The number is `UNREADABLE` for an image that cannot be opened.
    """
    # PIL releases the interpreter while it decodes and encodes.
    with ThreadPoolExecutor(max_workers=num_cores()) as pool:
        encoded = list(pool.map(lambda image: encode(image, max_px), images.values()))
    files = list(dict.fromkeys(content for content in encoded if content is not None))
    numbers: dict[bytes | None, int] = {None: UNREADABLE, **{c: i for i, c in enumerate(files)}}
    return files, {name: numbers[c] for name, c in zip(images, encoded, strict=True)}


def link_in_full(
    images: Mapping[ImageName, ImageSource], folder: Path, *, embeds_all: bool, max_mb: float
) -> dict[ImageName, str]:
    """Returns where each image is had in full, as an address that a page in `folder` may show.

    Args:
        images: The images, those first that the page is to hold rather than others.
        folder: Where the page lies.
        embeds_all: Whether the page holds all of them, rather than those that have no file of
            their own.
        max_mb: How many millions of bytes the page may hold. An image that does not fit is left
            where it lies; one that lies in a table is then not had in full.
    """
    addresses = {}
    left = max_mb * 1_000_000
    for name, image in images.items():
        is_file = isinstance(image, ImageFile)
        content = encode(image, LARGEST_PX) if left > 0 and (embeds_all or not is_file) else None
        if content is not None:
            address = f"data:{MIME_TYPE};base64,{base64.b64encode(content).decode()}"
            left -= len(address)
            if left >= 0:
                addresses[name] = address
                continue
        if is_file and image.exists():
            path = os.path.relpath(image.path.absolute(), folder.absolute())
            addresses[name] = quote(os.fsencode(path))
    return addresses


def encode(source: ImageSource, max_px: int) -> bytes | None:
    """Returns an image as a WebP file of at most that size; None if it cannot be opened."""
    try:
        image = source.open()
    except OSError:  # counted on the page: the run itself may have failed at it
        return None
    buffer = io.BytesIO()
    small = shrink(image, max_px)
    # In full the effort is small: someone waits for it.
    quality, method = (_FULL_QUALITY, 1) if max_px == LARGEST_PX else (_QUALITY, 4)
    # Pictures of a few pixels are shown enlarged, where losses would be seen.
    small.save(buffer, "WEBP", quality=quality, method=method, lossless=max(small.size) <= _TINY_PX)
    return buffer.getvalue()


def shrink(image: Image.Image, max_px: int) -> Image.Image:
    """Returns an image in RGB whose longer side is at most `max_px`; transparent parts white."""
    image.thumbnail((max_px, max_px))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return image.convert("RGB")
