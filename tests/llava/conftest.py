"""Models for the tests of the model package."""

import pytest

from llava.model.builder import load_pretrained_model
from tests.checkpoints import LoadedModel


@pytest.fixture(scope="session", autouse=True)
def _one_thread(one_torch_thread):
    """Small tensors are computed faster without threads, and always alike."""


@pytest.fixture(scope="session")
def anyres_model(anyres_checkpoint):
    """The tiling checkpoint, loaded once; tests leave it as they found it."""
    path = str(anyres_checkpoint)
    loaded = load_pretrained_model(path, None, anyres_checkpoint.name, device="cpu")
    return LoadedModel(*loaded)
