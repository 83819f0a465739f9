"""Every engine on every workload, in turn, in one process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from llava.generation.calibration import Calibration
from llava.generation.devices import set_arithmetic
from llava.generation.packed import PackedEngine
from llava.generation.request import EngineReport, Request
from llava.generation.sequential import SequentialEngine
from runners.environment import describe_environment
from runners.errors import ConfigError
from runners.lab.bench.batched import BatchedEngine
from runners.lab.bench.demo_questions import DEMO, build_demo_questions
from runners.lab.bench.measure import Measurement, matmul_flops_per_s, measure, useful_flops
from runners.lab.bench.models import build_model
from runners.lab.bench.workloads import build_workload, find_words, parent_s_per_question
from runners.workers.briefing import brief_each

if TYPE_CHECKING:  # at run time nothing of Hydra is needed here
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
        workloads = {name: _questions(name, parts[0], settings) for name in settings.workload}
    except ValueError as error:
        raise ConfigError(str(error)) from error
    matmul = matmul_flops_per_s(torch.device(device), dtype)
    results = []
    for name, requests in workloads.items():
        print(f"{name}: {len(requests)} questions ...", file=sys.stderr)
        engines: dict[str, Any] = {}
        for engine in settings.engine:
            build = partial(_build_engine, engine, parts, settings)
            engines[engine] = _warmed_up(build, requests)
        parent_s = parent_s_per_question(requests, parts[0])
        results += [
            {"workload": name, **result, "parent_s_per_question": parent_s}
            for result in _compare(requests, engines, parts[1], settings, matmul)
        ]
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


def _questions(name: str, tokenizer: Any, settings: BenchConfig) -> list[Request]:
    if name == DEMO:
        return build_demo_questions(settings.num_images, tokenizer, settings.seed)
    groups = Path(settings.questions) if settings.questions else None
    words = find_words(tokenizer)
    return build_workload(name, settings.num_images, words, settings.seed, groups)


def _compare(
    requests: Sequence[Request],
    engines: Mapping[str, Any],
    model: Any,
    settings: BenchConfig,
    matmul: float,
) -> list[dict[str, Any]]:
    """Results of all engines on one workload; repeats alternate between the engines."""
    runs: dict[str, list[Measurement]] = {name: [] for name in engines}
    for _ in range(settings.repeats):  # in turn, so that a slow minute of the machine meets all
        for name, engine in engines.items():
            runs[name].append(measure(engine, model, requests))
    sequential = runs.get("sequential")
    results = []
    for name, measured in runs.items():
        packed = isinstance(engines[name], PackedEngine)
        flops = useful_flops(model, requests, measured[0].answers, shares_prefixes=packed)
        seconds = median(m.seconds for m in measured)
        results.append(
            {
                "engine": name,
                "model": settings.model,
                "dtype": settings.dtype,
                "num_questions": len(requests),
                "questions_per_s": len(requests) / seconds,
                "ratio_to_sequential": _ratio(sequential, measured) if sequential else None,
                "answers_equal": _equal(sequential, measured) if sequential else None,
                "peak_memory_bytes": max(m.peak_memory_bytes for m in measured),
                "mfu": flops / seconds / matmul,
                **_counted(engines[name].report() if packed else None, settings.repeats),
            }
        )
    return results


def _build_engine(name: str, parts: tuple[Any, Any, Any, int], settings: BenchConfig) -> Any:
    if name == "sequential":
        return SequentialEngine(*parts)
    if name == "batched":
        return BatchedEngine(*parts, batch_size=settings.batch_size)
    if name == "packed":
        return PackedEngine(*parts, replay=settings.replay, max_tokens=settings.max_tokens)
    raise ConfigError(f"`engine` must be sequential, batched or packed, but is {name!r}.")


def _warmed_up(build: Callable[[], Any], requests: Sequence[Request]) -> Any:
    """An engine that counts from its first answer on; another one has answered before it."""
    list(build().run(requests[:_WARM_UP]))
    engine = build()
    if isinstance(engine, PackedEngine):
        engine.brief(brief_each(1, len(requests), Calibration()))
    return engine


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


def _counted(report: EngineReport | None, repeats: int) -> dict[str, Any]:
    """What an engine counted in one pass over a workload; None and no stages if it counts nothing.

    Seconds of stages are a GPU's own, else the host's; see `EngineReport`.
    """
    if report is None:
        counted = ("padding_share", "replayed_share", "num_attention_shapes")
        return {**dict.fromkeys((*counted, "cache_bytes_moved", "num_tower_calls")), "stages_s": {}}
    stages = {
        "wait": report.waited_s,
        "encode": report.encode.seconds,
        "prefix": report.prefix.seconds,
        "suffix": report.suffix.seconds,
        "decode": report.decode.seconds,
        "replay": report.replay_s,
    }
    return {
        "padding_share": report.padding_share,
        "replayed_share": report.num_replayed / max(1, report.num_packed),
        "num_attention_shapes": report.num_attention_shapes,
        "cache_bytes_moved": report.cache_bytes_moved // repeats,
        "num_tower_calls": report.num_tower_calls // repeats,
        "stages_s": {name: seconds / repeats for name, seconds in stages.items()},
    }
