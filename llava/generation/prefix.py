"""Rows of questions in one cache: what each token may see, and the passes that fill the cache.

Every cache slot of a row has an owner: the shared prefix, one of the row's questions, or nobody
(padding). A token sees the prefix and the slots of its own question that come before it, so any
number of questions lie side by side behind one prefix that is stored once.

Legend: G rows, L cache slots, N new tokens of a row, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

PREFIX = -1
NOBODY = -2


class RowCache:
    """The key-value cache of G rows with the owner and the position of every slot.

    Args:
        model: LLaMA or Mistral, with or without LLaVA's parts.
        num_rows: G.
    """

    def __init__(self, model: Any, num_rows: int) -> None:
        self._model = model
        self._inner = model.base_model
        self._window: int | None = getattr(model.config, "sliding_window", None)
        device = model.device
        self.cache = DynamicCache()
        self.owners = torch.empty(num_rows, 0, dtype=torch.long, device=device)  # (G, L)
        self.positions = torch.empty(num_rows, 0, dtype=torch.long, device=device)  # (G, L)

    @property
    def num_slots(self) -> int:
        """L."""
        return int(self.owners.shape[1])

    def prefill(self, embeds: Sequence[torch.Tensor]) -> torch.Tensor:
        """Computes the prefixes; returns hidden states (G, L, D), right-padded like the rows.

        Args:
            embeds: (L_i, D), one a row.
        """
        lengths = torch.tensor([len(row) for row in embeds], device=self.owners.device)
        padded = torch.nn.utils.rnn.pad_sequence(list(embeds), batch_first=True)
        steps = torch.arange(padded.shape[1], device=lengths.device).expand(len(embeds), -1)
        owners = torch.where(steps < lengths[:, None], PREFIX, NOBODY)
        # padding comes last, so plain causal attention keeps it from every token that counts
        return self._forward(padded, owners, steps, mask=None)

    def extend(
        self, embeds: torch.Tensor, owners: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Computes new tokens of questions; returns their hidden states (G, N, D).

        Args:
            embeds: (G, N, D).
            owners: (G, N) int64, the question within the row, or `NOBODY` for padding.
            positions: (G, N) int64, counted from the start of each question's prompt.
        """
        mask = self._visible(owners, positions)
        return self._forward(embeds, owners, positions, mask=mask)

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Drops all rows but these; rows: (G',) int64."""
        self.cache.batch_select_indices(rows)
        self.owners, self.positions = self.owners[rows], self.positions[rows]

    def compact(self, alive: torch.Tensor) -> None:
        """Drops the slots of finished questions, if that halves the cache.

        Args:
            alive: (G, Q) bool: whether question q of the row goes on.
        """
        of_alive = (self.owners >= 0) & alive.gather(1, self.owners.clamp(min=0))
        keep = (self.owners == PREFIX) | of_alive
        longest = int(keep.sum(1).max())
        if 2 * longest > self.num_slots:
            return
        # kept slots first, in their order; what a shorter row has beyond them is nobody's
        order = torch.argsort((~keep).long(), dim=1, stable=True)[:, :longest]
        self.owners = torch.where(keep.gather(1, order), self.owners.gather(1, order), NOBODY)
        self.positions = self.positions.gather(1, order)
        for layer in self.cache.layers:
            index = order[:, None, :, None].expand(-1, layer.keys.shape[1], -1, layer.keys.shape[3])
            layer.keys, layer.values = layer.keys.gather(2, index), layer.values.gather(2, index)

    def _visible(self, owners: torch.Tensor, positions: torch.Tensor) -> torch.Tensor | None:
        """(G, 1, N, L + N) bool: what each new token sees; None if that is everything."""
        slot_owners = torch.cat((self.owners, owners), dim=1)[:, None, :]
        slot_positions = torch.cat((self.positions, positions), dim=1)[:, None, :]
        own = slot_owners == owners[:, :, None]
        visible = (slot_owners == PREFIX) | (own & (slot_positions <= positions[:, :, None]))
        if self._window is not None:
            visible &= positions[:, :, None] - slot_positions < self._window
        return None if owners.shape[1] == 1 and bool(visible.all()) else visible[:, None]

    def _forward(
        self,
        embeds: torch.Tensor,
        owners: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        outputs = self._inner(
            inputs_embeds=embeds,
            attention_mask=mask if mask is None else self._as_additive(mask, embeds.dtype),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.owners = torch.cat((self.owners, owners), dim=1)
        self.positions = torch.cat((self.positions, positions), dim=1)
        return outputs.last_hidden_state

    def _as_additive(self, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """A bool mask where attention takes one, else 0 and the dtype's lowest value."""
        if self._model.config._attn_implementation == "sdpa":  # noqa: SLF001
            return mask
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
            ~mask, torch.finfo(dtype).min
        )
