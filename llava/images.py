"""Images as the vision tower sees them: square, padded to a square, or cut into tiles.

Sizes are (width, height) in pixels, as PIL has them. Legend: T tiles of an image, H and W the
tower's height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from llava.anyres import (
    cut_tiles,
    divide_to_patches,
    resize_and_center_crop,
    resize_and_pad_image,
    select_best_resolution,
)
from llava.tiling import Layout, Pinpoints, read_layout, read_pinpoints

_HOLDS_RGB_COLOR = frozenset({"RGB", "RGBA", "P"})
_LARGE_SQUARE = 32_000_000
"""Squares of more pixels are not held whole: an image of 1 x 20,000 would take 6 GB."""

_STRIP_HEIGHT = 256


def resize_side(processor: Any) -> int:
    """Returns the pixels to which a processor resizes the shorter side (CLIP), or both (SigLIP)."""
    size = processor.size
    return int(size["shortest_edge"] if "shortest_edge" in size else size["height"])


def crop_side(processor: Any) -> int:
    """Returns the side in pixels of the square that a processor makes of an image."""
    return resize_side(processor) if is_squashing(processor) else int(processor.crop_size["height"])


def is_squashing(processor: Any) -> bool:
    """Whether a processor resizes to a square, whatever the image's proportions are."""
    return "shortest_edge" not in processor.size


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


def cut_views(image: Image.Image, processor: Any, layout: Layout) -> list[Image.Image]:
    """Returns the views of an image: the whole of it squashed to a square, and its tiles.

    Of `crop_split` the tiles alone.
    """
    side = resize_side(processor)
    if layout.mode == "crop_split":
        return cut_tiles(resize_and_center_crop(image, layout.cut_side), layout.split_side)
    if layout.mode == "highres":
        square = expand2square(image, _background(processor))
        square = square.resize((layout.cut_side, layout.cut_side))
        return [image.resize((side, side)), *cut_tiles(square, side)]
    best = select_best_resolution(image.size, read_pinpoints(layout.pinpoints or (), side))
    tiles = divide_to_patches(resize_and_pad_image(image, best), crop_side(processor))
    return [image.resize((side, side)), *tiles]


def process_anyres_image(
    image: Image.Image, processor: Any, grid_pinpoints: Pinpoints
) -> torch.Tensor:
    """Returns the views of an image, see `cut_views`: (1 + T, 3, H, W) float32, normalized."""
    return _tiled_pixels(image, processor, Layout(mode="anyres", pinpoints=grid_pinpoints))


def process_images(
    images: Sequence[Image.Image], image_processor: Any, model_cfg: Any
) -> torch.Tensor | list[torch.Tensor]:
    """Returns the pixel values of images, prepared as the checkpoint's config says.

    Args:
        images: In RGB, or as opened where the evaluation script of the benchmark did not convert.
        image_processor: Of the vision tower.
        model_cfg: What `read_layout` reads: `image_aspect_ratio` and what it needs.

    Returns:
        (B, 3, H, W) float32, normalized for the tower; (B, T, 3, H, W) where images are tiled; a
        list where they have different numbers of tiles.

    Raises:
        ValueError: an image is so narrow that its center crop would not fit into memory, or
            a field of `model_cfg` has an unknown value.
    """
    layout = read_layout(vars(model_cfg))
    if layout.is_tiled:
        pixels = [_tiled_pixels(image, image_processor, layout) for image in images]
    elif layout.mode == "pad":
        pixels = [_padded_pixels(image, image_processor) for image in images]
    else:
        pixels = [_cropped_pixels(image, image_processor) for image in images]
    if all(values.shape == pixels[0].shape for values in pixels):
        return torch.stack(pixels)
    return pixels


def _tiled_pixels(image: Image.Image, processor: Any, layout: Layout) -> torch.Tensor:
    return torch.stack([_pixels(view, processor) for view in cut_views(image, processor, layout)])


def _background(processor: Any) -> tuple[int, int, int]:
    """The processor's mean, as a color."""
    red, green, blue = (int(mean * 255) for mean in processor.image_mean)
    return red, green, blue


def _padded_pixels(image: Image.Image, processor: Any) -> torch.Tensor:
    """The padded square through the processor: (3, H, W) float32."""
    side, background_color = resize_side(processor), _background(processor)
    if max(image.size) ** 2 > _LARGE_SQUARE and image.mode != "P":
        resample = Image.Resampling(processor.resample)
        square = shrink_to_square(to_rgb(image), background_color, side, resample)
    else:
        square = expand2square(image, background_color)
    return _pixels(square, processor)


def _cropped_pixels(image: Image.Image, processor: Any) -> torch.Tensor:
    """An image through the processor, if it may be brought to the shorter side of that."""
    if is_squashing(processor):
        return _pixels(image, processor)
    num_pixels = resize_side(processor) ** 2 * max(image.size) // min(image.size)
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
