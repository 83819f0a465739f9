"""How an image is laid out for the tower, as config.json says it. Imports no torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from llava.errors import reason_of

Size = tuple[int, int]
Pinpoints = str | Sequence[Sequence[int]]

_MODES = ("square", "pad", "anyres", "highres", "crop_split")
_ANYRES_MAX = re.compile(r"anyres_max_([1-9]\d{0,3})")
_MERGE = re.compile(r"spatial((?:_(?:unpad|maxpool2x2|nobase))*)")
_RANGE = re.compile(r"\((\d{1,2})x(\d{1,2})\),\s*\.\.\.,\s*\((\d{1,2})x(\d{1,2})\)")
_SIDES = re.compile(r"[1-9]\d{0,4}(,[1-9]\d{0,4})*")
_NOT_SHRUNK = 1.1
"""A map of features that is this much too wide and high for `anyres_max_N` is left as it is."""

ASPECT_RATIOS_IN_WORDS = (
    "square, pad, anyres, anyres_max_<whole number>, highres, crop_split or null"
)
MERGE_TYPES_IN_WORDS = (
    "flat or spatial, the latter with any of _unpad, _maxpool2x2 and _nobase behind it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How an image is cut into views for the tower, and how their features become one sequence.

    Attributes:
        mode: `square` (the processor's own way), `pad` (to a square), `anyres` (the whole image and
            tiles of it), `highres` (the same of its padded square), `crop_split` (tiles of its
            center).
        limit: How many tiles' worth of features `anyres_max_N` leaves of a larger map; None else.
        pinpoints: `image_grid_pinpoints`: tiling sizes of `anyres`; sides of `highres`, as text.
        cut_side: Of the square that `highres` (the largest side given) or `crop_split` (the center)
            cuts into tiles, in pixels; 0 elsewhere.
        split_side: Of the tiles of `crop_split`; 0 elsewhere.
        is_spatial: Whether rows run over all tiles, else tile follows tile (`flat`).
        unpads: Whether the map is cut to the image and its rows are closed by the newline.
        pools: Whether the map is pooled to half its width and height.
        keeps_base: Whether the view of the whole image comes before its tiles.
        closes_whole: Whether the newline follows one of several images, which are not tiled then.
    """

    mode: str = "square"
    limit: int | None = None
    pinpoints: Pinpoints | None = None
    cut_side: int = 0
    split_side: int = 0
    is_spatial: bool = False
    unpads: bool = False
    pools: bool = False
    keeps_base: bool = True
    closes_whole: bool = False

    @property
    def is_tiled(self) -> bool:
        """Whether an image may give more than one view."""
        return self.mode in ("anyres", "highres", "crop_split")

    def of_each(self, num_images: int) -> Layout:
        """Returns how each of so many images of one question is laid out.

        Where an image is tiled up to a limit (`anyres_max_N`, OneVision), several are padded.
        """
        if num_images < 2 or self.limit is None:
            return self
        return Layout(mode="pad", closes_whole=self.closes_whole)

    def grids(self, tile_side: int) -> list[Size]:
        """Returns the numbers of columns and rows of tiles that an image may have; [] untiled."""
        if self.mode == "anyres":
            sizes = read_pinpoints(self.pinpoints or (), tile_side)
            return [(width // tile_side, height // tile_side) for width, height in sizes]
        if not self.is_tiled:
            return []
        per_side = self.cut_side // (self.split_side or tile_side)
        return [(per_side, per_side)]

    def num_views(self, tile_side: int) -> int:
        """Returns how many views of an image the tower gets at most, that of all of it counted.

        >>> Layout(mode="anyres", pinpoints=[[336, 672], [672, 672]]).num_views(336)
        5
        """
        most = max((columns * rows for columns, rows in self.grids(tile_side)), default=0)
        return most if self.mode == "crop_split" else 1 + most

    def num_read(self, tile_side: int) -> int:
        """Returns how many views' worth of features the language model reads at most."""
        num_views = self.num_views(tile_side)
        num_tiles = num_views - 1
        if not self.is_spatial or num_tiles < 1:
            return num_views
        if self.pools:
            num_tiles = -(-num_tiles // 4)
        elif self.unpads and self.limit is not None:
            num_tiles = min(num_tiles, int(_NOT_SHRUNK**2 * self.limit) + 1)
        return num_tiles + self.keeps_base

    def most_newlines(self, tile_side: int, patches_per_side: int) -> int:
        """Returns how many newlines are read at most: one behind each row of patches of tiles."""
        if self.num_views(tile_side) < 2:
            return int(self.closes_whole)
        if not self.unpads or self.pools:
            return 0
        return patches_per_side * max(rows for _, rows in self.grids(tile_side))

    def shrunk(self, height: int, width: int, side: int) -> Size | None:
        """Returns height and width to which a map of features is shrunk; None where it is not.

        All are numbers of features; `side` is that of one tile's map.

        >>> Layout(mode="anyres", limit=4, unpads=True).shrunk(81, 81, 27)
        (54, 54)
        """
        if self.limit is None:
            return None
        times = (height * width / (self.limit * side**2)) ** 0.5
        return (int(height // times), int(width // times)) if times > _NOT_SHRUNK else None


def read_layout(config: Mapping[str, Any]) -> Layout:
    """Returns what a configuration says of the layout of images.

    Args:
        config: May have `image_aspect_ratio`, `mm_patch_merge_type`, `image_grid_pinpoints`,
            `image_crop_resolution`, `image_split_resolution` and `image_newline_of_each`.

    Raises:
        ValueError: a value is unknown, or a mode lacks the sizes that it needs.

    >>> read_layout({"image_aspect_ratio": "pad"}).mode
    'pad'
    """
    written = config.get("image_aspect_ratio")
    if not is_aspect_ratio(written):
        raise _unknown("image_aspect_ratio", ASPECT_RATIOS_IN_WORDS, written)
    most = _ANYRES_MAX.fullmatch(str(written))
    mode = "anyres" if most else written or "square"
    merge_type = config.get("mm_patch_merge_type", "flat")
    parts = merge_parts(merge_type)
    if parts is None:
        raise _unknown("mm_patch_merge_type", MERGE_TYPES_IN_WORDS, merge_type)
    crop, split = (config.get(f"image_{name}_resolution") for name in ("crop", "split"))
    layout = Layout(
        mode=mode,
        limit=int(most[1]) if most else None,
        pinpoints=config.get("image_grid_pinpoints"),
        is_spatial=merge_type != "flat",
        unpads="unpad" in parts,
        pools="maxpool2x2" in parts,
        keeps_base="nobase" not in parts,
        closes_whole=most is not None and bool(config.get("image_newline_of_each")),
    )
    if mode == "anyres":
        read_pinpoints(layout.pinpoints or (), 1)
    elif mode == "highres":
        sides = layout.pinpoints
        if not isinstance(sides, str) or not _SIDES.fullmatch(sides):
            raise ValueError(
                "`image_grid_pinpoints` must be sides in pixels with commas between, such as "
                f"448,672, for highres, but is {sides!r:.100}."
            )
        layout = replace(layout, cut_side=max(map(int, sides.split(","))))
    elif mode == "crop_split":
        if type(crop) is not int or type(split) is not int or not 0 < split <= crop:
            raise ValueError(
                "`image_crop_resolution` and `image_split_resolution` must be sides in pixels for "
                f"crop_split, the latter not larger, but are {crop!r} and {split!r}."
            )
        layout = replace(layout, cut_side=crop, split_side=split)
    return layout


def merge_parts(merge_type: object) -> frozenset[str] | None:
    """Returns what follows `spatial` in a merge type; None where it is none.

    >>> sorted(merge_parts("spatial_unpad_nobase"))
    ['nobase', 'unpad']
    """
    if merge_type == "flat":
        return frozenset()
    match = _MERGE.fullmatch(merge_type) if isinstance(merge_type, str) else None
    if match is None:
        return None
    parts = match[1].split("_")[1:]
    return frozenset(parts) if len(set(parts)) == len(parts) else None


def is_aspect_ratio(value: object) -> bool:
    """Whether a value is an `image_aspect_ratio`."""
    return value is None or (
        isinstance(value, str) and (value in _MODES or bool(_ANYRES_MAX.fullmatch(value)))
    )


def _unknown(name: str, words: str, value: object) -> ValueError:
    return ValueError(
        f"`{name}` must be {words}, but is {value!r:.100}. Correct the checkpoint's config.json."
    )


def read_pinpoints(grid_pinpoints: Pinpoints, tile_size: int) -> list[Size]:
    """Returns the tiling sizes of a config: a list, a list as text, or LLaVA-NeXT's range of grids.

    Args:
        grid_pinpoints: `[[336, 672], ...]`, the same as text, or `(1x1),...,(6x6)` in tiles.
        tile_size: Side of a tile in pixels, in which a range counts.

    Raises:
        ValueError: it is none of these, or holds something else than pairs of whole numbers.

    >>> read_pinpoints("(1x1),...,(2x1)", 336)
    [(336, 336), (672, 336)]
    """
    sizes: object = grid_pinpoints
    cause: Exception | None = None
    if isinstance(grid_pinpoints, str):
        if grids := _RANGE.fullmatch(grid_pinpoints.strip()):
            columns, rows, last_column, last_row = map(int, grids.groups())
            numbers = product(range(columns, last_column + 1), range(rows, last_row + 1))
            sizes = [(width * tile_size, height * tile_size) for width, height in numbers]
        else:
            try:
                sizes = ast.literal_eval(grid_pinpoints)
            except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
                sizes, cause = None, error
    if not isinstance(sizes, Sequence) or not sizes or not all(map(_is_size, sizes)):
        told = f" ({reason_of(cause)})" if cause else ""
        raise ValueError(
            "`image_grid_pinpoints` must be a list of tiling sizes in pixels, such as [[336, 672], "
            "[672, 336]], or a range of grids, such as (1x1),...,(6x6), but is "
            f"{grid_pinpoints!r:.100}{told}."
        ) from cause
    return [(int(width), int(height)) for width, height in sizes]


def _is_size(size: object) -> bool:
    return (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(type(side) in (int, float) and side > 0 and side % 1 == 0 for side in size)
    )
