"""Any resolution: an image is cut into tiles, and the tiles' features become one sequence again.

Sizes are (width, height) in pixels, as PIL has them. Legend: T tiles (the base view not counted), P
patches a tile, D embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from llava.processors import crop_side, resize_side
from llava.tiling import MERGE_TYPES, Pinpoints, Size, read_pinpoints


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


def get_anyres_image_grid_shape(
    image_size: Size, grid_pinpoints: Pinpoints, patch_size: int
) -> tuple[int, int]:
    """Returns how many tiles of side `patch_size` an image gets, in width and in height."""
    sizes = read_pinpoints(grid_pinpoints, patch_size)
    width, height = select_best_resolution(image_size, sizes)
    return width // patch_size, height // patch_size


def divide_to_patches(image: Image.Image, patch_size: int) -> list[Image.Image]:
    """Returns the square tiles of an image, row by row."""
    width, height = image.size
    return [
        image.crop((left, top, left + patch_size, top + patch_size))
        for top in range(0, height, patch_size)
        for left in range(0, width, patch_size)
    ]


def cut_views(image: Image.Image, processor: Any, grid_pinpoints: Pinpoints) -> list[Image.Image]:
    """Returns the base view, the whole image squashed to a square, and the T tiles of an image."""
    side, tile_size = resize_side(processor), crop_side(processor)
    best = select_best_resolution(image.size, read_pinpoints(grid_pinpoints, tile_size))
    tiles = divide_to_patches(resize_and_pad_image(image, best), tile_size)
    return [image.resize((side, side)), *tiles]


def unpad_image(features: torch.Tensor, original_size: tuple[int, int]) -> torch.Tensor:
    """Returns the part of a feature map that shows the image and not its padding.

    Args:
        features: (D, h, w), the map of a padded image.
        original_size: Width and height of the image before padding.

    Returns:
        (D, h', w') with h' = h or w' = w.
    """
    original_width, original_height = original_size
    height, width = features.shape[1:]
    if original_width / original_height > width / height:
        new_height = int(original_height * (width / original_width))
        padding = (height - new_height) // 2
        return features[:, padding : height - padding, :]
    new_width = int(original_width * (height / original_height))
    padding = (width - new_width) // 2
    return features[:, :, padding : width - padding]


def merge_tiles(
    features: torch.Tensor,
    config: Any,
    image_size: tuple[int, int] | None,
    tile_size: int,
    image_newline: torch.Tensor | None,
) -> torch.Tensor:
    """Returns the features (S, D) of one image in the order in which the language model reads them.

    Args:
        features: (1 + T, P, D), the base view first.
        config: May have `mm_patch_merge_type`: `flat` (tile after tile, the default), `spatial`
            (rows over all tiles) or `spatial_unpad` (without padding, each row closed by the
            newline embedding). Several tiles need `image_aspect_ratio` anyres and
            `image_grid_pinpoints`, the tiling sizes.
        image_size: Width and height of the image; needed for several tiles.
        tile_size: Side of a tile in pixels.
        image_newline: (D,), needed for `spatial_unpad`.

    Raises:
        ValueError: the merge type is unknown, or something that it needs is missing.
    """
    merge_type = getattr(config, "mm_patch_merge_type", "flat")
    if merge_type == "flat":
        return features.flatten(0, 1)
    if merge_type not in MERGE_TYPES:
        raise ValueError(
            "`mm_patch_merge_type` must be flat, spatial or spatial_unpad, but is "
            f"{merge_type!r}. Correct the checkpoint's config.json."
        )
    newline = image_newline if merge_type == "spatial_unpad" else None
    if merge_type == "spatial_unpad" and newline is None:
        raise ValueError("`image_newline` must be a tensor for spatial_unpad, but is None.")
    if features.shape[0] == 1:
        base = features[0]
        return base if newline is None else torch.cat((base, newline[None].to(base)))
    aspect_ratio = getattr(config, "image_aspect_ratio", "square")
    grid_pinpoints = getattr(config, "image_grid_pinpoints", None)
    if aspect_ratio != "anyres" or image_size is None or grid_pinpoints is None:
        raise ValueError(
            "Several tiles need `image_aspect_ratio` anyres, `image_grid_pinpoints` and "
            f"`image_sizes`, but these are {aspect_ratio!r}, {grid_pinpoints!r} and {image_size!r}."
        )
    base, tiles = features[0], features[1:]
    image_size = int(image_size[0]), int(image_size[1])
    side = round(base.shape[0] ** 0.5)
    columns, rows = get_anyres_image_grid_shape(image_size, grid_pinpoints, tile_size)
    grid = tiles.view(rows, columns, side, side, -1)
    grid = grid.permute(4, 0, 2, 1, 3).flatten(3, 4).flatten(1, 2)  # (D, rows * side, cols * side)
    if newline is not None:
        grid = unpad_image(grid, image_size)
        column = newline[:, None, None].expand(-1, grid.shape[1], 1).to(grid)
        grid = torch.cat((grid, column), dim=-1)
    return torch.cat((base, grid.flatten(1).T))
