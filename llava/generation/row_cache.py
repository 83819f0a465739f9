"""Rows of questions in one cache: what each token may see, and the passes that fill the cache.

Every cache slot of a row has an owner: the shared prefix, one of the row's questions, or nobody
(padding). A token sees the prefix and the slots of its own question that come before it, so any
number of questions lie side by side behind one prefix that is stored once.

Legend: G rows, L cache slots, N new tokens of a row, D embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import Cache

from llava.generation.meter import PackMeter
from llava.generation.slots import SlotLayer

PREFIX = -1
NOBODY = -2
FLASH = "flash_attention_2"
"""Attention that takes no mask of its own; it reads prefixes, and `sdpa` the questions."""


class RowCache:
    """The key-value cache of G rows with the owner and the position of every slot.

    Args:
        model: LLaMA or Mistral, with or without LLaVA's parts.
        num_rows: G.
        num_slots: L when the pack is through, as far as it is known.
        meter: Counts the passes.
    """

    def __init__(self, model: Any, num_rows: int, num_slots: int, meter: PackMeter) -> None:
        self._meter = meter
        self._inner = model.base_model
        self._embed = model.get_input_embeddings()
        self._device = model.device
        self._window: int | None = getattr(model.config, "sliding_window", None)
        # Whether every slot is the prefix's or its row's only question's, so that a single new
        # token sees all of them; kept on the host, as asking the device would wait for it.
        self._is_uniform = True
        self._last_position = 0
        self.layers = [SlotLayer(num_slots) for _ in range(model.config.num_hidden_layers)]
        self.cache = Cache(layers=list(self.layers))
        empty = torch.empty(num_rows, 0, dtype=torch.long, device=self._device)
        self.owners = empty  # (G, L)
        self.positions = empty  # (G, L)

    @property
    def num_slots(self) -> int:
        """L."""
        return int(self.owners.shape[1])

    def prefill(self, embeds: Sequence[torch.Tensor]) -> torch.Tensor:
        """Computes the prefixes; returns hidden states (G, L, D), right-padded like the rows.

        Args:
            embeds: (L_i, D), one a row.
        """
        lengths = [len(row) for row in embeds]
        self._is_uniform = len(set(lengths)) == 1
        ends = torch.tensor(lengths).to(self._device, non_blocking=True)
        padded = torch.nn.utils.rnn.pad_sequence(list(embeds), batch_first=True)
        steps = torch.arange(padded.shape[1], device=self._device).expand(len(embeds), -1)
        owners = torch.where(steps < ends[:, None], PREFIX, NOBODY)
        self._meter.count_pass(padded.shape[:2], 0, sum(lengths), masked=False)
        # padding comes last, so plain causal attention keeps it from every token that counts
        return self._forward(padded, owners, steps)

    def extend(
        self, ids: torch.Tensor, owners: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Computes new tokens of questions; returns their hidden states (G, N, D).

        Args:
            ids: (G, N) int64 tokens; all three tensors on the CPU.
            owners: (G, N) int64, the question within the row, or `NOBODY` for padding.
            positions: (G, N) int64, counted from the start of each question's prompt.
        """
        self._is_uniform &= not bool(owners.any())  # a row's only question has number 0
        self._last_position = max(self._last_position, int(positions.max()))
        fits = self._window is None or self._last_position < self._window
        sees_all = owners.shape[1] == 1 and self._is_uniform and fits
        num_useful = int((owners != NOBODY).sum())
        self._meter.count_pass(owners.shape, self.num_slots, num_useful, masked=not sees_all)
        stacked = torch.stack((ids, owners, positions)).to(self._device, non_blocking=True)
        ids, owners, positions = stacked.unbind()
        embeds = self._embed(ids)
        if sees_all:
            return self._forward(embeds, owners, positions)
        mask = self._as_taken(self._visible(owners, positions), embeds.dtype)
        with self._attention_with_masks():
            return self._forward(embeds, owners, positions, mask)

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Drops all rows but these; rows: (G',) int64."""
        for layer in self.layers:
            layer.keep_rows(rows)
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
        for layer in self.layers:
            layer.keep_slots(order)

    def _visible(self, owners: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """(G, 1, N, L + N) bool: what each new token sees."""
        slot_owners = torch.cat((self.owners, owners), dim=1)[:, None, :]
        slot_positions = torch.cat((self.positions, positions), dim=1)[:, None, :]
        own = slot_owners == owners[:, :, None]
        visible = (slot_owners == PREFIX) | (own & (slot_positions <= positions[:, :, None]))
        if self._window is not None:
            visible &= positions[:, :, None] - slot_positions < self._window
        return visible[:, None]

    def _forward(
        self,
        embeds: torch.Tensor,
        owners: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        outputs = self._inner(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.owners = torch.cat((self.owners, owners), dim=1)
        self.positions = torch.cat((self.positions, positions), dim=1)
        return outputs.last_hidden_state

    @contextmanager
    def _attention_with_masks(self) -> Iterator[None]:
        """Has attention that takes no masks stand back for one that does."""
        config = self._inner.config
        chosen = config._attn_implementation  # noqa: SLF001 - transformers has no other name for it
        if chosen != FLASH:
            yield
            return
        config._attn_implementation = "sdpa"  # noqa: SLF001
        try:
            yield
        finally:
            config._attn_implementation = chosen  # noqa: SLF001

    def _as_taken(self, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The mask as attention takes it: bool on a CPU, else 0 and the dtype's lowest value.

        `sdpa` takes a bool mask on every device, but on a GPU makes numbers of it in each layer.
        """
        eager = self._inner.config._attn_implementation == "eager"  # noqa: SLF001
        if mask.device.type == "cpu" and not eager:
            return mask
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
            ~mask, torch.finfo(dtype).min
        )
