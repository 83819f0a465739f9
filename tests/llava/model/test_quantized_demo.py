"""Quantized arithmetic is that of the dequantized weights: only their rounding is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evals.demo import ensure_demo_data
from evals.tasks.gqa import GQA
from evals.tasks.scienceqa import ScienceQA
from evals.tasks.vqav2 import VQAv2
from llava.generation.packed import PackedEngine
from llava.generation.request import GenerationConfig, Request
from llava.model.builder import load_pretrained_model
from llava.model.quantization import Quantization
from runners.evaluation.prompts import PromptRenderer

DEMO = Path(__file__).parents[3] / "llava" / "demo" / "llava-demo"
KEPT = {"nf4": (0.9999, 0.99), "int8": (0.9995, 0.97)}


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The held-out demo questions of all three benchmarks."""
    root = ensure_demo_data(tmp_path_factory.mktemp("demo"), num_images=6, seed=0)
    tasks = (
        VQAv2(data_dir=root / "vqav2", split="demo"),
        GQA(data_dir=root / "gqa", split="demo"),
        ScienceQA(data_dir=root / "scienceqa", split="demo"),
    )
    return [sample for task in tasks for sample in task.samples()]


def load(**options: Any) -> tuple[Any, Any, Any, int]:
    return load_pretrained_model(str(DEMO), None, "llava-demo", device="cpu", **options)


def dequantize(module: torch.nn.Module) -> torch.Tensor:
    """The weights of a quantized layer as they are multiplied, float32."""
    import bitsandbytes

    if isinstance(module, bitsandbytes.nn.Linear4bit):
        state = module.weight.quant_state
        return bitsandbytes.functional.dequantize_4bit(module.weight.data, state).float()
    return module.weight.CB.float() * (module.weight.SCB.float() / 127)[:, None]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nf4", pytest.param("int8", marks=pytest.mark.slow)])
def test_answers_are_those_of_the_dequantized_weights(kind: str, questions: list[Any]) -> None:
    dtype = torch.float32 if kind == "nf4" else torch.float16
    quantized = load(quantization=Quantization(kind=kind), dtype=dtype)
    plain = load()
    layers = dict(plain[1].named_modules())
    num_replaced = 0
    for name, module in quantized[1].named_modules():
        if type(module).__name__ in ("Linear4bit", "Linear8bitLt"):
            layers[name].weight.data = dequantize(module)
            num_replaced += 1
    assert num_replaced == 7 * plain[1].config.num_hidden_layers
    renderer = PromptRenderer("vicuna_v1", plain[0])
    requests = [
        renderer.build_request(sample, GenerationConfig(max_new_tokens=8)) for sample in questions
    ]
    cosine, agreement = KEPT[kind]
    assert min_cosine(quantized, plain, requests[::8]) >= cosine
    same = [
        a.token_ids == b.token_ids
        for a, b in zip(answers(quantized, requests), answers(plain, requests), strict=True)
    ]
    assert np.mean(same) >= agreement


def min_cosine(first: Any, second: Any, requests: list[Request]) -> float:
    """Smallest cosine between the logits of the last prompt position."""
    cosines = [
        torch.cosine_similarity(last_logits(first, r), last_logits(second, r), dim=0).item()
        for r in requests
    ]
    return min(cosines)


def last_logits(loaded: Any, request: Request) -> torch.Tensor:
    from llava.generation.preprocess import prepare_image

    _, model, image_processor, _ = loaded
    images = [prepare_image(image, image_processor, model.config) for image in request.images]
    arguments = {"images": None}
    if images:
        pixels = torch.stack([image.pixel_values for image in images]).to(model.dtype)
        arguments = {"images": pixels, "image_sizes": [image.size for image in images]}
    ids = torch.from_numpy(request.prompt_ids).long()[None]
    with torch.inference_mode():
        return model(input_ids=ids, logits_to_keep=1, **arguments).logits[0, -1].float()


def answers(loaded: Any, requests: list[Request]) -> list[Any]:
    engine = PackedEngine(*loaded, replay="off")
    by_key = {}
    for start in range(0, len(requests), 100):
        # keys are unique within a task only, so each request is known by its place
        part = [
            Request(key=str(i), prompt_ids=r.prompt_ids, images=r.images, generation=r.generation)
            for i, r in enumerate(requests[start : start + 100], start)
        ]
        by_key |= {result.key: result for result in engine.run(part)}
    return [by_key[str(i)] for i in range(len(requests))]
