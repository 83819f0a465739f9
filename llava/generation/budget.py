"""How many tokens may go through the model at once on this device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from llava.model.multimodal_encoder.vision_tower import MAX_IMAGES, find_tower

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
_PIXEL_BYTES = 3 * 4  # three colours, float32
_SIGNS = (
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # what a handle says for which there was no memory
)


def room_on(device: torch.device) -> int:
    """Returns the bytes of a CUDA device that this process may take beside what it has.

    Others that share the device may still load their models, or have packs in it.
    """
    free, total = torch.cuda.mem_get_info(device)
    share = torch.cuda.get_per_process_memory_fraction(device)
    return max(0, min(free, int(total * share) - torch.cuda.memory_reserved(device)))


def estimate_max_tokens(model: Any) -> int:
    """Returns the cache slots that a pack may take, from what the devices have free.

    On a CPU large packs gain nothing; there the number is fixed. An estimate that proves too large
    costs little: a pack that does not fit is halved.
    """
    if model.device.type != "cuda":
        return CPU_MAX_TOKENS
    torch.cuda.empty_cache()  # what loading has kept counts as taken
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    return fit_tokens(model, {device: room_on(device) for device in devices})


def fit_tokens(model: Any, room: Mapping[torch.device, int]) -> int:
    """Returns the cache slots that fit into the bytes that may still be taken on each device."""
    sizes: Counter[torch.device] = Counter()
    for parameter in model.parameters():
        sizes[parameter.device] += parameter.numel()
    tower = find_tower(model)
    fitting = []
    for device, num_bytes in room.items():
        taken = tower_bytes(tower) if tower is not None and tower.device == device else 0
        share_of_layers = sizes[device] / sizes.total()  # layers lie where their weights do
        per_token = _bytes_per_token(model, tower, share_of_layers)
        fitting.append((int(num_bytes * _SHARE_OF_FREE) - taken) // per_token)
    return max(MIN_TOKENS, min(GPU_MAX_TOKENS, *fitting))


def tower_bytes(tower: Any) -> int:
    """Returns about what the activations of a vision tower take that encodes `MAX_IMAGES`."""
    config = tower.config
    width = 8 * config.hidden_size + 3 * config.intermediate_size
    item = torch.finfo(tower.dtype).bits // 8
    return int(MAX_IMAGES * (tower.num_patches + 1) * width * item)


def _bytes_per_token(model: Any, tower: Any, share_of_layers: float) -> int:
    """About what a token takes on a device with some layers: cache, activations, mask, image."""
    config = model.config
    num_heads = config.num_attention_heads
    num_kv_heads = getattr(config, "num_key_value_heads", None) or num_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    item = torch.finfo(model.dtype).bits // 8
    cache = int(2 * config.num_hidden_layers * share_of_layers * num_kv_heads * head_dim * item)
    inner = getattr(config, "intermediate_size", 4 * config.hidden_size)
    activations = (8 * config.hidden_size + 3 * inner) * item
    image = 0
    if tower is not None:  # pixels of a patch, its features, and what the projector makes of them
        pixels = _PIXEL_BYTES * tower.facts.pixel_size**2 // tower.num_patches
        image = pixels + (tower.hidden_size + 2 * config.hidden_size) * item
    return cache + activations + _MASK_BYTES + image


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
