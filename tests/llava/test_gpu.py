"""What only a CUDA device shows; `pytest -m gpu` runs it where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llava.generation.budget import estimate_max_tokens, room_on
from llava.generation.devices import describe_attention, set_arithmetic
from llava.generation.packed import PackedEngine
from llava.generation.request import GenerationConfig
from llava.generation.sampling import SeededSampling, sampled
from llava.generation.sequential import SequentialEngine
from llava.model.builder import load_pretrained_model
from llava.model.quantization import Quantization
from tests.checkpoints import LoadedModel
from tests.llava.generation.test_packed import facts, memory_for, random_requests

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def load(checkpoint: Path, **options: Any) -> LoadedModel:
    return LoadedModel(*load_pretrained_model(str(checkpoint), None, checkpoint.name, **options))


def test_default_dtype_is_half_and_a_frozen_tower_stays_single(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint).model
    assert model.device.type == "cuda"
    assert model.lm_head.weight.dtype == torch.float16
    assert model.get_vision_tower().dtype == torch.float32
    assert model.get_vision_tower().device.type == "cuda"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_packed_answers_equal_the_sequential_ones(tiny_checkpoint: Path, dtype: str) -> None:
    model = load(tiny_checkpoint, dtype=dtype)
    engine = PackedEngine(*model)
    for seed in range(12):
        requests = random_requests(model, seed)
        expected = facts(list(SequentialEngine(*model).run(requests)))
        assert facts(list(engine.run(requests))) == expected


def test_packs_that_do_not_fit_are_halved(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint, dtype="float32")
    requests = random_requests(model, 3)
    expected = facts(list(SequentialEngine(*model).run(requests)))
    engine = PackedEngine(*model)
    with memory_for(model, 260):
        assert facts(list(engine.run(requests))) == expected
    assert engine.stats.num_halvings > 0


def test_stages_are_timed_by_the_device(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint, dtype="float32")
    engine = PackedEngine(*model, replay="off")
    list(engine.run(random_requests(model, 3)))
    report = engine.report()
    stages = (report.encode, report.prefix, report.suffix, report.decode)
    assert all(stage.seconds > 0 for stage in stages)
    assert sum(stage.seconds for stage in stages) < report.busy_s


@pytest.mark.parametrize("kind", ["int8", "nf4", "fp4"])
def test_quantized_models_answer(tiny_checkpoint: Path, kind: str) -> None:
    pytest.importorskip("bitsandbytes")
    model = load(tiny_checkpoint, quantization=Quantization(kind=kind))
    requests = random_requests(model, 0)
    results = list(PackedEngine(*model).run(requests))
    assert not any(hasattr(result, "cause") for result in results)


def test_one_device_can_be_named(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint, device="cuda:0").model
    assert {str(parameter.device) for parameter in model.parameters()} == {"cuda:0"}


@pytest.mark.parametrize("attention", ["eager", "sdpa", "flash_attention_2"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_attention_gives_the_sequential_answers(
    tiny_checkpoint: Path, attention: str, dtype: str
) -> None:
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn", reason="flash_attn is not installed")
    model = load(tiny_checkpoint, dtype=dtype, attn_implementation=attention)
    engine = PackedEngine(*model)
    for seed in range(12):
        requests = random_requests(model, seed)
        expected = facts(list(SequentialEngine(*model).run(requests)))
        assert facts(list(engine.run(requests))) == expected
    assert model.model.config._attn_implementation == attention


def test_layers_on_two_devices_give_the_answers_of_one(tiny_checkpoint: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one CUDA device only")
    first = {"model.embed_tokens": 0, "model.layers.0": 0, "model.rotary_emb": 0}
    rest = {"model.layers.1": 1, "model.norm": 1, "lm_head": 1, "model.mm_projector": 1}
    one = load(tiny_checkpoint, dtype="float32", device="cuda:0")
    two = load(tiny_checkpoint, dtype="float32", device_map=first | rest)
    assert {parameter.device.index for parameter in two.model.parameters()} == {0, 1}
    requests = random_requests(one, 3, number=40)  # long answers among them: rows are dropped
    expected = facts(list(SequentialEngine(*one).run(requests)))
    for options in ({}, {"max_tokens": 300, "max_rows": 3}):
        assert facts(list(PackedEngine(*two, **options).run(requests))) == expected


def test_attention_leaves_cudnn_out_and_says_so(tiny_checkpoint: Path) -> None:
    put_back = set_arithmetic(tf32=False)
    try:
        model = load(tiny_checkpoint).model
        assert describe_attention(model) == "sdpa (flash, mem_efficient, math)"
    finally:
        put_back()


def test_share_of_a_device_bounds_what_a_pack_may_take(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint, device="cuda:0").model
    device = torch.device("cuda:0")
    whole, (_, total) = room_on(device), torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction(0.002, device)
    try:
        assert room_on(device) <= 0.002 * total < whole
        estimate_max_tokens(model)  # the model itself may have taken all of it
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def test_samples_are_those_of_a_cpu() -> None:
    generation = GenerationConfig(temperature=0.7, top_p=0.9)
    scores = torch.randn(5, 901, generator=torch.Generator().manual_seed(0))
    drawn = [
        sampled(scores.to(device), [SeededSampling(str(i), generation) for i in range(5)]).argmax(1)
        for device in ("cpu", "cuda")
    ]
    assert drawn[0].tolist() == drawn[1].tolist()
