"""Each pass takes as long as what binds it; the passes are those that the engine plans."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from evals.reading.images import ImageFile
from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation import budget
from llava.generation.packed import PackedEngine
from llava.generation.request import GenerationConfig, Request
from llava.model.multimodal_encoder.vision_tower import MAX_IMAGES
from runners.evaluation.roofline import (
    CPU_PACK_TOKENS,
    CPU_PASS_TOKENS,
    DEVICES,
    GPU_PACK_TOKENS,
    KERNELS_A_LAYER,
    PACK_ROWS,
    PARENT_S_PER_QUESTION,
    REPLAYED_SHARES,
    STAGES,
    TOWER_BATCH,
    TOWER_KERNELS_A_LAYER,
    LanguageShape,
    Roofline,
    TowerShape,
    overall_s,
    plan_for,
)
from runners.lab.bench.models import build_model, describe_model

NEAR_TIES = Path(__file__).parents[3] / "results" / "bench" / "near-ties.json"
H200 = DEVICES["H200"]


@pytest.fixture(scope="module")
def large() -> Roofline:
    config, tower = describe_model("random-7b")
    return Roofline(
        device=H200,
        language=LanguageShape.of(config),
        tower=TowerShape.of(config, tower),
        dtype="bfloat16",
    )


def questions(num_images: int, num_questions: int) -> list[Request]:
    """Questions of 30 tokens each behind an image."""
    made = []
    for image in range(num_images):
        for number in range(num_questions):
            ids = [*range(35), IMAGE_TOKEN_INDEX, *range(1000 + 50 * number, 1030 + 50 * number)]
            made.append(
                Request(
                    key=f"{image}-{number}",
                    prompt_ids=np.array(ids, dtype=np.int32),
                    images=(ImageFile(str(image), Path("x")),),
                    generation=GenerationConfig(),
                )
            )
    return made


def test_constants_are_those_of_the_engine() -> None:
    assert budget.GPU_MAX_TOKENS == GPU_PACK_TOKENS
    assert budget.CPU_MAX_TOKENS == CPU_PACK_TOKENS
    assert budget.CPU_PASS_TOKENS == CPU_PASS_TOKENS
    assert inspect.signature(PackedEngine).parameters["max_rows"].default == PACK_ROWS
    assert MAX_IMAGES == TOWER_BATCH


class Operations(TorchDispatchMode):
    """Counts what would be a kernel on a GPU: all that is no view."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(
        self, func: Any, _: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.number += not func.is_view
        return func(*args, **(kwargs or {}))


def test_kernels_of_a_layer_are_about_its_operations() -> None:
    model = build_model("random-25m", device="cpu", dtype=torch.float32, tower_dtype=None)[1]
    tower, num_layers = model.get_vision_tower(), model.config.num_hidden_layers
    with torch.inference_mode(), Operations() as of_language:
        model.base_model(inputs_embeds=torch.randn(1, 20, model.config.hidden_size))
    assert of_language.number / num_layers == pytest.approx(KERNELS_A_LAYER, rel=0.15)
    images = torch.randn(1, 3, 336, 336)
    with torch.inference_mode(), Operations() as of_tower:
        tower(images)
    # of two layers the first is selected; patches and their places come before it
    assert TOWER_KERNELS_A_LAYER <= of_tower.number < 2 * TOWER_KERNELS_A_LAYER


def test_replays_are_those_that_were_measured() -> None:
    runs = json.loads(NEAR_TIES.read_text())["runs"]
    for dtype in ("bfloat16", "float16"):
        shares = [run["rule"]["share_replayed"] for run in runs if run["dtype"] == dtype]
        assert min(shares) / 2 < REPLAYED_SHARES[dtype] < 2 * max(shares)


def test_reading_a_prompt_is_bound_by_arithmetic(large: Roofline) -> None:
    packs = plan_for([questions(20, 10)], num_image_tokens=576, width=4096, on_gpu=True)
    seconds = large.seconds(packs, 200)
    assert list(seconds) == list(STAGES)
    tokens = 20 * (35 + 576)
    flops = 2 * tokens * large.language.num_layer_parameters
    assert seconds["prefix"] == pytest.approx(flops / H200.flops("bfloat16"), rel=0.05)
    faster = replace(large, device=replace(H200, half_flops=2 * H200.half_flops))
    assert faster.seconds(packs, 200)["prefix"] == pytest.approx(seconds["prefix"] / 2)
    assert seconds["parent"] == 200 * PARENT_S_PER_QUESTION


def test_writing_an_answer_is_bound_by_kernels_or_by_reading_weights(large: Roofline) -> None:
    packs = plan_for([questions(1, 1)], num_image_tokens=576, width=4096, on_gpu=True)
    launches = 3 * 32 * KERNELS_A_LAYER * H200.launch_s
    decode = large.seconds(packs, 1)["decode"]
    assert decode == pytest.approx(launches, rel=0.01)
    at_once = replace(large, device=replace(H200, launch_s=0.0))
    weights = 3 * 2 * large.language.num_layer_parameters / (H200.bytes_per_s * H200.read_share)
    assert at_once.seconds(packs, 1)["decode"] == pytest.approx(weights, rel=0.05)
    longer = replace(large, num_new_tokens=31)
    assert longer.seconds(packs, 1)["decode"] == pytest.approx(10 * decode, rel=0.01)


def test_tower_sees_each_image_once_and_stops_at_the_selected_layer(large: Roofline) -> None:
    one, many = (
        large.seconds(
            plan_for([questions(8, n)], num_image_tokens=576, width=4096, on_gpu=True), 8 * n
        )
        for n in (1, 20)
    )
    assert one["tower"] == many["tower"]
    assert large.tower.num_layers == 23
    config, tower = describe_model("random-7b")
    deepest = TowerShape.of(config, replace(tower, select_layer=-1))
    assert deepest.num_layers == 24
    assert deepest.flops > large.tower.flops


def test_parts_stand_for_the_whole_and_calibration_is_paid_once(large: Roofline) -> None:
    packs = plan_for([questions(20, 10)], num_image_tokens=576, width=4096, on_gpu=True)
    small, big = (large.seconds(packs, number) for number in (200, 200_000))
    assert big["prefix"] == pytest.approx(1000 * small["prefix"])
    assert small["replays"] > 3 * big["replays"] / 1000  # one in twenty measures, a hundred at most
    assert overall_s(big) < sum(big.values())
    assert replace(large, dtype="float32").seconds(packs, 200)["replays"] == 0
    assert large.seconds([], 0) == dict.fromkeys(STAGES, 0.0)
