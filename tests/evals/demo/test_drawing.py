import numpy as np
import pytest

from evals.demo.drawing import CELL_SIZE, IMAGE_SIZE, draw_scene
from evals.demo.scene import COLORS, SHAPES, Scene, Thing, sample_scene

FILLED = [shape for shape in SHAPES if shape != "ring"]


def scene_of(color, shape, row, column):
    return Scene(things=(Thing(color=color, shape=shape, row=row, column=column),))


def center_of(pixels, row, column):
    middle = slice(CELL_SIZE // 2 - 1, CELL_SIZE // 2 + 1)
    cell = pixels[row * CELL_SIZE :, column * CELL_SIZE :]
    return cell[middle, middle].mean((0, 1))


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("shape", FILLED)
def test_a_thing_is_drawn_in_its_color_in_its_cell(color, shape):
    image = draw_scene(scene_of(color, shape, 2, 1), np.random.default_rng(3))
    seen = center_of(np.asarray(image, dtype=float), 2, 1)
    nearest = min(COLORS, key=lambda name: np.abs(seen - COLORS[name]).sum())
    assert nearest == color


def test_a_ring_is_hollow():
    pixels = np.asarray(draw_scene(scene_of("black", "ring", 0, 0), np.random.default_rng(0)))
    assert center_of(pixels.astype(float), 0, 0).mean() > 90
    assert pixels[:CELL_SIZE, :CELL_SIZE].min() < 50


def test_cells_without_a_thing_stay_empty():
    pixels = np.asarray(draw_scene(scene_of("black", "square", 0, 0), np.random.default_rng(0)))
    assert pixels[CELL_SIZE:].min() > 80


@pytest.mark.parametrize("pair", [(a, b) for a in SHAPES for b in SHAPES if a < b])
def test_shapes_differ(pair):
    drawn = [
        np.asarray(
            draw_scene(scene_of("black", shape, 1, 1), np.random.default_rng(5)), dtype=float
        )
        for shape in pair
    ]
    assert np.abs(drawn[0] - drawn[1]).mean(-1).max() > 60


def test_equal_seeds_draw_equal_pictures_and_others_do_not():
    scene = sample_scene(np.random.default_rng(0))
    first, again, other = (draw_scene(scene, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first.size == (IMAGE_SIZE, IMAGE_SIZE)
    assert first.mode == "RGB"
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
