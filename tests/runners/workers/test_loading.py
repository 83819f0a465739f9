"""What a worker loads is what the run began with."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from llava.generation.devices import multiplies_in_tf32, set_arithmetic
from runners.environment import source_hash
from runners.errors import ConfigError
from runners.options.engine import EngineOptions, PackedOptions, SequentialOptions
from runners.workers.loading import load_engine, watch_passes
from runners.workers.messages import LoadModel
from tests.checkpoints import LoadedModel


def order(
    checkpoint: Path, source: str | None = None, engine: EngineOptions | None = None, **options: Any
) -> LoadModel:
    return LoadModel(
        path=str(checkpoint),
        base=None,
        name=checkpoint.name,
        dtype="float32",
        engine=engine or SequentialOptions(),
        source=source,
        **options,
    )


def test_worker_with_other_code_answers_nothing(tiny_checkpoint: Path) -> None:
    """Code that was edited meanwhile, or another version of it on another machine."""
    for same in (source_hash(), None):
        load_engine(order(tiny_checkpoint, same), ["cpu"])
    with pytest.raises(ConfigError, match="was changed while the run went on"):
        load_engine(order(tiny_checkpoint, "other"), ["cpu"])


@pytest.mark.parametrize(("engine", "slots"), [(PackedOptions(max_tokens=7), 7), (None, None)])
def test_what_was_loaded_tells_how_it_computes(
    tiny_checkpoint: Path, engine: EngineOptions | None, slots: int | None
) -> None:
    _, loaded = load_engine(order(tiny_checkpoint, engine=engine), ["cpu"])
    assert (loaded.attention, loaded.max_tokens) == ("sdpa", slots)


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_used_where_it_is_asked_for_and_replayed_as_a_short_format(
    tiny_checkpoint: Path, tf32: bool
) -> None:
    put_back = set_arithmetic(tf32=not tf32)
    try:
        asked = order(tiny_checkpoint, engine=PackedOptions(), tf32=tf32)
        engine, _ = load_engine(asked, ["cpu"])
        assert multiplies_in_tf32() is tf32
        assert engine.near_ties.measures is tf32  # type: ignore[attr-defined]
    finally:
        put_back()


def test_heart_beats_with_every_layer_on_a_cpu_and_with_every_pass_elsewhere(
    tiny_model: LoadedModel,
) -> None:
    config, beats = tiny_model.model.config, []
    num_layers = {"cpu": config.num_hidden_layers, "meta": 1}
    for device, number in num_layers.items():
        model = copy.deepcopy(tiny_model.model).to(device)
        watch_passes(model, partial(beats.append, device))
        model(input_ids=torch.zeros(1, 3, dtype=torch.long, device=device))
        assert beats.count(device) == number
        pixels = torch.zeros(2, 3, 56, 56, device=device)
        model.get_vision_tower()(pixels)
        assert beats.count(device) > number
    assert beats.count("meta") == 2
