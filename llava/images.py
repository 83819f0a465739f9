"""Images as the vision tower sees them: square, padded to a square, or cut into tiles.

Sizes are (width, height) in pixels, as PIL has them. Legend: T tiles of an image, H and W the
tower's height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from llava.anyres import cut_views
from llava.processors import resize_side
from llava.tiling import Pinpoints, check_layout

_HOLDS_RGB_COLOR = frozenset({"RGB", "RGBA", "P"})
_LARGE_SQUARE = 32_000_000
"""Squares of more pixels are not held whole: an image of 1 x 20,000 would take 6 GB."""

_STRIP_HEIGHT = 256


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns the image in mode RGB; alpha and palette transparency are dropped, not blended."""
    if image.mode != "RGB":
        image = image.convert("RGB")
    if "transparency" in image.info:
        image = image.copy()
        image.info.pop("transparency")
    return image


def expand2square(image: Image.Image, background_color: tuple[int, int, int]) -> Image.Image:
    """Returns the image centered on a square of its longer side.

    A palette image keeps its mode, as in the reference. Modes that cannot hold an RGB color (grey,
    CMYK, 16 bit), on which the reference stops, are converted to RGB first.
    """
    width, height = image.size
    if width == height:
        return image
    if image.mode not in _HOLDS_RGB_COLOR:
        image = image.convert("RGB")
    side = max(width, height)
    square = Image.new(image.mode, (side, side), background_color)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def shrink_to_square(
    image: Image.Image,
    background_color: tuple[int, int, int],
    side: int,
    resample: Image.Resampling,
) -> Image.Image:
    """Returns what resizing the padded square of an image to `side` gives, bit for bit.

    PIL resizes rows first, then columns; so the rows of the square can be made in strips.
    """
    width, height = image.size
    full = max(image.size)
    left, top = (full - width) // 2, (full - height) // 2
    narrow = Image.new("RGB", (side, full))
    for start in range(0, full, _STRIP_HEIGHT):
        strip = Image.new("RGB", (full, min(_STRIP_HEIGHT, full - start)), background_color)
        strip.paste(image, (left, top - start))
        narrow.paste(strip.resize((side, strip.height), resample), (0, start))
    return narrow.resize((side, side), resample)


def process_anyres_image(
    image: Image.Image, processor: Any, grid_pinpoints: Pinpoints
) -> torch.Tensor:
    """Returns the views of an image, see `cut_views`: (1 + T, 3, H, W) float32, CLIP-normalized."""
    views = cut_views(image, processor, grid_pinpoints)
    return torch.stack([_pixels(view, processor) for view in views])


def process_images(
    images: Sequence[Image.Image], image_processor: Any, model_cfg: Any
) -> torch.Tensor | list[torch.Tensor]:
    """Returns the pixel values of images, prepared as the checkpoint's config says.

    Args:
        images: In RGB, or as opened where the evaluation script of the benchmark did not convert.
        image_processor: The CLIP image processor of the vision tower.
        model_cfg: May have `image_aspect_ratio` (`pad`, `anyres`, or `square` for a center crop, as
            without it), and for `anyres` `image_grid_pinpoints`.

    Returns:
        (B, 3, H, W) float32, CLIP-normalized; (B, 1 + T, 3, H, W) for `anyres`; a list where the
        images have different numbers of tiles.

    Raises:
        ValueError: an image is so narrow that its center crop would not fit into memory, or
            a field of `model_cfg` has an unknown value.
    """
    check_layout(model_cfg)
    aspect_ratio = getattr(model_cfg, "image_aspect_ratio", None)
    if aspect_ratio == "pad":
        red, green, blue = (int(mean * 255) for mean in image_processor.image_mean)
        pixels = [_padded_pixels(image, (red, green, blue), image_processor) for image in images]
    elif aspect_ratio == "anyres":
        pinpoints = model_cfg.image_grid_pinpoints
        pixels = [process_anyres_image(image, image_processor, pinpoints) for image in images]
    else:
        pixels = [_cropped_pixels(image, image_processor) for image in images]
    if all(values.shape == pixels[0].shape for values in pixels):
        return torch.stack(pixels)
    return pixels


def _padded_pixels(
    image: Image.Image, background_color: tuple[int, int, int], processor: Any
) -> torch.Tensor:
    """The padded square through the processor: (3, H, W) float32."""
    side = resize_side(processor)
    if max(image.size) ** 2 > _LARGE_SQUARE and image.mode != "P":
        resample = Image.Resampling(processor.resample)
        square = shrink_to_square(to_rgb(image), background_color, side, resample)
    else:
        square = expand2square(image, background_color)
    return _pixels(square, processor)


def _cropped_pixels(image: Image.Image, processor: Any) -> torch.Tensor:
    """The center crop that the processor makes: (3, H, W) float32."""
    side = resize_side(processor)
    num_pixels = side * side * max(image.size) // min(image.size)
    largest = 2 * (Image.MAX_IMAGE_PIXELS or num_pixels)  # as of images that PIL does not open
    if num_pixels > largest:
        raise ValueError(
            f"An image of {image.width} x {image.height} pixels would be enlarged to "
            f"{num_pixels:,} before it is cropped, which is more than {largest:,}."
        )
    return _pixels(image, processor)


def _pixels(image: Image.Image, processor: Any) -> torch.Tensor:
    """One view through the processor: (3, H, W) float32."""
    return processor.preprocess(to_rgb(image), return_tensors="pt")["pixel_values"][0]
