"""The cache holds what one that is joined anew holds; masks are as attention takes them."""

from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from llava.generation.row_cache import Place, SlotLayer, mask_as_numbers

PLANNED = 60
SLOT_BYTES = 2 * 2 * 4 * 4  # keys and values of two heads, four float32 numbers wide


@pytest.mark.parametrize("length", [1, 8, 13])
def test_lines_of_a_mask_begin_at_multiples_of_eight(length: int) -> None:
    mask = torch.rand(3, 1, 2, length, generator=torch.Generator().manual_seed(0)) > 0.5
    numbers = mask_as_numbers(mask, torch.float16)
    assert numbers.shape == mask.shape
    assert torch.equal(numbers == 0, mask)
    assert (numbers[~mask] == torch.finfo(torch.float16).min).all()
    *strides, last = numbers.stride()
    assert last == 1
    assert all(stride % 8 == 0 for stride in strides)


def states(num_rows: int, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, num_rows, 2, length, 4, generator=generator)
    return keys, values


def write(layer: SlotLayer, place: Place, rows: slice, length: int, seed: int) -> None:
    """One pass of a model through some rows, and through a layer that is joined anew."""
    place.rows = rows
    new = states(rows.stop - rows.start, length, seed)
    layer.update(*new)
    place.length += length


def test_slots_and_growth_are_as_when_joined() -> None:
    place = Place(3, PLANNED, rows=slice(0, 3))
    layer, joined = SlotLayer(place), DynamicLayer()
    for step, length in enumerate([30, 17, 1, 1, PLANNED + 9, 1, 1, 3 * PLANNED, 1]):
        new = states(3, length, step)
        place.num_slots = max(place.num_slots, place.length + length)
        for got, expected in zip(layer.update(*new), joined.update(*new), strict=True):
            assert torch.equal(got, expected)
        place.length += length
        assert layer.get_seq_length() == joined.get_seq_length() == place.length
        if step == 5:
            slots = torch.stack([torch.randperm(place.length)[:20] for _ in range(3)])
            index = slots[:, None, :, None].expand(-1, 2, -1, 4)
            layer.keep_slots(slots)
            joined.keys, joined.values = (
                joined.keys.gather(2, index),
                joined.values.gather(2, index),
            )
            place.length = 20


def test_what_was_planned_is_written_without_copying_the_rest() -> None:
    place = Place(2, PLANNED)
    layer = SlotLayer(place)
    write(layer, place, slice(0, 2), 30, 0)
    where = layer.keys.data_ptr()
    for step, length in enumerate([20, *[1] * (PLANNED - 50)]):
        write(layer, place, slice(0, 2), length, step)
        assert layer.keys.data_ptr() == where
    assert layer.num_bytes_moved == 0
    place.num_slots += 10
    write(layer, place, slice(0, 2), 1, PLANNED)
    assert layer.num_bytes_moved == 2 * PLANNED * SLOT_BYTES


def test_rows_are_written_and_read_apart_from_the_others() -> None:
    place = Place(5, PLANNED)
    layer = SlotLayer(place)
    long, short = states(2, 9, 0), states(3, 4, 1)
    for rows, new in ((slice(0, 2), long), (slice(2, 5), short)):
        place.rows = rows
        for got, expected in zip(layer.update(*new), new, strict=True):
            assert torch.equal(got, expected)
    place.rows, place.length = slice(1, 4), 9
    unwritten = torch.tensor([[False] * 5, [True] * 5, [True] * 5])
    layer.clear(unwritten, 4)
    keys, _ = layer.update(*states(3, 1, 2))
    assert torch.equal(keys[0, :, :9], long[0][1])
    assert torch.equal(keys[1:, :, :4], short[0][:2])
    assert (keys[1:, :, 4:9] == 0).all()


def test_rows_move_into_the_place_of_others() -> None:
    place = Place(4, PLANNED)
    layer = SlotLayer(place)
    write(layer, place, slice(0, 4), 9, 0)
    before = layer.keys.clone()
    layer.move_rows([3, 2], [0, 1], 9)
    assert layer.num_bytes_moved == 2 * 9 * SLOT_BYTES
    place.rows = slice(0, 3)
    keys, _ = layer.update(*states(3, 1, 1))
    assert torch.equal(keys[:, :, :9], before[[3, 2, 2]])


def test_what_was_given_is_not_written_to() -> None:
    keys, values = states(2, 10, 0)
    before = keys.clone()
    place = Place(2, PLANNED, rows=slice(0, 2))
    layer = SlotLayer(place)
    layer.update(keys, values)
    layer.keep_slots(torch.arange(9, -1, -1).expand(2, -1))
    layer.update(*states(2, 3, 1))
    assert torch.equal(keys, before)
