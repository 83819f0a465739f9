"""Every engine on every workload, in turn, in one process."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from llava.generation.calibration import Briefing, Calibration
from llava.generation.devices import set_arithmetic
from llava.generation.packed import PackedEngine
from llava.generation.request import EngineReport, Request
from llava.generation.sequential import SequentialEngine
from runners.environment import describe_environment
from runners.errors import ConfigError
from runners.lab.bench.batched import BatchedEngine
from runners.lab.bench.measure import Measurement, matmul_flops_per_s, measure
from runners.lab.bench.models import build_model
from runners.lab.bench.workloads import build_workload
from runners.options.bench import BenchConfig

_WARM_UP = 2


def compare_engines(settings: BenchConfig) -> dict[str, Any]:
    """Returns device, versions and one result for each workload and engine.

    Raises:
        ConfigError: a workload, a model or an engine is unknown.
    """
    threads = settings.num_threads
    torch.set_num_threads(threads)
    set_arithmetic(tf32=False)  # as a worker does
    device = settings.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    on_gpu = device.startswith("cuda")
    dtype = getattr(torch, settings.dtype)
    tower_dtype = None if settings.tower_dtype is None else getattr(torch, settings.tower_dtype)
    try:
        parts = build_model(settings.model, device=device, dtype=dtype, tower_dtype=tower_dtype)
        workloads = {
            name: build_workload(
                name,
                settings.num_images,
                parts[1].config.vocab_size,
                settings.seed,
                Path(settings.questions) if settings.questions else None,
            )
            for name in settings.workload
        }
    except ValueError as error:
        raise ConfigError(str(error)) from error
    matmul = matmul_flops_per_s(torch.device(device), dtype)
    results = []
    for name, requests in workloads.items():
        print(f"{name}: {len(requests)} questions ...", file=sys.stderr)
        engines = {engine: _build_engine(engine, parts, settings) for engine in settings.engine}
        results += _compare(name, requests, engines, parts[1], settings, matmul)
    return {
        "device": {
            "name": torch.cuda.get_device_name(device) if on_gpu else f"CPU, {threads} threads",
            "type": "cuda" if on_gpu else "cpu",
            "num_threads": threads,
        },
        "versions": describe_environment()["versions"],
        "matmul_flops_per_s": matmul,
        "results": results,
    }


def _compare(
    workload: str,
    requests: Sequence[Request],
    engines: Mapping[str, Any],
    model: Any,
    settings: BenchConfig,
    matmul: float,
) -> list[dict[str, Any]]:
    """Results of all engines on one workload; repeats alternate between the engines."""
    for engine in engines.values():
        _warm_up(engine, requests)
    runs: dict[str, list[Measurement]] = {name: [] for name in engines}
    for _ in range(settings.repeats):  # in turn, so that a slow minute of the machine meets all
        for name, engine in engines.items():
            runs[name].append(measure(engine, model, requests))
    sequential = runs.get("sequential")
    return [
        {
            "workload": workload,
            "engine": name,
            "model": settings.model,
            "dtype": settings.dtype,
            "num_questions": len(requests),
            "questions_per_s": len(requests) / median(m.seconds for m in measured),
            "ratio_to_sequential": _ratio(sequential, measured) if sequential else None,
            "answers_equal": _equal(sequential, measured) if sequential else None,
            "peak_memory_bytes": max(m.peak_memory_bytes for m in measured),
            "mfu": median(m.flops / m.seconds for m in measured) / matmul,
            "stages_s": _stages(engines[name]),
        }
        for name, measured in runs.items()
    ]


def _build_engine(name: str, parts: tuple[Any, Any, Any, int], settings: BenchConfig) -> Any:
    if name == "sequential":
        return SequentialEngine(*parts)
    if name == "batched":
        return BatchedEngine(*parts, batch_size=settings.batch_size)
    if name == "packed":
        return PackedEngine(*parts, replay=settings.replay, max_tokens=settings.max_tokens)
    raise ConfigError(f"`engine` must be sequential, batched or packed, but is {name!r}.")


def _warm_up(engine: Any, requests: Sequence[Request]) -> None:
    """Answers some questions before anything is timed or counted."""
    list(engine.run(requests[:_WARM_UP]))
    if not isinstance(engine, PackedEngine):
        return
    engine.brief(Briefing.for_each(1, len(requests), Calibration()))
    engine.stats = EngineReport()  # counted from here on


def _ratio(sequential: Sequence[Measurement], measured: Sequence[Measurement]) -> float:
    """How many times faster; the median over the repeats, pair by pair."""
    return median(s.seconds / m.seconds for s, m in zip(sequential, measured, strict=True))


def _equal(sequential: Sequence[Measurement], measured: Sequence[Measurement]) -> float:
    """Share of the questions with the sequential answer, in the worst repeat."""
    expected = sequential[0].answers
    return min(
        sum(m.answers[key] == tokens for key, tokens in expected.items()) / len(expected)
        for m in measured
    )


def _stages(engine: Any) -> dict[str, float]:
    """Seconds by stage over all repeats, for the engine that tells."""
    if not isinstance(engine, PackedEngine):
        return {}
    stats = engine.stats
    return {
        "images_waited": stats.waited_s,
        "encode": stats.encode_s,
        "decode": stats.decode_s,
        "replay": stats.replay_s,
        "replayed_share": stats.num_replayed / max(1, stats.num_packed),
    }
