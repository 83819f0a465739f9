"""Tiles become one sequence: unpadded, row by row, each row closed by a newline."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from llava.anyres import merge_tiles, resize_and_pad_image, unpad_image
from llava.tiling import read_layout

TILE = 56
SIDES = st.integers(1, 4000)
PINPOINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
NEWLINE = torch.tensor([-1.0])


def grid_map(height, width):
    """(2, h, w): each place shows its row and its column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((rows, columns)).float()


@settings(max_examples=300, deadline=None)
@given(width=SIDES, height=SIDES, rows=st.integers(1, 60), columns=st.integers(1, 60))
@example(width=100, height=100, rows=24, columns=24)
@example(width=672, height=336, rows=24, columns=48)
@example(width=4000, height=1, rows=24, columns=24)
@example(width=1, height=4000, rows=24, columns=24)
def test_unpadding_cuts_the_same_from_both_sides_of_one_direction(width, height, rows, columns):
    kept = unpad_image(grid_map(rows, columns), (width, height))
    if width / height > columns / rows:
        size, content, places = rows, int(height * (columns / width)), kept[0, :, 0]
        assert kept.shape[2] == columns
    else:
        size, content, places = columns, int(width * (rows / height)), kept[1, 0, :]
        assert kept.shape[1] == rows
    assert content <= len(places) <= content + 1
    cut = (size - len(places)) // 2
    assert places.tolist() == list(range(cut, size - cut))


@pytest.mark.parametrize(
    ("size", "grid", "kept"),
    [
        ((100, 50), (24, 24), (12, 24)),
        ((50, 100), (24, 24), (24, 12)),
        ((100, 100), (24, 24), (24, 24)),
        ((640, 480), (48, 48), (36, 48)),
        ((1000, 333), (24, 24), (8, 24)),  # int(7.992) = 7 rows, 17 // 2 cut on each side
        ((333, 1000), (24, 24), (24, 8)),
        ((672, 336), (24, 48), (24, 48)),  # equal proportions: nothing to cut
        ((4000, 1), (24, 24), (0, 24)),  # int(0.006) = 0 rows
    ],
)
def test_unpadded_size(size, grid, kept):
    assert unpad_image(grid_map(*grid), size).shape[1:] == kept


@pytest.mark.parametrize("size", [(160, 100), (100, 160), (300, 70), (40, 130)])
def test_what_unpadding_keeps_is_where_the_image_lies(size):
    target = 112, 112
    padded = resize_and_pad_image(Image.new("RGB", size, (255, 255, 255)), target)
    shown = torch.tensor(list(padded.convert("L").tobytes())).view(1, *target).float()
    kept = unpad_image(shown, size)
    lost = float(shown.sum() - kept.sum()) / 255
    assert lost <= max(target), "at most a line, by which scaling and cutting round differently"
    assert float((kept == 0).sum()) <= max(target)


def tiles(num_tiles, side=2):
    """(1 + T, side * side, 1): each patch is 100 x tile + patch; tile 0 is the base view."""
    patches = torch.arange(side * side).view(1, -1, 1)
    return (100 * torch.arange(1 + num_tiles).view(-1, 1, 1) + patches).float()


def merge(
    features,
    image_size,
    merge_type="spatial_unpad",
    image_newline=NEWLINE,
    aspect_ratio="anyres",
    grid_pinpoints=PINPOINTS,
):
    layout = read_layout(
        {
            "mm_patch_merge_type": merge_type,
            "image_aspect_ratio": aspect_ratio,
            "image_grid_pinpoints": grid_pinpoints,
        }
    )
    return merge_tiles(features, layout, image_size, TILE, image_newline)


def merged(features, size, merge_type="spatial_unpad", **options):
    sequence = merge(features, size, merge_type, **options)
    assert sequence.shape[1] == 1
    return sequence[:, 0].int().tolist()


def test_rows_run_over_all_tiles_and_end_with_a_newline():
    assert merged(tiles(2), (112, 56)) == [
        *[0, 1, 2, 3],
        *[100, 101, 200, 201, -1],
        *[102, 103, 202, 203, -1],
    ]


def test_tiles_below_each_other():
    assert merged(tiles(2), (56, 112)) == [
        *[0, 1, 2, 3],
        *[100, 101, -1],
        *[102, 103, -1],
        *[200, 201, -1],
        *[202, 203, -1],
    ]


def test_padding_is_left_out():
    # 112 x 112 for 4 x 4 patches; of a wide image 4 x 3 / 4 = 3 rows are shown, and 1 // 2 = 0 cut
    assert len(merged(tiles(4), (112, 84))) == 4 + 4 * 5
    # 1,000 x 520 pixels: int(2.08) = 2 rows, one cut above and one below
    assert merged(tiles(4), (1000, 520), grid_pinpoints=[[112, 112]]) == [
        *[0, 1, 2, 3],
        *[102, 103, 202, 203, -1],
        *[300, 301, 400, 401, -1],
    ]


def test_spatial_keeps_padding_and_has_no_newlines():
    assert merged(tiles(2), (112, 30), "spatial") == [
        *[0, 1, 2, 3],
        *[100, 101, 200, 201],
        *[102, 103, 202, 203],
    ]


def test_flat_is_tile_after_tile():
    assert merged(tiles(2), (112, 56), "flat") == [
        0,
        1,
        2,
        3,
        100,
        101,
        102,
        103,
        200,
        201,
        202,
        203,
    ]


@pytest.mark.parametrize(
    ("merge_type", "sequence"),
    [("flat", [0, 1, 2, 3]), ("spatial", [0, 1, 2, 3]), ("spatial_unpad", [0, 1, 2, 3, -1])],
)
def test_single_tile_gets_one_newline_where_there_are_any(merge_type, sequence):
    untiled = {"grid_pinpoints": None, "aspect_ratio": "square"}
    assert merged(tiles(0), None, merge_type, **untiled) == sequence


@settings(max_examples=100, deadline=None)
@given(width=st.integers(1, 2000), height=st.integers(1, 2000))
def test_number_of_embeddings_follows_from_the_formulas(width, height):
    side = 4
    best = max(
        PINPOINTS,
        key=lambda point: _fit(width, height, point),
    )
    columns, rows = best[0] // TILE, best[1] // TILE
    sequence = merged(tiles(rows * columns, side), (width, height))
    total_rows, total_columns = rows * side, columns * side
    if width / height > total_columns / total_rows:
        cut = (total_rows - int(height * (total_columns / width))) // 2
        total_rows -= 2 * cut
    else:
        cut = (total_columns - int(width * (total_rows / height))) // 2
        total_columns -= 2 * cut
    assert sequence.count(-1) == total_rows
    assert len(sequence) == side * side + total_rows * (total_columns + 1)


def _fit(width, height, point):
    scale = min(point[0] / width, point[1] / height)
    shown = min(math.floor(width * scale) * math.floor(height * scale), width * height)
    return shown, shown - point[0] * point[1]


def test_newline_takes_the_dtype_of_the_features():
    assert merge(tiles(2).half(), (112, 56)).dtype == torch.float16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"merge_type": "maxpool"}, "`mm_patch_merge_type` must be flat or spatial, .* 'maxpool'"),
        ({"image_newline": None}, "`image_newline` must be a tensor for spatial_unpad"),
        ({"aspect_ratio": "pad"}, "Several tiles need `image_aspect_ratio` anyres"),
        ({"image_size": None}, "`image_sizes`"),
        ({"grid_pinpoints": None}, "`image_grid_pinpoints`"),
    ],
)
def test_missing_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        merge(tiles(2), **({"image_size": (112, 56)} | changes))
