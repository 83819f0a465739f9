"""How many tokens may go through the model at once on this device."""

from __future__ import annotations

from typing import Any

import torch

CPU_MAX_TOKENS = 8192
CPU_JOINED_TOKENS = 1200
GPU_MAX_TOKENS = 65536
_MIN_TOKENS = 512
_SHARE_OF_FREE = 0.7
_MASK_BYTES = 4096


def estimate_max_tokens(model: Any) -> int:
    """Returns the cache slots that a pack may take, from what the device has free.

    On a CPU large packs gain nothing; there the number is fixed. An estimate that proves too large
    costs little: a pack that does not fit is halved.
    """
    if model.device.type != "cuda":
        return CPU_MAX_TOKENS
    free, _ = torch.cuda.mem_get_info(model.device)
    fitting = int(free * _SHARE_OF_FREE / bytes_per_token(model))
    return max(_MIN_TOKENS, min(GPU_MAX_TOKENS, fitting))


def bytes_per_token(model: Any) -> int:
    """Returns about how many bytes a token takes: its keys and values, activations, mask."""
    config = model.config
    num_heads = config.num_attention_heads
    num_kv_heads = getattr(config, "num_key_value_heads", None) or num_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    item = torch.finfo(model.dtype).bits // 8
    cache = 2 * config.num_hidden_layers * num_kv_heads * head_dim * item
    inner = getattr(config, "intermediate_size", 4 * config.hidden_size)
    activations = (8 * config.hidden_size + 3 * inner) * item
    return cache + activations + _MASK_BYTES


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
