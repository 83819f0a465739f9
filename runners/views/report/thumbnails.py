"""Small pictures for the page: each image once, those that a reader wants to see first."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, zip_longest

from PIL import Image

from evals.reading.images import ImageSource
from runners.environment import num_cores
from runners.views.report.shown import TaskReport

MIME_TYPE = "image/webp"
SUFFIX = ".webp"
UNREADABLE = -2
"""In place of the number of a thumbnail: the image cannot be opened."""
_QUALITY = 78
_TINY_PX = 64

ImageName = tuple[str, str]
"""Task and key of an image."""


def choose_images(tasks: Sequence[TaskReport], limit: int) -> dict[ImageName, ImageSource]:
    """Returns at most `limit` distinct images by name.

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
        encoded = list(pool.map(lambda image: _encode(image, max_px), images.values()))
    files = list(dict.fromkeys(content for content in encoded if content is not None))
    numbers: dict[bytes | None, int] = {None: UNREADABLE, **{c: i for i, c in enumerate(files)}}
    return files, {name: numbers[c] for name, c in zip(images, encoded, strict=True)}


def _encode(source: ImageSource, max_px: int) -> bytes | None:
    try:
        image = source.open()
    except OSError:  # counted on the page: the run itself may have failed at it
        return None
    buffer = io.BytesIO()
    small = shrink(image, max_px)
    # Pictures of a few pixels are shown enlarged, where losses would be seen.
    small.save(buffer, "WEBP", quality=_QUALITY, method=4, lossless=max(small.size) <= _TINY_PX)
    return buffer.getvalue()


def shrink(image: Image.Image, max_px: int) -> Image.Image:
    """Returns an image in RGB whose longer side is at most `max_px`; transparent parts white."""
    image.thumbnail((max_px, max_px))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return image.convert("RGB")
