"""Models for the tests of the model package."""

import pytest

from llava.model.builder import load_pretrained_model
from tests.checkpoints import LoadedModel, make_checkpoint

PINPOINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]


@pytest.fixture(scope="session", autouse=True)
def _one_thread(one_torch_thread):
    """Small tensors are computed faster without threads, and always alike."""


@pytest.fixture(scope="session")
def anyres_checkpoint(tiny_tower):
    """A checkpoint that cuts images into tiles of 56 x 56 pixels and drops their padding."""
    return make_checkpoint(
        tiny_tower.parent / "llava-v1.6-vicuna-tiny",
        tiny_tower,
        seed=1,
        image_aspect_ratio="anyres",
        image_grid_pinpoints=PINPOINTS,
        mm_patch_merge_type="spatial_unpad",
    )


@pytest.fixture(scope="session")
def anyres_model(anyres_checkpoint):
    """The tiling checkpoint, loaded once; tests leave it as they found it."""
    path = str(anyres_checkpoint)
    loaded = load_pretrained_model(path, None, anyres_checkpoint.name, device="cpu")
    return LoadedModel(*loaded)
