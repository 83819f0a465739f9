"""Masks as attention takes them."""

from __future__ import annotations

import pytest
import torch

from llava.generation.row_cache import mask_as_numbers


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
