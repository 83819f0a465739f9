"""The packed engine on thousands of demo questions: the sequential answers, token for token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.demo import ensure_demo_data
from evals.tasks.gqa import GQA
from evals.tasks.scienceqa import ScienceQA
from evals.tasks.vqav2 import VQAv2
from llava.generation.packed import PackedEngine
from llava.generation.request import GenerationConfig, Request
from llava.generation.sequential import SequentialEngine
from llava.model.builder import load_pretrained_model
from runners.predict import PromptRenderer
from runners.shard import cut_into_pieces

DEMO = Path(__file__).parents[3] / "llava" / "demo" / "llava-demo"
NUM_IMAGES = 76  # 5,000 questions


def load(dtype: torch.dtype) -> tuple[Any, Any, Any, int]:
    return load_pretrained_model(str(DEMO), None, "llava-demo", device="cpu", dtype=dtype)


def demo_items(root: Path, tokenizer: Any, num_image_tokens: int) -> Iterator[list[Request]]:
    """The demo questions of all three benchmarks as the programs deal them."""
    renderer = PromptRenderer("vicuna_v1", tokenizer)
    for task in (
        VQAv2(data_dir=root / "vqav2", split="demo"),
        GQA(data_dir=root / "gqa", split="demo"),
        ScienceQA(data_dir=root / "scienceqa", split="demo"),
    ):
        for piece in cut_into_pieces(task.samples(), num_image_tokens):
            yield [
                renderer.build_request(sample, GenerationConfig(max_new_tokens=128))
                for sample in piece
            ]


def compare(root: Path, dtype: torch.dtype, **options: Any) -> tuple[int, int, PackedEngine]:
    """Questions asked, answers that differ from the sequential ones, and the engine."""
    loaded = load(dtype)
    sequential, packed = SequentialEngine(*loaded), PackedEngine(*loaded, **options)
    asked = differing = 0
    for item in demo_items(root, loaded[0], loaded[1].get_vision_tower().num_patches):
        expected = {result.key: result for result in sequential.run(item)}
        answers = {result.key: result for result in packed.run(item)}
        assert answers.keys() == expected.keys()
        asked += len(item)
        differing += sum(
            answers[key].token_ids != expected[key].token_ids
            or answers[key].finish_reason != expected[key].finish_reason
            for key in expected
        )
    return asked, differing, packed


def test_default_demo_questions_get_the_sequential_answers(tmp_path: Path) -> None:
    root = ensure_demo_data(tmp_path, num_images=4, seed=0)
    asked, differing, _ = compare(root, torch.float32)
    assert asked > 200
    assert differing == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", [{}, {"replay": "off"}, {"max_tokens": 700, "max_rows": 3}])
def test_five_thousand_questions_in_float32(tmp_path: Path, options: dict[str, Any]) -> None:
    root = ensure_demo_data(tmp_path, num_images=NUM_IMAGES, seed=0)
    asked, differing, packed = compare(root, torch.float32, **options)
    print(f"{asked} questions, {packed.stats}")
    assert asked >= 5000
    assert differing == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_five_thousand_questions_in_short_formats(
    tmp_path: Path, dtype: torch.dtype, seed: int
) -> None:
    root = ensure_demo_data(tmp_path, num_images=NUM_IMAGES, seed=seed)
    asked, differing, packed = compare(root, dtype)
    share = packed.stats.num_replayed / packed.stats.num_packed
    print(f"{asked} questions, {share:.2%} computed again, {packed.report()}")
    assert asked >= 5000
    assert differing == 0
