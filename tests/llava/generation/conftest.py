"""Models whose attention differs from the tiny LLaMA's."""

from __future__ import annotations

from pathlib import Path

import pytest

from llava.model.builder import load_pretrained_model
from tests.checkpoints import LoadedModel
from tests.variants import make_mistral, make_mpt


@pytest.fixture(scope="session")
def mistral_model(tiny_tower: Path) -> LoadedModel:
    """Grouped key-value heads and a window shorter than the prompts."""
    folder = make_mistral(tiny_tower.parent / "llava-mistral-window", tiny_tower, sliding_window=24)
    return LoadedModel(*load_pretrained_model(str(folder), None, folder.name, device="cpu"))


@pytest.fixture(scope="session")
def mpt_model(tiny_tower: Path) -> LoadedModel:
    """Attention that takes no mask of its own."""
    folder = make_mpt(tiny_tower.parent / "llava-mpt-packed", tiny_tower)
    return LoadedModel(*load_pretrained_model(str(folder), None, folder.name, device="cpu"))
