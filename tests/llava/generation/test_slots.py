"""A cache with room holds what one that is joined anew for each token holds."""

from __future__ import annotations

import torch
from transformers.cache_utils import DynamicLayer

from llava.generation.slots import SlotLayer

PLANNED = 60


def states(num_rows: int, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, num_rows, 2, length, 4, generator=generator)
    return keys, values


def test_slots_rows_and_growth_are_as_when_joined() -> None:
    layer, joined = SlotLayer(PLANNED), DynamicLayer()
    num_rows = 5
    for step, length in enumerate([30, 17, 1, 1, PLANNED + 9, 1, 1, 3 * PLANNED, 1]):
        new = states(num_rows, length, step)
        for got, expected in zip(layer.update(*new), joined.update(*new), strict=True):
            assert torch.equal(got, expected)
        assert layer.get_seq_length() == joined.get_seq_length()
        if step == 2:
            rows = torch.tensor([4, 0, 1])
            num_rows = len(rows)
            layer.keep_rows(rows)
            joined.batch_select_indices(rows)
        if step == 5:
            slots = torch.stack([torch.randperm(layer.get_seq_length())[:20] for _ in range(3)])
            index = slots[:, None, :, None].expand(-1, 2, -1, 4)
            layer.keep_slots(slots)
            joined.keys, joined.values = (
                joined.keys.gather(2, index),
                joined.values.gather(2, index),
            )
        assert torch.equal(layer.keys, joined.keys)
        assert torch.equal(layer.values, joined.values)


def test_what_was_planned_is_written_without_copying_the_rest() -> None:
    layer = SlotLayer(PLANNED)
    layer.update(*states(2, 30, 0))
    place = layer.keys.data_ptr()
    for step, length in enumerate([20, *[1] * (PLANNED - 50)]):
        layer.update(*states(2, length, step))
        assert layer.keys.data_ptr() == place
    layer.update(*states(2, 1, PLANNED))
    assert layer.keys.data_ptr() != place


def test_what_was_given_is_not_written_to() -> None:
    keys, values = states(2, 10, 0)
    before = keys.clone()
    layer = SlotLayer(PLANNED)
    layer.update(keys, values)
    layer.keep_slots(torch.arange(9, -1, -1).expand(2, -1))
    layer.update(*states(2, 3, 1))
    assert torch.equal(keys, before)
