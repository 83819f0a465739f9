import re

import pytest

from evals.demo.scene import COLORS, PLURALS, SHAPES

SINGULARS = {plural: shape for shape, plural in PLURALS.items()} | {"shapes": "shape"}


def read_looks(text):
    """Every thing that a text names, as (color or None, shape or None), in order."""
    words = [SINGULARS.get(word, word) for word in re.findall(r"[a-z]+", text.lower())]
    looks, color = [], None
    for word in words:
        if word in COLORS:
            color = word
        elif word in (*SHAPES, "shape"):
            looks.append((color, None if word == "shape" else word))
            color = None
        elif color and word in ("or", "in"):
            looks.append((color, None))
            color = None
    return [*looks, (color, None)] if color else looks


def answer_by_looking(text, scene):
    """The answer to a question by rules of its own; None where the question makes no sense."""
    text = re.sub("^(what|which) (shape|color) is( the)?", "", text.lower())
    looks = read_looks(text)
    counts = [len(scene.find(color=color, shape=shape)) for color, shape in looks]
    if text.startswith("how many"):
        return str(counts[0])
    if text.startswith("are there both"):
        return "yes" if all(counts) else "no"
    if text.startswith(("is there", "are there")):
        return "yes" if any(counts) else "no"
    if counts[0] != 1:
        return None
    (known_color, known_shape), *options = looks
    (thing,) = scene.find(color=known_color, shape=known_shape)
    found = thing.color if known_shape else thing.shape
    offered = [color or shape for color, shape in options]
    if len(offered) == 1:
        return "yes" if found == offered[0] else "no"
    return found if not offered or found in offered else None


@pytest.fixture
def look():
    return answer_by_looking
