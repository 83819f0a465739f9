import numpy as np
import pytest

from evals.demo.scene import COLORS, PLURALS, SHAPES, Scene, Thing, pick, pick_some, sample_scene


def thing(color, shape, row=0, column=0):
    return Thing(color=color, shape=shape, row=row, column=column)


@pytest.mark.parametrize("seed", range(50))
def test_sampled_things_have_cells_and_looks_of_their_own(seed):
    scene = sample_scene(np.random.default_rng(seed))
    assert 3 <= len(scene.things) <= 6
    assert len({(t.row, t.column) for t in scene.things}) == len(scene.things)
    assert len({(t.color, t.shape) for t in scene.things}) == len(scene.things)
    assert scene.colors <= set(COLORS)
    assert scene.shapes <= set(SHAPES)


@pytest.mark.parametrize("seed", range(50))
def test_sampled_scenes_have_something_to_ask_about(seed):
    scene = sample_scene(np.random.default_rng(seed))
    assert scene.things_known_by_shape
    assert scene.things_known_by_color


def test_a_repeated_shape_names_nothing_without_doubt():
    scene = Scene(things=(thing("red", "ring"), thing("blue", "ring"), thing("red", "cross")))
    assert [t.shape for t in scene.things_known_by_shape] == ["cross"]
    assert [t.color for t in scene.things_known_by_color] == ["blue"]


@pytest.mark.parametrize(
    ("look", "count"),
    [
        ({"color": "red"}, 2),
        ({"shape": "ring"}, 2),
        ({"color": "red", "shape": "ring"}, 1),
        ({}, 3),
    ],
)
def test_find_takes_color_and_shape_together(look, count):
    scene = Scene(things=(thing("red", "ring"), thing("blue", "ring"), thing("red", "cross")))
    assert len(scene.find(**look)) == count


def test_every_shape_has_a_plural():
    assert set(PLURALS) == set(SHAPES)
    assert PLURALS["cross"] == "crosses"


def test_choices_repeat_with_the_seed_and_reach_every_item():
    drawn = [pick(np.random.default_rng(seed), "abc") for seed in range(60)]
    assert drawn == [pick(np.random.default_rng(seed), "abc") for seed in range(60)]
    assert set(drawn) == set("abc")


def test_more_choices_than_items_are_refused():
    with pytest.raises(ValueError, match="at most 3"):
        pick_some(np.random.default_rng(0), "abc", 4)
