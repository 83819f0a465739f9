"""How an image may be laid out for the tower, as config.json says it. Imports no torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from itertools import product
from typing import Any

from llava.errors import reason_of

Size = tuple[int, int]
Pinpoints = str | Sequence[Sequence[int]]

ASPECT_RATIOS = (None, "square", "pad", "anyres")
"""Values of `image_aspect_ratio`; None and `square` are the tower's own center crop."""

MERGE_TYPES = ("flat", "spatial", "spatial_unpad")
"""Values of `mm_patch_merge_type`, the order in which tiles are read."""

_RANGE = re.compile(r"\((\d{1,2})x(\d{1,2})\),\s*\.\.\.,\s*\((\d{1,2})x(\d{1,2})\)")


def check_layout(config: Any) -> None:
    """Checks what a model's configuration in memory says of images; from a file it is known before.

    Args:
        config: May have `image_aspect_ratio`, `mm_patch_merge_type` and `image_grid_pinpoints`.

    Raises:
        ValueError: a value is unknown, or tiles have no sizes.
    """
    aspect_ratio = getattr(config, "image_aspect_ratio", None)
    if aspect_ratio not in ASPECT_RATIOS:
        raise ValueError(
            "`image_aspect_ratio` must be square, pad or anyres, but is "
            f"{aspect_ratio!r}. Correct the checkpoint's config.json."
        )
    merge_type = getattr(config, "mm_patch_merge_type", "flat")
    if merge_type not in MERGE_TYPES:
        raise ValueError(
            f"`mm_patch_merge_type` must be {', '.join(MERGE_TYPES[:-1])} or {MERGE_TYPES[-1]}, "
            f"but is {merge_type!r}. Correct the checkpoint's config.json."
        )
    if aspect_ratio == "anyres":
        read_pinpoints(getattr(config, "image_grid_pinpoints", ()), 1)


def read_pinpoints(grid_pinpoints: Pinpoints, tile_size: int | None = None) -> list[Size]:
    """Returns the tiling sizes of a config: a list, a list as text, or LLaVA-NeXT's range of grids.

    Args:
        grid_pinpoints: `[[336, 672], ...]`, the same as text, or `(1x1),...,(6x6)` in tiles.
        tile_size: Side of a tile in pixels, needed for a range.

    Raises:
        ValueError: it is none of these, or holds something else than pairs of whole numbers.

    >>> read_pinpoints("(1x1),...,(2x1)", 336)
    [(336, 336), (672, 336)]
    """
    sizes: object = grid_pinpoints
    if isinstance(grid_pinpoints, str):
        if (grids := _RANGE.fullmatch(grid_pinpoints.strip())) and tile_size:
            columns, rows, last_column, last_row = map(int, grids.groups())
            numbers = product(range(columns, last_column + 1), range(rows, last_row + 1))
            sizes = [(width * tile_size, height * tile_size) for width, height in numbers]
        else:
            try:
                sizes = ast.literal_eval(grid_pinpoints)
            except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
                raise ValueError(_wanted(grid_pinpoints, reason_of(error))) from error
    if not isinstance(sizes, Sequence) or not sizes or not all(map(_is_size, sizes)):
        raise ValueError(_wanted(grid_pinpoints))
    return [(int(width), int(height)) for width, height in sizes]


def most_tiles(aspect_ratio: object, grid_pinpoints: Pinpoints | None, tile_size: int) -> int:
    """Returns how many views of an image the tower gets at most, that of the whole image counted.

    Args:
        aspect_ratio: `image_aspect_ratio` of a config.
        grid_pinpoints: Its `image_grid_pinpoints`, see `read_pinpoints`.
        tile_size: Side of a tile in pixels.

    >>> most_tiles("anyres", [[336, 672], [672, 672]], 336), most_tiles("pad", None, 336)
    (5, 1)
    """
    if aspect_ratio != "anyres" or grid_pinpoints is None:
        return 1
    pinpoints = read_pinpoints(grid_pinpoints, tile_size)
    return 1 + max(width * height // tile_size**2 for width, height in pinpoints)


def _is_size(size: object) -> bool:
    return (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(type(side) in (int, float) and side > 0 and side % 1 == 0 for side in size)
    )


def _wanted(value: object, reason: str = "") -> str:
    told = f" ({reason})" if reason else ""
    return (
        "`image_grid_pinpoints` must be a list of tiling sizes in pixels, such as [[336, 672], "
        f"[672, 336]], or a range of grids, such as (1x1),...,(6x6), but is {value!r:.100}{told}."
    )
