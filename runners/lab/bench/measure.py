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
from torch.utils.benchmark.utils.timer import timer as default_timer

from llava.generation.plan import group_key, prefix_end
from llava.generation.request import Completion, Request

_SAMPLE_S = 0.02
_MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}  # large enough for the device's full rate

Answers = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one pass of an engine over a workload took.

    Attributes:
        seconds: Processor time on a CPU, wall time on a GPU.
        peak_memory_bytes: Resident on a CPU, allocated on a GPU.
        answers: Tokens by key.
    """

    seconds: float
    peak_memory_bytes: int
    answers: Answers


def measure(engine: Any, model: Any, requests: Sequence[Request]) -> Measurement:
    """Returns what answering the requests took.

    Raises:
        RuntimeError: a request failed.
    """
    on_gpu = model.device.type == "cuda"
    # Processor time tells nothing of a GPU's work, wall time is spoiled by a CPU's other guests.
    clock = time.perf_counter if on_gpu else time.process_time
    with _memory(model.device) as peak:
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
        peak_memory_bytes=peak(),
        answers={result.key: result.token_ids for result in results},
    )


def useful_flops(
    model: Any, requests: Sequence[Request], answers: Answers, *, shares_prefixes: bool
) -> float:
    """Returns the floating-point operations that these answers need, in matrix products.

    Nothing that is computed in vain counts: no padding, no place that attention may not see, no
    second computation of an answer, no layer of the tower behind the selected one.

    Args:
        model: A LLaVA around LLaMA, its images not tiled.
        requests: What was asked.
        answers: Tokens by key.
        shares_prefixes: Whether images and what stands before them are needed once for all their
            questions, or once for each.
    """
    layers, tower = model.get_model().layers, model.get_vision_tower()
    groups: dict[object, list[Request]] = {}
    for request in requests:
        groups.setdefault(group_key(request) if shares_prefixes else request.key, []).append(
            request
        )
    num_tokens = num_seen = num_images = 0
    for group in groups.values():
        num_images += len(group[0].images)
        added = len(group[0].images) * (tower.num_patches - 1)
        prefix = prefix_end(group[0].prompt_ids) + added
        num_tokens += prefix
        num_seen += _causal(prefix)
        for request in group:
            # the last token of an answer is not read any more
            end = len(request.prompt_ids) + added + len(answers[request.key]) - 1
            num_tokens += end - prefix
            num_seen += _causal(end) - _causal(prefix)
    width = model.config.num_attention_heads * layers[0].self_attn.head_dim
    of_layers = 2 * _num_weights(layers) * num_tokens + 4 * len(layers) * width * num_seen
    # the patches and the class token
    of_tower = 2 * _num_weights(tower.layers) * num_images * (tower.num_patches + 1)
    return float(of_layers + of_tower)


def _num_weights(module: torch.nn.Module) -> int:
    """Weights that are multiplied and added once a token; vectors do not count."""
    return sum(p.numel() for p in module.parameters() if p.ndim == 2)


def _causal(length: int) -> int:
    """Pairs of a token and one that it sees, itself included."""
    return length * (length + 1) // 2


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Returns the median rate of a large matrix product, by the clock of `measure`."""
    size = _MATMUL_SIZE[device.type]
    first, second = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    names = {"first": first, "second": second}
    # the timer waits for a GPU on its own
    clock = default_timer if device.type == "cuda" else time.process_time
    timer = Timer("first @ second", globals=names, timer=clock, num_threads=torch.get_num_threads())
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
