"""Time, memory and arithmetic of one engine on one workload."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch.utils.benchmark import Timer

from llava.generation.request import Completion, Request

_SAMPLE_S = 0.02
_MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}  # large enough for the device's full rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one pass of an engine over a workload took.

    Attributes:
        seconds: Processor time on a CPU, wall time on a GPU.
        flops: Of the language model and the tower, as computed by this engine.
        peak_memory_bytes: Resident on a CPU, allocated on a GPU.
        answers: Tokens by key.
    """

    seconds: float
    flops: float
    peak_memory_bytes: int
    answers: Mapping[str, tuple[int, ...]]


def measure(engine: Any, model: Any, requests: Sequence[Request]) -> Measurement:
    """Returns what answering the requests took.

    Raises:
        RuntimeError: a request failed.
    """
    on_gpu = model.device.type == "cuda"
    # Processor time tells nothing of a GPU's work, wall time is spoiled by a CPU's other guests.
    clock = time.perf_counter if on_gpu else time.process_time
    with _memory(model.device) as peak, count_flops(model) as flops:
        started = clock()
        results = list(engine.run(requests))
        if on_gpu:
            torch.cuda.synchronize(model.device)  # kernels run on behind the calls
        seconds = clock() - started
    failed = [result for result in results if not isinstance(result, Completion)]
    if failed:
        raise RuntimeError(f"{len(failed)} requests failed, the first: {failed[0]}")
    return Measurement(
        seconds=seconds,
        flops=flops(),
        peak_memory_bytes=peak(),
        answers={result.key: result.token_ids for result in results},
    )


@contextmanager
def count_flops(model: Any) -> Iterator[Callable[[], float]]:
    """Counts floating-point operations of the matrix products of language model and tower."""
    inner, tower = model.get_model(), model.get_vision_tower()
    layers = inner.layers
    # A weight is multiplied and added once a token; vectors do not count, nor does `lm_head`.
    weights = sum(p.numel() for p in layers.parameters() if p.ndim == 2)
    width = model.config.num_attention_heads * layers[0].self_attn.head_dim
    tower_weights = sum(p.numel() for p in tower.parameters() if p.ndim == 2)
    total = [0.0]

    def add_pass(_: Any, __: Any, arguments: dict[str, Any]) -> None:
        embeds = arguments.get("inputs_embeds")
        rows, length = (arguments["input_ids"] if embeds is None else embeds).shape[:2]
        cache = arguments.get("past_key_values")
        past = cache.get_seq_length() if cache is not None else 0
        seen = past + (length + 1) / 2  # causal: on average half of the new tokens
        total[0] += rows * length * (2 * weights + 4 * len(layers) * width * seen)

    def add_images(_: Any, arguments: tuple[Any, ...]) -> None:
        # the patches and the class token
        total[0] += len(arguments[0]) * (tower.num_patches + 1) * 2 * tower_weights

    hooks = [
        inner.register_forward_pre_hook(add_pass, with_kwargs=True),
        tower.register_forward_pre_hook(add_images),
    ]
    try:
        yield lambda: total[0]
    finally:
        for hook in hooks:
            hook.remove()


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Returns the median rate of a large matrix product, on as many threads as torch has."""
    size = _MATMUL_SIZE[device.type]
    first, second = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    names = {"first": first, "second": second}
    timer = Timer("first @ second", globals=names, num_threads=torch.get_num_threads())
    return float(2 * size**3 / timer.blocked_autorange().median)


@contextmanager
def _memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Watches memory; what is yielded tells the peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device)
        return
    # The system keeps one peak for the whole process, not one for each engine.
    process, peak, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(_SAMPLE_S):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: peak[0]
    finally:
        done.set()
        thread.join()
