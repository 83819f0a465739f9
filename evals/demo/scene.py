"""What a demo picture shows, a few colored shapes on a 3 x 3 grid, and random choices.

Equal seeds give equal choices on every platform.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

_Item = TypeVar("_Item")

GRID_SIZE = 3

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 36, 40),
    "green": (40, 160, 60),
    "blue": (40, 76, 222),
    "yellow": (242, 222, 48),
    "purple": (146, 56, 178),
    "orange": (246, 138, 28),
    "white": (250, 250, 250),
    "black": (16, 16, 16),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "diamond", "cross", "ring")
PLURALS: dict[str, str] = {shape: f"{shape}s" for shape in SHAPES} | {"cross": "crosses"}

_MIN_THINGS, _MAX_THINGS = 3, 6
_SHARE_OF_REPEATED_SHAPES = 0.35
_SHARE_OF_REPEATED_COLORS = 0.25


def pick(rng: np.random.Generator, items: Sequence[_Item]) -> _Item:
    """One of `items`, each equally likely."""
    return items[int(rng.integers(len(items)))]


def pick_some(rng: np.random.Generator, items: Sequence[_Item], count: int) -> list[_Item]:
    """`count` different members of `items` in random order.

    Raises:
        ValueError: there are fewer than `count` items.
    """
    if count > len(items):
        raise ValueError(f"`count` must be at most {len(items)}, but is {count}.")
    # By places: `rng.choice` would turn the items into an array of their common type.
    return [items[int(index)] for index in rng.permutation(len(items))[:count]]


def shuffled(rng: np.random.Generator, items: Sequence[_Item]) -> list[_Item]:
    """All `items` in random order."""
    return pick_some(rng, items, len(items))


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One shape of a picture.

    Attributes:
        color: A key of `COLORS`.
        shape: One of `SHAPES`.
        row: 0 (top) to 2 (bottom).
        column: 0 (left) to 2 (right).
    """

    color: str
    shape: str
    row: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All things of one picture; no two of them share both color and shape."""

    things: tuple[Thing, ...]

    @property
    def colors(self) -> frozenset[str]:
        """The colors that occur."""
        return frozenset(thing.color for thing in self.things)

    @property
    def shapes(self) -> frozenset[str]:
        """The shapes that occur."""
        return frozenset(thing.shape for thing in self.things)

    def find(self, *, color: str | None = None, shape: str | None = None) -> tuple[Thing, ...]:
        """The things of a color, of a shape, or of both.

        >>> thing = Thing(color="red", shape="ring", row=0, column=2)
        >>> Scene(things=(thing,)).find(color="red") == (thing,)
        True
        >>> Scene(things=(thing,)).find(color="red", shape="cross")
        ()
        """
        return tuple(
            thing
            for thing in self.things
            if color in (None, thing.color) and shape in (None, thing.shape)
        )

    @property
    def things_known_by_shape(self) -> tuple[Thing, ...]:
        """The things that "the <shape>" names without doubt."""
        return tuple(thing for thing in self.things if len(self.find(shape=thing.shape)) == 1)

    @property
    def things_known_by_color(self) -> tuple[Thing, ...]:
        """The things that "the <color> shape" names without doubt."""
        return tuple(thing for thing in self.things if len(self.find(color=thing.color)) == 1)


def sample_scene(rng: np.random.Generator) -> Scene:
    """A random scene that has at least one thing known by its shape and one by its color.

    Colors and shapes repeat more often than chance would have it, so that counting has something
    to count.
    """
    while True:  # one scene in six is thrown away
        scene = _sample_any_scene(rng)
        if scene.things_known_by_shape and scene.things_known_by_color:
            return scene


def _sample_any_scene(rng: np.random.Generator) -> Scene:
    num_things = int(rng.integers(_MIN_THINGS, _MAX_THINGS + 1))
    cells = rng.permutation(GRID_SIZE * GRID_SIZE)[:num_things]
    looks: list[tuple[str, str]] = []
    while len(looks) < num_things:
        color, shape = pick(rng, tuple(COLORS)), pick(rng, SHAPES)
        if looks and rng.random() < _SHARE_OF_REPEATED_SHAPES:
            shape = pick(rng, looks)[1]
        if looks and rng.random() < _SHARE_OF_REPEATED_COLORS:
            color = pick(rng, looks)[0]
        if (color, shape) not in looks:
            looks.append((color, shape))
    places = (divmod(int(cell), GRID_SIZE) for cell in cells)
    things = (
        Thing(color=color, shape=shape, row=row, column=column)
        for (row, column), (color, shape) in zip(places, looks, strict=True)
    )
    return Scene(things=tuple(things))
