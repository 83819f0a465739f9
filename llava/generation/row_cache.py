"""Rows of questions in one cache: what each token may see, and the passes that fill the cache.

Every cache slot of a row has an owner: the shared prefix, one of the row's questions, or nobody
(padding). A token sees the prefix and the slots of its own question that come before it, so any
number of questions lie side by side behind one prefix that is stored once.

Legend: G rows, G' those of a pass, H key-value heads, L cache slots, N new tokens of a row, D
embedding width, d width of a head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicLayer

from llava.generation.meter import PackMeter

PREFIX = -1
NOBODY = -2
_SLIDING = "sliding_attention"
_TAKE_MASKS = ("eager", "sdpa")
"""Attention that takes masks of numbers; any other reads prefixes, and `sdpa` the questions."""


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
    """A layer of a transformers cache in memory that is taken once.

    One that is joined anew for each token copies everything that it holds. Here a token is written
    behind what is there, in memory for as many slots as its pack was planned with; `keys` and
    `values` are a part of it.

    `num_bytes_moved` counts what was copied from one place in memory to another.

    Args:
        place: Says which part; whoever runs a pass sets it before and after.
    """

    _memory: list[torch.Tensor]  # keys and values, (G, H, slots, d) each

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
        """Adds new slots, (G', H, N, d); returns all keys and values, (G', H, L + N, d) each."""
        place, new = self._place, (key_states, value_states)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._memory = [
                states.new_empty(place.num_rows, states.shape[1], place.num_slots, states.shape[3])
                for states in new
            ]
        elif missing := place.num_slots - self._memory[0].shape[2]:  # longer answers than planned
            self.num_bytes_moved += sum(memory.nbytes for memory in self._memory)
            self._memory = [pad(memory, (0, 0, 0, missing)) for memory in self._memory]
        end = place.length + key_states.shape[2]
        for memory, states in zip(self._memory, new, strict=True):
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
        """Puts these slots first, in this order; slots: (G', L') int64 on any device."""
        for memory in self._memory:
            index = slots.to(memory.device)[:, None, :, None]
            kept = memory[self._place.rows].take_along_dim(index, 2)
            memory[self._place.rows, :, : slots.shape[1]] = kept
            self.num_bytes_moved += kept.nbytes

    def clear(self, slots: torch.Tensor, start: int) -> None:
        """Makes zeros of slots that nothing was written to: what a mask hides has to be a number.

        Args:
            slots: (G', N) bool on any device, which of the slots from `start` on.
            start: The first of them.
        """
        for memory in self._memory:
            part = memory[self._place.rows, :, start : start + slots.shape[1]]
            part.masked_fill_(slots.to(memory.device)[:, None, :, None], 0)


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
        kinds = getattr(model.config, "layer_types", None) or (None,)
        self._windows = {kind: self._window if kind in (None, _SLIDING) else None for kind in kinds}
        self._last_position = 0
        self._place = Place(num_rows, num_slots)
        self.layers = [SlotLayer(self._place) for _ in range(model.config.num_hidden_layers)]
        self._cache = Cache(layers=list(self.layers))
        # Kept on the host, as asking the device would wait for it.
        self._lengths = [0] * num_rows
        # Whether every slot is the prefix's or its row's only question's: its next token sees all.
        self._is_full = [True] * num_rows
        self._slots = torch.full((2, num_rows, num_slots), NOBODY, device=self._device)

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
        slots = torch.stack((torch.where(steps < ends[:, None], PREFIX, NOBODY), steps))
        self._meter.count_pass(padded.shape[:2], 0, sum(lengths), masked=False)
        # padding comes last, so plain causal attention keeps it from every token that counts
        hidden = self._forward(rows, padded, slots)
        for row, length in zip(rows, lengths, strict=True):
            self._is_full[row] = length == padded.shape[1]
        ends = ends.to(hidden.device)
        return hidden[torch.arange(len(embeds), device=hidden.device), ends - 1]

    def extend(self, rows: range, tokens: torch.Tensor) -> torch.Tensor:
        """Computes new tokens of questions; returns their hidden states (G', N, D).

        Args:
            rows: G' of the rows.
            tokens: (3, G', N) int64 on the CPU: ids; the question of each within the row, or
                `NOBODY` for padding; positions, counted from the start of each question's prompt.
        """
        _, owners, positions = tokens
        sees_all = self._sees_all(rows, owners, positions)
        num_useful = int((owners != NOBODY).sum())
        self._meter.count_pass(owners.shape, self._length(rows), num_useful, masked=not sees_all)
        tokens = tokens.to(self._device, non_blocking=True)
        embeds, new = self._embed(tokens[0]), tokens[1:]
        if sees_all:
            return self._forward(rows, embeds, new)
        masks = self._masks(rows, new, embeds.dtype)
        with self._attention_with_masks():
            return self._forward(rows, embeds, new, masks)

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
        self._slots[:, targets] = self._slots[:, sources]
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
        slots = self._used(rows, length)
        owners = slots[0]
        of_alive = (owners >= 0) & alive.gather(1, owners.clamp(min=0))
        keep = (owners == PREFIX) | of_alive
        longest = int(keep.sum(1).max())
        if 2 * longest > length:
            return
        # kept slots first, in their order; what a shorter row has beyond them is nobody's
        order = torch.argsort((~keep).long(), dim=1, stable=True)[:, :longest]
        kept = slots.take_along_dim(order[None], 2)
        self._slots[:, : len(rows), longest:] = NOBODY
        self._slots[:, : len(rows), :longest] = torch.where(keep.gather(1, order), kept, NOBODY)
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

    def _used(self, rows: range, length: int) -> torch.Tensor:
        """(2, G', L): owners and positions of rows."""
        return self._slots[:, rows.start : rows.stop, :length]

    def _masks(
        self, rows: range, new: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor | dict[str | None, torch.Tensor]:
        """What each new token sees, as attention takes it; by kind of layer where they differ.

        `sdpa` takes a bool mask on every device, but on a GPU makes numbers of it in each layer.
        """
        masks = {kind: self._visible(rows, new, window) for kind, window in self._windows.items()}
        is_eager = self._inner.config._attn_implementation == "eager"  # noqa: SLF001
        if is_eager or self._device.type != "cpu":
            masks = {kind: mask_as_numbers(mask, dtype) for kind, mask in masks.items()}
        return masks.get(None, masks)

    def _visible(self, rows: range, new: torch.Tensor, window: int | None) -> torch.Tensor:
        """(G', 1, N, L + N) bool: what each new token sees."""
        used = self._used(rows, self._length(rows))
        slot_owners, slot_positions = torch.cat((used, new), dim=2)[:, :, None]
        owners, positions = new[..., None]
        own = slot_owners == owners
        visible = (slot_owners == PREFIX) | (own & (slot_positions <= positions))
        if window is not None:
            visible &= positions - slot_positions < window
        return visible[:, None]

    def _forward(
        self,
        rows: range,
        embeds: torch.Tensor,
        new: torch.Tensor,
        mask: torch.Tensor | dict[str | None, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Hidden states of new tokens (G', N, D); new: (2, G', N), their owners and positions."""
        lengths = [self._lengths[row] for row in rows]
        shortest, start = min(lengths), max(lengths)
        end = start + embeds.shape[1]
        if end > self._place.num_slots:  # answers longer than planned get half as much room again
            missing = end + end // 2 - self._place.num_slots
            self._place.num_slots += missing
            self._slots = pad(self._slots, (0, missing), value=NOBODY)
        self._place.rows, self._place.length = slice(rows.start, rows.stop), start
        if shortest < start:  # what shorter rows have up to there is nobody's
            unwritten = torch.arange(shortest, start) >= torch.tensor(lengths)[:, None]
            for layer in self.layers:
                layer.clear(unwritten, shortest)
        outputs = self._inner(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=new[1],
            past_key_values=self._cache,
            use_cache=True,
        )
        self._slots[:, rows.start : rows.stop, start:end] = new
        for row in rows:
            self._lengths[row] = end
        return outputs.last_hidden_state

    @contextmanager
    def _attention_with_masks(self) -> Iterator[None]:
        """Has attention that takes no masks stand back for one that does."""
        name = "_attn_implementation"  # transformers has no other
        with ExitStack() as stack:
            # layers that were built for another model, which lends them, have its configuration
            for config in (self._inner.config, *(i.self_attn.config for i in self._inner.layers)):
                if getattr(config, name) not in _TAKE_MASKS:
                    stack.callback(setattr, config, name, getattr(config, name))
                    setattr(config, name, "sdpa")
            yield


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
