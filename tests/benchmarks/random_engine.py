"""The packed engine around a random model, for measuring workers; put in with `_target_`."""

from __future__ import annotations

from typing import Any

import torch

from llava.generation.packed import PackedEngine
from runners.lab.bench.models import build_model


class RandomModelEngine(PackedEngine):
    """Answers with `random-25m` instead of the checkpoint that was loaded."""

    def __init__(self, **options: Any) -> None:
        loaded = ("tokenizer", "model", "image_processor", "context_len")
        parts = build_model("random-25m", device="cpu", dtype=torch.float32, tower_dtype=None)
        super().__init__(**{**options, **dict(zip(loaded, parts, strict=True))})
