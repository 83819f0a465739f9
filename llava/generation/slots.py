"""Keys and values of one layer in memory with room for more.

A cache that is joined anew for each token copies everything that it holds. Here a token is written
behind what is there, and memory is taken in larger steps.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Slots taken beyond what is needed; answers of usual length fit."""


class SlotLayer(DynamicLayer):
    """A layer of a transformers cache; `keys` and `values` are the used part of larger tensors.

    Legend: G rows, H key-value heads, L slots, N new slots, d width of a head.
    """

    keys: torch.Tensor
    values: torch.Tensor
    _memory: tuple[torch.Tensor, torch.Tensor]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds new slots; returns all keys and all values, (G, H, L + N, d) each.

        Args:
            key_states: (G, H, N, d).
            value_states: (G, H, N, d).
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.replace(key_states[:, :, :0], value_states[:, :, :0])
        length = self.keys.shape[2]
        end = length + key_states.shape[2]
        if end > self._memory[0].shape[2]:
            self._memory = _with_room(self.keys, end), _with_room(self.values, end)
        for memory, states in zip(self._memory, (key_states, value_states), strict=True):
            memory[:, :, length:end] = states
        self.keys, self.values = self._memory[0][:, :, :end], self._memory[1][:, :, :end]
        return self.keys, self.values

    def replace(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Holds these instead, (G, H, L, d) each, with no room for more yet."""
        self.keys, self.values = keys, values
        self._memory = keys, values

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Drops all rows but these; rows: (G',) int64 on any device."""
        rows = rows.to(self.keys.device)
        self.replace(self.keys[rows], self.values[rows])

    def keep_slots(self, slots: torch.Tensor) -> None:
        """Drops all slots but these, in this order; slots: (G, L') int64 on any device."""
        _, num_heads, _, width = self.keys.shape
        index = slots.to(self.keys.device)[:, None, :, None].expand(-1, num_heads, -1, width)
        self.replace(self.keys.gather(2, index), self.values.gather(2, index))


def _with_room(used: torch.Tensor, length: int) -> torch.Tensor:
    """Memory for some slots and `ROOM` more that begins with the used ones."""
    num_rows, num_heads, num_used, width = used.shape
    memory = used.new_empty(num_rows, num_heads, length + ROOM, width)
    memory[:, :, :num_used] = used
    return memory
