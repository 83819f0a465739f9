"""Pixels reach the tower as in training: padding, tiles, modes."""

import io
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from llava.anyres import (
    divide_to_patches,
    get_anyres_image_grid_shape,
    resize_and_pad_image,
    select_best_resolution,
)
from llava.images import (
    expand2square,
    process_anyres_image,
    process_images,
    shrink_to_square,
    to_rgb,
)
from llava.tiling import read_pinpoints

SIDE = 56
PINPOINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
RED, GREEN, BLUE, BLACK = (200, 10, 20), (10, 200, 30), (20, 30, 200), (0, 0, 0)
PADDING = (122, 116, 104)

PAD = SimpleNamespace(image_aspect_ratio="pad")
SQUARE = SimpleNamespace(image_aspect_ratio=None)
ANYRES = SimpleNamespace(image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS)
ASPECTS = pytest.mark.parametrize("config", [PAD, SQUARE, ANYRES], ids=["pad", "square", "anyres"])
# the reference scales the base view of tiles before it converts the mode
UNTILED = pytest.mark.parametrize("config", [PAD, SQUARE], ids=["pad", "square"])


@pytest.fixture(scope="module")
def processor():
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )


def stripes(width, height, *colors):
    """An image of vertical stripes of equal width."""
    image = Image.new("RGB", (width, height))
    step = width // len(colors)
    for i, color in enumerate(colors):
        image.paste(color, (i * step, 0, (i + 1) * step, height))
    return image


def color_at(pixel_values, x, y):
    """The color, 0 to 255, of one pixel of (3, H, W) normalized values."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    return tuple(((pixel_values[:, y, x] * std + mean) * 255).round().int().tolist())


@pytest.mark.parametrize(
    ("size", "inside", "outside"),
    [
        ((56, 28), [(28, 14), (0, 41)], [(28, 13), (28, 42), (0, 0)]),
        ((28, 56), [(14, 28), (41, 0)], [(13, 28), (42, 28), (55, 55)]),
        ((56, 56), [(0, 0), (55, 55)], []),
    ],
    ids=["wide", "tall", "square"],
)
def test_padding_has_the_mean_color_and_centers_the_image(processor, size, inside, outside):
    pixels = process_images([Image.new("RGB", size, RED)], processor, PAD)
    assert pixels.shape == (1, 3, SIDE, SIDE)
    assert pixels.dtype == torch.float32
    assert {color_at(pixels[0], x, y) for x, y in inside} == {RED}
    assert {color_at(pixels[0], x, y) for x, y in outside} <= {PADDING}


@pytest.mark.parametrize(
    ("size", "corner"), [((5, 2), (0, 1)), ((2, 5), (1, 0)), ((7, 4), (0, 1)), ((1, 4), (1, 0))]
)
def test_odd_padding_is_smaller_before_than_after(size, corner):
    square = expand2square(Image.new("RGB", size, RED), PADDING)
    x, y = corner
    box = (x, y, x + size[0], y + size[1])
    assert square.size == (max(size), max(size))
    assert square.crop(box).getcolors() == [(size[0] * size[1], RED)]
    assert dict(map(reversed, square.getcolors()))[RED] == size[0] * size[1]


def test_square_image_is_not_padded():
    image = Image.new("RGB", (4, 4), RED)
    assert expand2square(image, PADDING) is image


def test_palette_image_stays_one_when_padded():
    image = stripes(6, 4, RED, BLUE).convert("P")
    square = expand2square(image, PADDING)
    assert square.mode == "P"
    assert square.size == (6, 6)


def test_without_padding_the_center_is_shown(processor):
    image = stripes(168, 56, RED, GREEN, BLUE)
    pixels = process_images([image], processor, SQUARE)
    assert pixels.shape == (1, 3, SIDE, SIDE)
    assert {color_at(pixels[0], x, 28) for x in (0, 28, 55)} == {GREEN}


@ASPECTS
def test_orientation_of_a_photograph_is_ignored(processor, config):
    image = stripes(168, 56, RED, GREEN, BLUE)
    turned = Image.Exif()
    turned[0x0112] = 6
    files = io.BytesIO(), io.BytesIO()
    image.save(files[0], "JPEG")
    image.save(files[1], "JPEG", exif=turned)
    plain, marked = map(Image.open, files)
    assert marked.getexif()[0x0112] == 6
    expected = process_images([plain], processor, config)
    assert torch.equal(process_images([marked], processor, config), expected)


@pytest.mark.parametrize("opacity", [0, 100, 255])
@UNTILED
def test_alpha_is_dropped_and_not_blended(processor, config, opacity):
    image = stripes(112, 56, RED, BLUE)
    veiled = image.copy()
    veiled.putalpha(opacity)
    assert veiled.mode == "RGBA"
    expected = process_images([image], processor, config)
    assert torch.equal(process_images([veiled], processor, config), expected)


@pytest.mark.parametrize("size", [(56, 56), (112, 56)])
@pytest.mark.parametrize("config", [SQUARE, ANYRES], ids=["square", "anyres"])
def test_transparent_color_of_a_palette_is_shown(processor, config, size):
    opaque = stripes(*size, RED, BLUE).quantize(2)
    transparent = opaque.copy()
    transparent.info["transparency"] = opaque.getpixel((0, 0))
    expected = process_images([opaque], processor, config)
    assert torch.equal(process_images([transparent], processor, config), expected)


def test_transparency_does_not_follow_the_image_into_rgb():
    palette = stripes(4, 2, RED, BLUE).quantize(2)
    palette.info["transparency"] = 0
    marked = stripes(4, 2, RED, BLUE)
    marked.info["transparency"] = RED
    for image in (palette, marked):
        rgb = to_rgb(image)
        assert rgb.mode == "RGB"
        assert "transparency" not in rgb.info
        assert rgb.getpixel((0, 0)) == RED
        assert "transparency" in image.info


def test_alpha_does_not_follow_the_image_into_rgb():
    veiled = stripes(4, 2, RED, BLUE)
    veiled.putalpha(0)
    assert to_rgb(veiled).getcolors() == stripes(4, 2, RED, BLUE).getcolors()


def test_rgb_image_is_taken_as_it_is():
    image = stripes(4, 2, RED, BLUE)
    assert to_rgb(image) is image


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"]
)
@pytest.mark.parametrize("size", [(80, 50), (50, 80), (56, 56)])
@ASPECTS
def test_every_mode_is_readable(processor, config, mode, size):
    image = Image.new(mode, size)
    pixels = process_images([image], processor, config)[0]
    assert pixels.shape[-3:] == (3, SIDE, SIDE)
    assert pixels.isfinite().all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "I", "I;16"])
@UNTILED
def test_mode_without_rgb_colors_is_converted_first(processor, config, mode):
    image = stripes(80, 50, (0, 0, 0), (255, 255, 255)).convert("L")
    image = image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
    expected = process_images([image.convert("RGB")], processor, config)
    assert torch.equal(process_images([image], processor, config), expected)


@pytest.mark.parametrize(
    ("size", "best"),
    [
        ((100, 100), (112, 112)),  # all 10,000 pixels; any other shows 3,136 of them
        ((300, 100), (168, 56)),  # 168 x 56 = 9,408 pixels; 112 x 37 in 112 x 56
        ((100, 300), (56, 168)),
        ((200, 100), (112, 56)),  # 6,272 pixels as in 168 x 56 and 112 x 112, but none wasted
        ((50, 40), (56, 112)),  # shown whole by all, 4,272 wasted by the two first: the first
        ((1, 1), (56, 112)),
        ((5000, 40), (168, 56)),  # 168 x 1 pixels
        ((40, 5000), (56, 168)),
    ],
)
def test_resolution_shows_most_pixels_and_then_wastes_fewest(size, best):
    assert select_best_resolution(size, [tuple(pinpoint) for pinpoint in PINPOINTS]) == best
    assert get_anyres_image_grid_shape(size, PINPOINTS, 56) == (best[0] // 56, best[1] // 56)


def test_first_of_equal_resolutions_is_taken():
    assert select_best_resolution((50, 40), [(112, 56), (56, 112)]) == (112, 56)


def test_no_resolution_to_choose_from_is_refused():
    with pytest.raises(ValueError, match="`possible_resolutions` must hold at least one size"):
        select_best_resolution((50, 40), [])


@pytest.mark.parametrize(
    ("size", "target", "box"),
    [
        ((100, 50), (200, 200), (0, 50, 200, 150)),
        ((50, 100), (200, 200), (50, 0, 150, 200)),
        ((100, 50), (200, 100), (0, 0, 200, 100)),
        ((100, 30), (50, 50), (0, 17, 50, 32)),  # 15 rows, 17 of 35 before
        ((90, 40), (60, 60), (0, 16, 60, 43)),  # 26.67 rows are 27
        ((40, 90), (60, 60), (16, 0, 43, 60)),
        ((1000, 1), (56, 56), (0, 27, 56, 28)),  # never less than a row
    ],
)
def test_image_is_scaled_to_fit_and_centered_on_black(size, target, box):
    padded = resize_and_pad_image(Image.new("RGB", size, RED), target)
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert padded.size == target
    assert padded.crop(box).getcolors() == [(area, RED)]
    rest = target[0] * target[1] - area
    assert sorted(padded.getcolors()) == sorted([(area, RED), (rest, BLACK)][: 2 if rest else 1])


@pytest.mark.parametrize(
    ("written", "sizes"),
    [
        ("[(56, 112), (112, 56)]", [(56, 112), (112, 56)]),
        ("[[56, 112]]", [(56, 112)]),
        ([[56, 112], [112, 56]], [(56, 112), (112, 56)]),
        (((56.0, 112),), [(56, 112)]),
    ],
)
def test_pinpoints_may_be_text(written, sizes):
    assert read_pinpoints(written, SIDE) == sizes


@pytest.mark.parametrize(
    "written", ["(1x1)", "[[56, 112]", "nonsense", [], [[56]], [["56", 112]], [[0, 56]], None, 3]
)
def test_other_pinpoints_are_refused(written):
    with pytest.raises(ValueError, match="`image_grid_pinpoints` must be"):
        read_pinpoints(written, SIDE)


def test_range_of_grids_is_every_grid_in_it():
    assert read_pinpoints("(1x1),...,(2x3)", 10) == [
        (width, height) for width in (10, 20) for height in (10, 20, 30)
    ]


@pytest.mark.parametrize(
    "aspect", ["Pad", "padd", "anyres_max_", "anyres_max_0", "high", "", 1, ["pad"]]
)
def test_unknown_aspect_ratio_is_not_cropped(aspect, processor):
    config = SimpleNamespace(image_aspect_ratio=aspect, image_grid_pinpoints=PINPOINTS)
    with pytest.raises(ValueError, match="`image_aspect_ratio` must be square, pad, anyres"):
        process_images([stripes(112, 50, RED, BLUE)], processor, config)


def test_pinpoints_as_text_cut_the_same_tiles(processor):
    image = stripes(112, 50, RED, BLUE)
    assert get_anyres_image_grid_shape((112, 50), str(PINPOINTS), 56) == (2, 1)
    expected = process_anyres_image(image, processor, PINPOINTS)
    assert torch.equal(process_anyres_image(image, processor, str(PINPOINTS)), expected)


def test_tiles_follow_row_by_row():
    colors = [(i, 0, 0) for i in range(6)]
    image = Image.new("RGB", (30, 20))
    for i, color in enumerate(colors):
        x, y = i % 3 * 10, i // 3 * 10
        image.paste(color, (x, y, x + 10, y + 10))
    tiles = divide_to_patches(image, 10)
    assert [tile.size for tile in tiles] == [(10, 10)] * 6
    assert [tile.getcolors() for tile in tiles] == [[(100, color)] for color in colors]


def test_base_view_is_squashed_and_tiles_follow(processor):
    image = stripes(112, 56, RED, BLUE)
    views = process_anyres_image(image, processor, PINPOINTS)
    assert views.shape == (3, 3, SIDE, SIDE)
    assert [color_at(views[0], x, 28) for x in (0, 55)] == [RED, BLUE]
    assert {color_at(views[1], x, y) for x in (0, 55) for y in (0, 55)} == {RED}
    assert {color_at(views[2], x, y) for x in (0, 55) for y in (0, 55)} == {BLUE}
    base = process_images([image.resize((SIDE, SIDE))], processor, SQUARE)[0]
    assert torch.equal(views[0], base)


@pytest.mark.parametrize(
    ("size", "num_tiles"), [((100, 100), 4), ((300, 100), 3), ((200, 100), 2), ((40, 5000), 3)]
)
def test_number_of_tiles_follows_the_resolution(processor, size, num_tiles):
    views = process_anyres_image(Image.new("RGB", size, RED), processor, PINPOINTS)
    assert views.shape == (1 + num_tiles, 3, SIDE, SIDE)


def test_images_with_other_numbers_of_tiles_come_as_a_list(processor):
    wide, large = Image.new("RGB", (200, 100), RED), Image.new("RGB", (100, 100), BLUE)
    alike = process_images([wide, wide], processor, ANYRES)
    mixed = process_images([wide, large], processor, ANYRES)
    assert alike.shape == (2, 3, 3, SIDE, SIDE)
    assert [tuple(pixels.shape) for pixels in mixed] == [(3, 3, SIDE, SIDE), (5, 3, SIDE, SIDE)]


def test_processing_leaves_the_image_as_it_was(processor):
    image = stripes(80, 50, RED, BLUE)
    image.info["transparency"] = RED
    before = image.tobytes()
    for config in (PAD, SQUARE, ANYRES):
        process_images([image], processor, config)
    assert image.tobytes() == before
    assert image.info == {"transparency": RED}


@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR])
@pytest.mark.parametrize("size", [(3, 900), (900, 3), (700, 701), (611, 97), (1, 1300)])
def test_square_made_in_strips_is_that_of_the_reference(size, resample):
    noise = Image.effect_noise(size, 120)
    image = Image.merge("RGB", (noise, noise.rotate(180), Image.effect_noise(size, 60)))
    expected = expand2square(image, PADDING).resize((SIDE, SIDE), resample)
    assert shrink_to_square(image, PADDING, SIDE, resample).tobytes() == expected.tobytes()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_large_squares_give_the_same_pixels(processor, mode, monkeypatch):
    image = Image.effect_noise((40, 300), 120).convert("RGB").convert(mode)
    whole = process_images([image], processor, PAD)
    monkeypatch.setattr("llava.images._LARGE_SQUARE", 1000)
    assert torch.equal(process_images([image], processor, PAD), whole)


def test_image_that_would_be_enlarged_beyond_memory_is_refused(processor):
    with pytest.raises(ValueError, match="1 x 60000 pixels would be enlarged to"):
        process_images([Image.new("RGB", (1, 60_000))], processor, SQUARE)
