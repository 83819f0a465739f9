"""Random choices, drawn so that equal seeds give equal choices on every platform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_Item = TypeVar("_Item")


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
