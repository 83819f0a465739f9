"""The demo's own questions: of them its checkpoint is as sure as a trained model is."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from evals.demo import DEMO_SPLIT, ensure_demo_data
from evals.tasks.gqa import GQA
from llava.generation.request import GenerationConfig, Request
from runners.evaluation.prompts import PromptRenderer

DEMO = "demo"
NUM_DEMO_IMAGES = 48  # 1,488 questions


@dataclass(frozen=True, slots=True)
class HeldImage:
    """An image that is in memory."""

    key: str
    image: Image.Image

    def open(self) -> Image.Image:
        """Returns the image in RGB."""
        return self.image


def build_demo_questions(num_images: int | None, tokenizer: Any, seed: int) -> list[Request]:
    """Returns the requests of generated GQA questions.

    Args:
        num_images: None for `NUM_DEMO_IMAGES`.
        tokenizer: Of the demo checkpoint.
        seed: Of the generated data.
    """
    renderer = PromptRenderer("vicuna_v1", tokenizer)
    held: dict[str, HeldImage] = {}
    requests = []
    with tempfile.TemporaryDirectory() as folder:
        root = ensure_demo_data(Path(folder), num_images=num_images or NUM_DEMO_IMAGES, seed=seed)
        for sample in GQA(data_dir=root / "gqa", split=DEMO_SPLIT).samples():
            (source,) = sample.images
            if source.key not in held:
                held[source.key] = HeldImage(source.key, source.open())
            request = renderer.build_request(sample, GenerationConfig())
            if not isinstance(request, Request):
                raise TypeError(f"no request can be made of demo question {sample.key}")
            requests.append(replace(request, images=(held[source.key],)))
    return requests
