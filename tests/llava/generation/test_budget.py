"""How large a pack may be follows from the memory of the devices, by arithmetic alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from llava.generation.budget import (
    CPU_MAX_TOKENS,
    GPU_MAX_TOKENS,
    MIN_TOKENS,
    estimate_max_tokens,
    fit_tokens,
    room_on,
    tower_bytes,
)
from llava.model.multimodal_encoder.vision_tower import find_tower
from tests.checkpoints import LoadedModel

CPU = torch.device("cpu")
MIB = 2**20


def free(number: int) -> dict[torch.device, int]:
    """A device, as which the model's own counts, with so many free bytes."""
    return {CPU: number}


@pytest.mark.parametrize(
    ("free", "share", "room"),
    [
        (60, 1.0, 60),  # others have 10
        (60, 0.5, 20),  # the other loads later
        (15, 0.5, 15),  # the other has more
        (60, 0.25, 0),
    ],
)
def test_room_is_what_is_free_of_the_own_share(
    free: int, share: float, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (free, 100))
    monkeypatch.setattr("torch.cuda.get_per_process_memory_fraction", lambda _: share)
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 30)
    assert room_on(torch.device("cuda:0")) == room


def test_pack_on_a_cpu_has_a_fixed_size(tiny_model: LoadedModel) -> None:
    assert estimate_max_tokens(tiny_model.model) == CPU_MAX_TOKENS


def test_pack_grows_with_memory_between_its_bounds(tiny_model: LoadedModel) -> None:
    sizes = [fit_tokens(tiny_model.model, free(number * MIB)) for number in range(5, 1200)]
    assert sizes[0] == MIN_TOKENS
    assert sizes[-1] == GPU_MAX_TOKENS
    assert sizes == sorted(sizes)
    inside = [size for size in sizes if MIN_TOKENS < size < GPU_MAX_TOKENS]
    steps = {after - before for before, after in pairwise(inside)}
    assert len(inside) > 5
    assert max(steps) - min(steps) <= 1  # in proportion to what is left beside the tower


def test_half_the_room_is_planned_for_less_than_half(tiny_model: LoadedModel) -> None:
    one, half = (fit_tokens(tiny_model.model, free(room * MIB)) for room in (390, 190))
    assert MIN_TOKENS < 2 * half < one < GPU_MAX_TOKENS


def test_tower_has_its_memory_before_packs_do(tiny_model: LoadedModel) -> None:
    tower = find_tower(tiny_model.model)
    assert tower is not None
    # 32 images of 17 tokens; 8 times the width and 3 times the inner width, float32
    config = tower.config
    assert (
        tower_bytes(tower) == 32 * 17 * (8 * config.hidden_size + 3 * config.intermediate_size) * 4
    )
    needed = int(tower_bytes(tower) / 0.7)
    assert fit_tokens(tiny_model.model, free(needed)) == MIN_TOKENS
    assert fit_tokens(tiny_model.model, free(needed + 100 * MIB)) > MIN_TOKENS


def test_language_model_without_a_tower_needs_less(tiny_model: LoadedModel) -> None:
    class Plain(nn.Module):
        """The same language model, which does not see."""

        def __init__(self) -> None:
            super().__init__()
            self.config, self.dtype = tiny_model.model.config, tiny_model.model.dtype
            self.layers = tiny_model.model.model.layers

    memory = free(60 * MIB)
    assert fit_tokens(Plain(), memory) > fit_tokens(tiny_model.model, memory)


def test_device_with_more_layers_decides(tiny_model: LoadedModel) -> None:
    meta = torch.device("meta")
    room = 100 * MIB
    # all weights lie on the first, so that the second has room for more tokens
    both = fit_tokens(tiny_model.model, {CPU: room, meta: room})
    assert both == fit_tokens(tiny_model.model, {CPU: room})
    assert both < fit_tokens(tiny_model.model, {meta: room})
