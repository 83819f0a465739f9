"""What is set on CUDA devices is set on every machine, also where there are none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from llava.generation.devices import (
    describe_attention,
    multiplies_in_tf32,
    set_arithmetic,
)
from llava.generation.neartie import shortest_dtype
from tests.checkpoints import LoadedModel


@pytest.fixture(autouse=True)
def settings_of_before() -> Iterator[None]:
    put_back = set_arithmetic(tf32=False)
    yield
    put_back()


def in_force() -> tuple[bool, bool, bool]:
    """TF32 in matrix products and in convolutions, and cuDNN's attention, as the old names say."""
    cuda = torch.backends.cuda
    return cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize("tf32", [False, True])
def test_products_and_convolutions_are_set_alike(tf32: bool) -> None:
    set_arithmetic(tf32=tf32)
    precision = "tf32" if tf32 else "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == precision
    assert torch.backends.cudnn.conv.fp32_precision == precision  # type: ignore[attr-defined]
    assert multiplies_in_tf32() is tf32
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("before", [(False, False, True), (True, True, True), (False, True, False)])
def test_what_was_set_before_is_put_back(before: tuple[bool, bool, bool], tf32: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, cudnn = before
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    put_back = set_arithmetic(tf32=tf32)
    put_back()
    assert in_force() == before


@pytest.mark.parametrize(("tf32", "dtype"), [(False, torch.float32), (True, torch.float16)])
def test_tf32_is_the_shortest_format_of_a_float32_model(
    tiny_model: LoadedModel, tf32: bool, dtype: torch.dtype
) -> None:
    set_arithmetic(tf32=tf32)
    assert shortest_dtype(tiny_model.model) is dtype


def test_kernels_of_attention_are_told_where_there_is_a_choice(tiny_model: LoadedModel) -> None:
    assert describe_attention(tiny_model.model) == "sdpa"
    on_cuda = OnCuda(tiny_model.model.config)
    assert describe_attention(on_cuda) == "sdpa (flash, mem_efficient, math)"
    torch.backends.cuda.enable_flash_sdp(False)
    try:
        assert describe_attention(on_cuda) == "sdpa (mem_efficient, math)"
    finally:
        torch.backends.cuda.enable_flash_sdp(True)


class OnCuda:
    """What is looked at of a model on a device that is not there."""

    device = torch.device("cuda:0")

    def __init__(self, config: object) -> None:
        self.config = config
