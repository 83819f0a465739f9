"""Keys and values of one layer in memory that is taken once.

A cache that is joined anew for each token copies everything that it holds. Here a token is written
behind what is there, in memory for as many slots as its pack was planned with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer


@dataclass(slots=True)
class Place:
    """Where a pass reads and writes; one for all layers of a cache.

    Attributes:
        num_rows: Rows that there is memory for.
        num_slots: Slots that each of them has memory for.
        rows: Those that go through the model.
        length: How many of their slots are in use.
    """

    num_rows: int
    num_slots: int
    rows: slice = field(default_factory=lambda: slice(0, 0))
    length: int = 0


class SlotLayer(DynamicLayer):
    """A layer of a transformers cache; `keys` and `values` are a part of larger tensors.

    `num_bytes_moved` counts what was copied from one place in memory to another.

    Args:
        place: Says which part; whoever runs a pass sets it before and after.

    Legend: G rows of the pass, R rows, H key-value heads, L slots, N new slots, d width of a head.
    """

    _memory: tuple[torch.Tensor, torch.Tensor]  # (R, H, slots, d) each

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place
        self.num_bytes_moved = 0

    def get_seq_length(self) -> int:
        """Returns L, new slots not counted."""
        return self._place.length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds new slots; returns all keys and all values, (G, H, L + N, d) each.

        Args:
            key_states: (G, H, N, d).
            value_states: (G, H, N, d).
        """
        place = self._place
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._memory = self._take_memory(key_states), self._take_memory(value_states)
        elif self._memory[0].shape[2] < place.num_slots:
            self._grow()
        end = place.length + key_states.shape[2]
        for memory, states in zip(self._memory, (key_states, value_states), strict=True):
            memory[place.rows, :, place.length : end] = states
        self.keys, self.values = (memory[place.rows, :, :end] for memory in self._memory)
        return self.keys, self.values

    def move_rows(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Puts the first slots of some rows in the place of others."""
        for memory in self._memory:
            moved = memory[list(sources), :, :length]
            memory[list(targets), :, :length] = moved
            self.num_bytes_moved += moved.nbytes

    def keep_slots(self, slots: torch.Tensor) -> None:
        """Puts these slots first, in this order; slots: (G, L') int64 on any device."""
        for memory in self._memory:
            _, num_heads, _, width = memory.shape
            index = slots.to(memory.device)[:, None, :, None].expand(-1, num_heads, -1, width)
            kept = memory[self._place.rows].gather(2, index)
            memory[self._place.rows, :, : slots.shape[1]] = kept
            self.num_bytes_moved += kept.nbytes

    def clear(self, slots: torch.Tensor, start: int) -> None:
        """Makes zeros of slots that nothing was written to: what a mask hides has to be a number.

        Args:
            slots: (G, N) bool on any device, which of the slots from `start` on.
            start: The first of them.
        """
        for memory in self._memory:
            part = memory[self._place.rows, :, start : start + slots.shape[1]]
            part.masked_fill_(slots.to(memory.device)[:, None, :, None], 0)

    def _take_memory(self, states: torch.Tensor) -> torch.Tensor:
        _, num_heads, _, width = states.shape
        return states.new_empty(self._place.num_rows, num_heads, self._place.num_slots, width)

    def _grow(self) -> None:
        """Answers longer than planned, which are seldom, need all in larger memory."""
        larger = tuple(map(self._take_memory, self._memory))
        for memory, old in zip(larger, self._memory, strict=True):
            memory[:, :, : old.shape[2]] = old
            self.num_bytes_moved += old.nbytes
        self._memory = larger[0], larger[1]
