"""Images as the vision tower sees them: square, padded to a square, or cut into tiles.

Sizes are (width, height) in pixels, as PIL has them. Legend: T tiles of an image, H and W the
tower's height and width.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

_HOLDS_RGB_COLOR = frozenset({"RGB", "RGBA", "P"})
_LARGE_SQUARE = 32_000_000
"""Squares of more pixels are not held whole: an image of 1 x 20,000 would take 6 GB."""

_STRIP_HEIGHT = 256

Size = tuple[int, int]
Pinpoints = str | Sequence[Sequence[int]]


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


def select_best_resolution(original_size: Size, possible_resolutions: Sequence[Size]) -> Size:
    """Returns the resolution that keeps most pixels of the original, then wastes the fewest.

    Raises:
        ValueError: `possible_resolutions` is empty.
    """
    width, height = original_size

    def fit(resolution: Size) -> tuple[int, int]:
        scale = min(resolution[0] / width, resolution[1] / height)
        pixels = int(width * scale) * int(height * scale)
        effective = min(pixels, width * height)
        return effective, effective - resolution[0] * resolution[1]

    if not possible_resolutions:
        raise ValueError(
            "`possible_resolutions` must hold at least one size, but is empty. "
            "Check `image_grid_pinpoints` in the checkpoint's config.json."
        )
    return max(possible_resolutions, key=fit)


def resize_and_pad_image(image: Image.Image, target_resolution: Size) -> Image.Image:
    """Returns the image scaled to fit the target and centered on black."""
    width, height = image.size
    target_width, target_height = target_resolution
    scale_width, scale_height = target_width / width, target_height / height
    if scale_width < scale_height:
        new_size = target_width, min(math.ceil(height * scale_width), target_height)
    else:
        new_size = min(math.ceil(width * scale_height), target_width), target_height
    padded = Image.new("RGB", target_resolution, (0, 0, 0))
    corner = (target_width - new_size[0]) // 2, (target_height - new_size[1]) // 2
    padded.paste(image.resize(new_size), corner)
    return padded


def read_pinpoints(grid_pinpoints: Pinpoints) -> list[Size]:
    """Returns the tiling sizes of a config, which may hold them as text."""
    sizes = ast.literal_eval(grid_pinpoints) if isinstance(grid_pinpoints, str) else grid_pinpoints
    return [(int(width), int(height)) for width, height in sizes]


def get_anyres_image_grid_shape(
    image_size: Size, grid_pinpoints: Pinpoints, patch_size: int
) -> tuple[int, int]:
    """Returns how many tiles of side `patch_size` an image gets, in width and in height."""
    width, height = select_best_resolution(image_size, read_pinpoints(grid_pinpoints))
    return width // patch_size, height // patch_size


def divide_to_patches(image: Image.Image, patch_size: int) -> list[Image.Image]:
    """Returns the square tiles of an image, row by row."""
    width, height = image.size
    return [
        image.crop((left, top, left + patch_size, top + patch_size))
        for top in range(0, height, patch_size)
        for left in range(0, width, patch_size)
    ]


def process_anyres_image(
    image: Image.Image, processor: Any, grid_pinpoints: Pinpoints
) -> torch.Tensor:
    """Returns the base view, the whole image squashed to a square, and the tiles of an image.

    They are (1 + T, 3, H, W) float32, CLIP-normalized.
    """
    best = select_best_resolution(image.size, read_pinpoints(grid_pinpoints))
    tiles = divide_to_patches(resize_and_pad_image(image, best), processor.crop_size["height"])
    side = processor.size["shortest_edge"]
    views = [image.resize((side, side)), *tiles]
    return torch.stack([_pixels(view, processor) for view in views])


def process_images(
    images: Sequence[Image.Image], image_processor: Any, model_cfg: Any
) -> torch.Tensor | list[torch.Tensor]:
    """Returns the pixel values of images, prepared as the checkpoint's config says.

    Args:
        images: In RGB, or as opened where the evaluation script of the benchmark did not convert.
        image_processor: The CLIP image processor of the vision tower.
        model_cfg: Has `image_aspect_ratio` (`pad`, `anyres` or anything else for a center crop) and
            for `anyres` `image_grid_pinpoints`.

    Returns:
        (B, 3, H, W) float32, CLIP-normalized; (B, 1 + T, 3, H, W) for `anyres`; a list where the
        images have different numbers of tiles.

    Raises:
        ValueError: an image is so narrow that its center crop would not fit into memory.
    """
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
    side = processor.size["shortest_edge"]
    if max(image.size) ** 2 > _LARGE_SQUARE and image.mode != "P":
        resample = Image.Resampling(processor.resample)
        square = shrink_to_square(to_rgb(image), background_color, side, resample)
    else:
        square = expand2square(image, background_color)
    return _pixels(square, processor)


def _cropped_pixels(image: Image.Image, processor: Any) -> torch.Tensor:
    """The center crop that the processor makes: (3, H, W) float32."""
    side = processor.size["shortest_edge"]
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
