"""What the demo questions share: what they may speak of, in which words, and that they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from evals.demo.scene import COLORS, PLURALS, SHAPES, Scene, pick

Look = tuple[str | None, str | None]
"""A color, a shape, or both; None where nothing is said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question about a picture.

    Attributes:
        kind: The benchmark's own name of its kind.
        text: The question.
        answer: One word; of several annotators, what most of them say.
    """

    kind: str
    text: str
    answer: str


_Question = TypeVar("_Question", bound=Question)


def ask_different(
    shares: Mapping[Callable[[Scene, np.random.Generator], _Question], float],
    scene: Scene,
    rng: np.random.Generator,
    num_questions: int,
) -> list[_Question]:
    """`num_questions` questions about a scene, no text twice.

    `shares` says of each way to ask how often it is taken; they sum to 1.
    """
    ways, weights = list(shares), list(shares.values())
    questions: dict[str, _Question] = {}
    while len(questions) < num_questions:
        question = ways[int(rng.choice(len(ways), p=weights))](scene, rng)
        questions.setdefault(question.text, question)  # a known text is drawn anew
    return list(questions.values())


def sample_look(scene: Scene, rng: np.random.Generator) -> Look:
    """A color, a shape or a pair of both that occurs in half of the draws.

    Half of the absent pairs are made of a color and a shape that do occur, on different things.
    """
    parts = int(rng.integers(4))  # color, shape, pair, pair
    occurs = rng.random() < 0.5
    if occurs:
        thing = pick(rng, scene.things)
        return (None if parts == 1 else thing.color, None if parts == 0 else thing.shape)
    if parts == 0:
        return pick(rng, sorted(set(COLORS) - scene.colors)), None
    absent_shapes = sorted(set(SHAPES) - scene.shapes)
    if parts == 1 and absent_shapes:  # a picture of up to six things may show all six shapes
        return None, pick(rng, absent_shapes)
    swapped = rng.random() < 0.5
    colors, shapes = (scene.colors, scene.shapes) if swapped else (set(COLORS), set(SHAPES))
    pairs = [
        (color, shape)
        for color in sorted(colors)
        for shape in sorted(shapes)
        if not scene.find(color=color, shape=shape)
    ]
    return pick(rng, pairs)


def described(color: str | None, shape: str | None, *, plural: bool = False) -> str:
    """Things by what is known of them.

    >>> described("red", "ring"), described(None, "ring"), described("red", None)
    ('red ring', 'ring', 'red shape')
    >>> described(None, "cross", plural=True), described("red", None, plural=True)
    ('crosses', 'red shapes')
    """
    noun = shape or "shape"
    noun = PLURALS.get(noun, "shapes") if plural else noun
    return f"{color} {noun}" if color else noun


def with_article(noun_phrase: str) -> str:
    """The phrase behind the right indefinite article.

    >>> with_article("red ring"), with_article("orange ring")
    ('a red ring', 'an orange ring')
    """
    return f"{'an' if noun_phrase[0] in 'aeiou' else 'a'} {noun_phrase}"
