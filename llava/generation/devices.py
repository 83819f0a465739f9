"""How torch computes on CUDA devices while it answers, set alike for every program."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

_KERNELS = {
    "flash": torch.backends.cuda.flash_sdp_enabled,
    "mem_efficient": torch.backends.cuda.mem_efficient_sdp_enabled,
    "cudnn": torch.backends.cuda.cudnn_sdp_enabled,
    "math": torch.backends.cuda.math_sdp_enabled,
}


def set_arithmetic(*, tf32: bool) -> Callable[[], None]:
    """Sets how CUDA devices compute; returns what puts back the settings of before.

    float32 is multiplied in full or in TF32, in matrix products as in convolutions: torch alone
    would have TF32 in the patch embedding of a float32 tower. `sdpa` leaves cuDNN out, which builds
    a plan for every new shape (55 to 400 ms), and no two packs have the same shapes.
    """
    put_back = ExitStack()
    for owner, name in _precisions():
        put_back.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, tf32 if name == "allow_tf32" else "tf32" if tf32 else "ieee")
    cuda: Any = torch.backends.cuda
    put_back.callback(cuda.enable_cudnn_sdp, cuda.cudnn_sdp_enabled())
    cuda.enable_cudnn_sdp(False)
    return put_back.close


def _precisions() -> list[tuple[Any, str]]:
    """Where torch keeps how float32 is multiplied: matrix products, then convolutions."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):  # since torch 2.9, which refuses a mix of both
        return [(matmul, "fp32_precision"), (cudnn.conv, "fp32_precision")]
    return [(matmul, "allow_tf32"), (cudnn, "allow_tf32")]


def multiplies_in_tf32() -> bool:
    """Whether float32 matrices may be multiplied in TF32 on a CUDA device."""
    owner, name = _precisions()[0]
    return getattr(owner, name) in (True, "tf32")


def describe_attention(model: Any) -> str:
    """Returns the implementation of attention, on CUDA with the kernels that `sdpa` may take.

    Such as `sdpa (flash, mem_efficient, math)`.
    """
    chosen = str(model.config._attn_implementation)  # noqa: SLF001 - it has no other name
    if chosen != "sdpa" or model.device.type != "cuda":
        return chosen
    return f"{chosen} ({', '.join(name for name, is_on in _KERNELS.items() if is_on())})"
