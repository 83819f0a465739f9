"""A model in this process, asked the questions of the demo data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

import runners
from evals.demo import ensure_demo_data
from tests.checkpoints import LoadedModel
from tests.demo_questions import load_demo

LIMIT = 48
DEMO = {"conversation": "vicuna_v1", "model_name": "llava-demo"}


@pytest.fixture(autouse=True)
def own_cache(cache_home: Path, monkeypatch: pytest.MonkeyPatch, one_torch_thread: None) -> None:
    """Demo data go where the programs of the other tests have them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))


@pytest.fixture(autouse=True)
def forget_accelerate() -> None:
    """A training in another test leaves its precision to the process."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="package")
def demo(one_torch_thread: None) -> LoadedModel:
    """The demo checkpoint; tests leave it as they found it."""
    return load_demo(torch.float32)


@pytest.fixture
def fresh() -> LoadedModel:
    """The demo checkpoint, to be wrapped or trained."""
    return load_demo(torch.float32)


@pytest.fixture
def demo_root(cache_home: Path) -> Path:
    return ensure_demo_data(cache_home / "in_process", num_images=1)


def ask(loaded: LoadedModel, tasks: Any = "gqa", **options: Any) -> dict[str, dict[str, Any]]:
    model, tokenizer = options.pop("model", loaded.model), loaded.tokenizer
    defaults = {**DEMO, "data": "demo", "limit": LIMIT}
    options = {k: v for k, v in (defaults | options).items() if v is not None}
    return runners.evaluate(model, tokenizer, loaded.image_processor, tasks, **options)


def answers_hash(summaries: dict[str, dict[str, Any]]) -> str:
    return str(summaries["gqa"]["hashes"]["answers"])
