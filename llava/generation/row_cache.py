"""Rows of questions in one cache: what each token may see, and the passes that fill the cache.

Every cache slot of a row has an owner: the shared prefix, one of the row's questions, or nobody
(padding). A token sees the prefix and the slots of its own question that come before it, so any
number of questions lie side by side behind one prefix that is stored once.

Legend: G rows, L cache slots, N new tokens of a row, D embedding width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import Cache

from llava.generation.meter import PackMeter
from llava.generation.slots import Place, SlotLayer

PREFIX = -1
NOBODY = -2
_SLIDING = "sliding_attention"
FLASH = "flash_attention_2"
"""Attention that takes no mask of its own; it reads prefixes, and `sdpa` the questions."""


class RowCache:
    """The key-value cache of G rows with the owner and the position of every slot.

    A pass goes through some rows, given as a range, which may lie at different lengths: it writes
    behind the longest, and what others have before that is nobody's.

    Args:
        model: A language model that is packed (`why_alone`), with or without LLaVA's parts.
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
        # where layers differ in what they see, each kind has a mask by its name
        kinds = getattr(model.config, "layer_types", None)
        self._kinds: frozenset[str] = frozenset(kinds or ())
        self._last_position = 0
        self._place = Place(num_rows, num_slots)
        self.layers = [SlotLayer(self._place) for _ in range(model.config.num_hidden_layers)]
        self._cache = Cache(layers=list(self.layers))
        # Kept on the host, as asking the device would wait for it.
        self._lengths = [0] * num_rows
        # Whether every slot is the prefix's or its row's only question's: its next token sees all.
        self._is_full = [True] * num_rows
        size = num_rows, num_slots
        self._owners = torch.full(size, NOBODY, device=self._device)
        self._positions = torch.zeros(size, dtype=torch.long, device=self._device)

    def prefill(self, rows: range, embeds: Sequence[torch.Tensor]) -> torch.Tensor:
        """Computes the prefixes of rows; returns hidden states of their last tokens (G', D).

        Args:
            rows: Nothing of theirs has been computed yet.
            embeds: (L_i, D), one a row.
        """
        lengths = [len(row) for row in embeds]
        # on their way before the pass is started: later they would wait for its end
        ends = torch.tensor(lengths).to(self._device, non_blocking=True)
        padded = torch.nn.utils.rnn.pad_sequence(list(embeds), batch_first=True)
        steps = torch.arange(padded.shape[1], device=self._device).expand(len(embeds), -1)
        owners = torch.where(steps < ends[:, None], PREFIX, NOBODY)
        self._meter.count_pass(padded.shape[:2], 0, sum(lengths), masked=False)
        # padding comes last, so plain causal attention keeps it from every token that counts
        hidden = self._forward(rows, padded, owners, steps)
        for row, length in zip(rows, lengths, strict=True):
            self._is_full[row] = length == padded.shape[1]
        ends = ends.to(hidden.device)
        return hidden[torch.arange(len(embeds), device=hidden.device), ends - 1]

    def extend(
        self, rows: range, ids: torch.Tensor, owners: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Computes new tokens of questions; returns their hidden states (G', N, D).

        Args:
            rows: G' of the rows.
            ids: (G', N) int64 tokens; all three tensors on the CPU.
            owners: (G', N) int64, the question within the row, or `NOBODY` for padding.
            positions: (G', N) int64, counted from the start of each question's prompt.
        """
        sees_all = self._sees_all(rows, owners, positions)
        num_useful = int((owners != NOBODY).sum())
        self._meter.count_pass(owners.shape, self._length(rows), num_useful, masked=not sees_all)
        stacked = torch.stack((ids, owners, positions)).to(self._device, non_blocking=True)
        ids, owners, positions = stacked.unbind()
        embeds = self._embed(ids)
        if sees_all:
            return self._forward(rows, embeds, owners, positions)
        masks = self._masks(rows, owners, positions, embeds.dtype)
        with self._attention_with_masks():
            return self._forward(rows, embeds, owners, positions, masks)

    def keep_rows(self, rows: Sequence[int]) -> dict[int, int]:
        """Makes some rows the first ones, in place of others; returns where each lies then."""
        places = _first_places(rows)
        moves = [(row, place) for row, place in places.items() if row != place]
        if not moves:
            return places
        sources, targets = map(list, zip(*moves, strict=True))
        length = self._length(sources)
        for layer in self.layers:
            layer.move_rows(sources, targets, length)
        for tensor in (self._owners, self._positions):
            tensor[targets] = tensor[sources]
        for source, target in moves:
            self._lengths[target] = self._lengths[source]
            self._is_full[target] = self._is_full[source]
        return places

    def compact(self, alive: torch.Tensor) -> None:
        """Drops the slots of finished questions in the first rows, if that halves them.

        Args:
            alive: (G', Q) bool: whether question q of the row goes on.
        """
        rows = range(len(alive))
        length = self._length(rows)
        owners, positions = self._used(rows, length)
        of_alive = (owners >= 0) & alive.gather(1, owners.clamp(min=0))
        keep = (owners == PREFIX) | of_alive
        longest = int(keep.sum(1).max())
        if 2 * longest > length:
            return
        # kept slots first, in their order; what a shorter row has beyond them is nobody's
        order = torch.argsort((~keep).long(), dim=1, stable=True)[:, :longest]
        kept = torch.where(keep.gather(1, order), owners.gather(1, order), NOBODY)
        self._positions[: len(rows), :longest] = positions.gather(1, order)
        self._owners[: len(rows), :longest] = kept
        self._owners[: len(rows), longest:] = NOBODY
        self._place.rows = slice(0, len(rows))
        for layer in self.layers:
            layer.keep_slots(order)
        self._lengths[: len(rows)] = [longest] * len(rows)

    def _sees_all(self, rows: range, owners: torch.Tensor, positions: torch.Tensor) -> bool:
        """Whether new tokens need no mask: one a row, which sees every slot of it."""
        self._last_position = max(self._last_position, int(positions.max()))
        fits = self._window is None or self._last_position < self._window
        sees_all = owners.shape[1] == 1 and fits
        length = self._length(rows)
        for row, new in zip(rows, owners.tolist(), strict=True):
            is_full = self._is_full[row] and self._lengths[row] == length
            sees_all &= new[0] == NOBODY or (is_full and new[0] == 0)
            self._is_full[row] = is_full and not any(new)  # a row's only question has number 0
        return sees_all

    def _length(self, rows: Iterable[int]) -> int:
        return max(self._lengths[row] for row in rows)

    def _used(self, rows: range, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Owners and positions of rows, (G', L) each."""
        places = slice(rows.start, rows.stop), slice(0, length)
        return self._owners[places], self._positions[places]

    def _masks(
        self, rows: range, owners: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """What each new token sees, as attention takes it; by kind of layer where they differ."""
        if not self._kinds:
            visible = self._visible(rows, owners, positions, self._window)
            return self._as_taken(visible, dtype)
        windows = {kind: self._window if kind == _SLIDING else None for kind in self._kinds}
        return {
            kind: self._as_taken(self._visible(rows, owners, positions, window), dtype)
            for kind, window in windows.items()
        }

    def _visible(
        self, rows: range, owners: torch.Tensor, positions: torch.Tensor, window: int | None
    ) -> torch.Tensor:
        """(G', 1, N, L + N) bool: what each new token sees."""
        used_owners, used_positions = self._used(rows, self._length(rows))
        slot_owners = torch.cat((used_owners, owners), dim=1)[:, None, :]
        slot_positions = torch.cat((used_positions, positions), dim=1)[:, None, :]
        own = slot_owners == owners[:, :, None]
        visible = (slot_owners == PREFIX) | (own & (slot_positions <= positions[:, :, None]))
        if window is not None:
            visible &= positions[:, :, None] - slot_positions < window
        return visible[:, None]

    def _forward(
        self,
        rows: range,
        embeds: torch.Tensor,
        owners: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        start = self._length(rows)
        end = start + embeds.shape[1]
        self._reserve(end)
        self._place.rows, self._place.length = slice(rows.start, rows.stop), start
        self._level(rows, start)
        outputs = self._inner(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._owners[rows.start : rows.stop, start:end] = owners
        self._positions[rows.start : rows.stop, start:end] = positions
        for row in rows:
            self._lengths[row] = end
        return outputs.last_hidden_state

    def _level(self, rows: range, length: int) -> None:
        """Fills shorter rows up to a length with slots that are nobody's."""
        lengths = [self._lengths[row] for row in rows]
        shortest = min(lengths)
        if shortest == length:
            return
        unwritten = torch.arange(shortest, length) >= torch.tensor(lengths)[:, None]
        for layer in self.layers:
            layer.clear(unwritten, shortest)

    def _reserve(self, num_slots: int) -> None:
        """Has room for so many slots: half of them more where answers are longer than planned."""
        missing = num_slots + num_slots // 2 - self._place.num_slots
        if num_slots <= self._place.num_slots:
            return
        self._place.num_slots += missing
        self._owners = torch.nn.functional.pad(self._owners, (0, missing), value=NOBODY)
        self._positions = torch.nn.functional.pad(self._positions, (0, missing))

    @contextmanager
    def _attention_with_masks(self) -> Iterator[None]:
        """Has attention that takes no masks stand back for one that does."""
        # layers that were built for another model, which lends them, have its configuration
        configs = [self._inner.config, *(layer.self_attn.config for layer in self._inner.layers)]
        # transformers has no other name for it
        chosen = [(config, config._attn_implementation) for config in configs]  # noqa: SLF001
        if chosen[0][1] != FLASH:
            yield
            return
        for config in configs:
            config._attn_implementation = "sdpa"  # noqa: SLF001
        try:
            yield
        finally:
            for config, name in chosen:
                config._attn_implementation = name  # noqa: SLF001

    def _as_taken(self, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The mask as attention takes it: bool on a CPU, else 0 and the dtype's lowest value.

        `sdpa` takes a bool mask on every device, but on a GPU makes numbers of it in each layer.
        """
        eager = self._inner.config._attn_implementation == "eager"  # noqa: SLF001
        if mask.device.type == "cpu" and not eager:
            return mask
        return mask_as_numbers(mask, dtype)


def mask_as_numbers(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Returns 0 where a mask (G, 1, N, L) is True, elsewhere the dtype's lowest value.

    Its lines begin at multiples of 8, or attention on a GPU would copy it in each layer.
    """
    length = mask.shape[-1]
    lines = torch.zeros(*mask.shape[:-1], -(-length // 8) * 8, dtype=dtype, device=mask.device)
    return lines[..., :length].masked_fill_(~mask, torch.finfo(dtype).min)


def _first_places(rows: Sequence[int]) -> dict[int, int]:
    """Where each of some rows lies once they are the first ones: as many as can stay.

    >>> _first_places([1, 5, 7])
    {1: 1, 5: 0, 7: 2}
    """
    num_rows = len(rows)
    free = iter(sorted(set(range(num_rows)) - set(rows)))
    return {row: row if row < num_rows else next(free) for row in rows}
