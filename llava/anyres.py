"""Any resolution: an image is cut into tiles, and the tiles' features become one sequence again.

Sizes are (width, height) in pixels, as PIL has them. Legend: T tiles (the base view not counted), P
patches a tile, D embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import nn

from llava.tiling import Layout, Pinpoints, Size, read_pinpoints


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
    scale = min(target_width / width, target_height / height)
    new_width = min(math.ceil(width * scale), target_width)
    new_height = min(math.ceil(height * scale), target_height)
    padded = Image.new("RGB", target_resolution, (0, 0, 0))
    corner = (target_width - new_width) // 2, (target_height - new_height) // 2
    padded.paste(image.resize((new_width, new_height)), corner)
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


def resize_and_center_crop(image: Image.Image, side: int) -> Image.Image:
    """Returns the center of an image whose shorter side has been brought to `side` pixels."""
    width, height = image.size
    ratio = width / height
    size = (int(side * ratio), side) if ratio > 1 else (side, int(side / ratio))
    left, top = ((long - side) / 2 for long in size)
    resized = image.resize(size, Image.Resampling.LANCZOS)
    return resized.crop((left, top, left + side, top + side))


def cut_tiles(image: Image.Image, side: int) -> list[Image.Image]:
    """Returns the square tiles that fit into the middle of an image, row by row."""
    width, height = (length - length % side for length in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return divide_to_patches(image.crop((left, top, left + width, top + height)), side)


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
    layout: Layout,
    image_size: tuple[int, int] | None,
    tile_size: int,
    image_newline: torch.Tensor | None,
) -> torch.Tensor:
    """Returns the features (S, D) of one image in the order in which the language model reads them.

    Args:
        features: (1 + T, P, D), the base view first.
        layout: How the image was cut and is read.
        image_size: Width and height of the image; needed for several tiles.
        tile_size: Side of a tile in pixels.
        image_newline: (D,), needed where the layout unpads.

    Raises:
        ValueError: something that the layout needs is missing, or there are more views than it has.
    """
    if not layout.is_spatial:
        return features.flatten(0, 1)
    newline = image_newline if layout.unpads else None
    if layout.unpads and newline is None:
        raise ValueError("`image_newline` must be a tensor for spatial_unpad, but is None.")
    base, tiles = features[0], features[1:]
    if not len(tiles):
        return base if newline is None else torch.cat((base, newline[None].to(base)))
    grid = _grid_of(tiles, layout, image_size, tile_size)
    if layout.pools:
        read = nn.functional.max_pool2d(grid, 2).flatten(1).T
    elif newline is not None and image_size is not None:
        grid = unpad_image(grid, image_size)
        size = layout.shrunk(grid.shape[1], grid.shape[2], round(base.shape[0] ** 0.5))
        if size is not None:
            grid = nn.functional.interpolate(grid[None], size, mode="bilinear")[0]
        column = newline[:, None, None].expand(-1, grid.shape[1], 1).to(grid)
        read = torch.cat((grid, column), dim=-1).flatten(1).T
    else:
        read = grid.flatten(1).T
    return torch.cat((base, read)) if layout.keeps_base else read


def _grid_of(
    tiles: torch.Tensor, layout: Layout, image_size: tuple[int, int] | None, tile_size: int
) -> torch.Tensor:
    """The tiles' maps (T, P, D) as one map (D, rows * side, columns * side)."""
    side = round(tiles.shape[1] ** 0.5)
    columns = rows = 2
    if layout.mode == "anyres" and layout.pinpoints is not None and image_size is not None:
        size = int(image_size[0]), int(image_size[1])
        columns, rows = get_anyres_image_grid_shape(size, layout.pinpoints, tile_size)
    elif layout.mode == "anyres" or not layout.is_tiled or len(tiles) != rows * columns:
        raise ValueError(
            "Several tiles need `image_aspect_ratio` anyres, `image_grid_pinpoints` and "
            f"`image_sizes`, or to be four, but there are {len(tiles)} tiles, and these are "
            f"{layout.mode!r}, {layout.pinpoints!r:.100} and {image_size!r}."
        )
    grid = tiles.view(rows, columns, side, side, -1)
    return grid.permute(4, 0, 2, 1, 3).flatten(3, 4).flatten(1, 2)
