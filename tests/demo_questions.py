"""The demo checkpoint and the questions of its three benchmarks, as the programs deal them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from evals.demo import ensure_demo_data
from evals.tasks.gqa import GQA
from evals.tasks.scienceqa import ScienceQA
from evals.tasks.vqav2 import VQAv2
from llava.generation.request import GenerationConfig, Request
from llava.model.builder import load_pretrained_model
from runners.evaluation.prompts import PromptRenderer
from runners.evaluation.work import cut_into_pieces
from tests.checkpoints import LoadedModel

DEMO = Path(__file__).parents[1] / "llava" / "demo" / "llava-demo"
NEXT = DEMO.with_name("llava-demo-next")
NUM_IMAGES = 76
"""Images a benchmark that give a little over 5,000 questions."""


def load_demo(dtype: torch.dtype | str, folder: Path = DEMO) -> LoadedModel:
    """Returns a demo checkpoint on the CPU."""
    loaded = load_pretrained_model(str(folder), None, folder.name, device="cpu", dtype=dtype)
    return LoadedModel(*loaded)


def demo_items(
    folder: Path,
    model: LoadedModel,
    *,
    num_images: int = NUM_IMAGES,
    seed: int = 0,
    template: str = "vicuna_v1",
) -> Iterator[list[Request]]:
    """Yields the questions of VQAv2, GQA and ScienceQA in items of work.

    Args:
        folder: Where the generated data go.
        model: Its tokenizer and its number of image tokens count.
        num_images: Images a benchmark.
        seed: Of the generated data.
        template: The checkpoint's.
    """
    root = ensure_demo_data(folder, num_images=num_images, seed=seed)
    renderer = PromptRenderer(template, model.tokenizer)
    num_image_tokens = model.model.get_vision_tower().num_patches
    for task in (
        VQAv2(data_dir=root / "vqav2", split="demo"),
        GQA(data_dir=root / "gqa", split="demo"),
        ScienceQA(data_dir=root / "scienceqa", split="demo"),
    ):
        for piece in cut_into_pieces(task.samples(), num_image_tokens):
            requests = [renderer.build_request(sample, GenerationConfig()) for sample in piece]
            yield [request for request in requests if isinstance(request, Request)]
