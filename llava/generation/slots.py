"""Keys and values of one layer in memory that is taken once.

A cache that is joined anew for each token copies everything that it holds. Here a token is written
behind what is there, in memory for as many slots as its pack was planned with.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer


class SlotLayer(DynamicLayer):
    """A layer of a transformers cache; `keys` and `values` are the used part of larger tensors.

    `num_bytes_moved` counts what was copied from one place in memory to another.

    Args:
        num_planned: Slots that it will hold.

    Legend: G rows, H key-value heads, L slots, N new slots, d width of a head.
    """

    keys: torch.Tensor
    values: torch.Tensor
    _memory: tuple[torch.Tensor, torch.Tensor]

    def __init__(self, num_planned: int) -> None:
        super().__init__()
        self._num_planned = num_planned
        self.num_bytes_moved = 0

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
            self._hold(key_states[:, :, :0], value_states[:, :, :0])
        length = self.keys.shape[2]
        end = length + key_states.shape[2]
        if end > self._memory[0].shape[2]:  # longer answers than were planned: seldom, so by half
            self._num_planned = max(self._num_planned, end + end // 2)
            self._hold(self.keys, self.values)
        for memory, states in zip(self._memory, (key_states, value_states), strict=True):
            memory[:, :, length:end] = states
        self.keys, self.values = (memory[:, :, :end] for memory in self._memory)
        return self.keys, self.values

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Drops all rows but these; rows: (G',) int64 on any device."""
        rows = rows.to(self.keys.device)
        self._hold(self.keys[rows], self.values[rows])

    def keep_slots(self, slots: torch.Tensor) -> None:
        """Drops all slots but these, in this order; slots: (G, L') int64 on any device."""
        _, num_heads, _, width = self.keys.shape
        index = slots.to(self.keys.device)[:, None, :, None].expand(-1, num_heads, -1, width)
        self._hold(self.keys.gather(2, index), self.values.gather(2, index))

    def _hold(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Takes memory for all planned slots that begins with these, (G, H, L, d) each."""
        num_rows, num_heads, length, width = keys.shape
        size = num_rows, num_heads, max(self._num_planned, length), width
        self._memory = keys.new_empty(size), values.new_empty(size)
        for memory, used in zip(self._memory, (keys, values), strict=True):
            memory[:, :, :length] = used
        self.num_bytes_moved += keys.nbytes + values.nbytes
        self.keys, self.values = (memory[:, :, :length] for memory in self._memory)
