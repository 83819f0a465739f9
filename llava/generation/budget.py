"""How many tokens may go through the model at once on this device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

CPU_MAX_TOKENS = 8192
"""Cache slots of a pack on a CPU: how many questions write a token together, for which all weights
are read once."""

CPU_PASS_TOKENS = 1200
"""Embeddings of prompts that go through the model at once on a CPU: enough of them hide what a pass
costs beside arithmetic, more do not fit into its caches."""

GPU_MAX_TOKENS = 65536
"""Cache slots of a pack where memory would do for more: answers are stored when a pack is done."""

MIN_TOKENS = 512
"""The least that a budget is cut to where packs do not fit."""

_SHARE_OF_FREE = 0.7
_MASK_BYTES = 4096
_SIGNS = (
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # what a handle says for which there was no memory
)


def estimate_max_tokens(model: Any) -> int:
    """Returns the cache slots that a pack may take, from what the devices have free.

    On a CPU large packs gain nothing; there the number is fixed. An estimate that proves too large
    costs little: a pack that does not fit is halved.
    """
    if model.device.type != "cuda":
        return CPU_MAX_TOKENS
    sizes: Counter[torch.device] = Counter()
    for parameter in model.parameters():
        if parameter.device.type == "cuda":
            sizes[parameter.device] += parameter.numel()
    torch.cuda.empty_cache()  # what loading has kept counts as taken
    fitting = []
    for device, size in sizes.items():
        free, _ = torch.cuda.mem_get_info(device)
        share_of_layers = size / sizes.total()  # layers lie where their weights do
        fitting.append(int(free * _SHARE_OF_FREE / _bytes_per_token(model, share_of_layers)))
    return max(MIN_TOKENS, min(GPU_MAX_TOKENS, *fitting))


def _bytes_per_token(model: Any, share_of_layers: float) -> int:
    """About what a token takes on a device with some layers: cache, activations, mask."""
    config = model.config
    num_heads = config.num_attention_heads
    num_kv_heads = getattr(config, "num_key_value_heads", None) or num_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    item = torch.finfo(model.dtype).bits // 8
    cache = int(2 * config.num_hidden_layers * share_of_layers * num_kv_heads * head_dim * item)
    inner = getattr(config, "intermediate_size", 4 * config.hidden_size)
    activations = (8 * config.hidden_size + 3 * inner) * item
    return cache + activations + _MASK_BYTES


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU.

    >>> is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."))
    True
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def has_lost_device(error: BaseException) -> bool:
    """Whether an error leaves the device unusable for this process, so that all else would fail."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)
