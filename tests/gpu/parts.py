"""The parts of the proof, one a process: `python -m tests.gpu.parts NAME FILE`."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

CHECKOUT = Path(__file__).parents[2]
MODEL = "random-7b"
NUM_IMAGES = 4
GIB = 2**30

BENCH = {
    "workload": ["gqa", "scienceqa", "generate"],
    "model": MODEL,
    "engine": ["sequential", "batched", "packed"],
    "num_images": NUM_IMAGES,
    "repeats": 1,
    "num_threads": 4,
    "dtype": "bfloat16",
    "tower_dtype": None,
    "device": "cuda:0",
    "replay": "near_ties",
    "max_tokens": None,
    "batch_size": 16,
    "questions": None,
    "seed": 0,
}
"""Options of `runners.bench`, whose own schema needs Hydra."""


def device() -> dict[str, object]:
    """What the device does by itself: the constants of `runners.evaluation.roofline`."""
    size = 8192
    matrix = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    block = torch.empty(4 * GIB, dtype=torch.uint8, device="cuda")
    other, small = torch.empty_like(block), torch.zeros(1, device="cuda")
    product_s = _seconds(lambda: matrix @ matrix, 20)
    copy_s = _seconds(lambda: other.copy_(block), 20)
    start_s = _seconds(lambda: small.add_(1), 2000)
    free, total = torch.cuda.mem_get_info()
    return {
        "torch": torch.__version__,
        "memory_bytes": total,
        "free_bytes": free,
        "half_flops_reached": 2 * size**3 / product_s,
        "bytes_per_s_reached": 2 * len(block) / copy_s,
        "launch_s": start_s,
    }


def tests() -> dict[str, object]:
    """The tests that need a GPU."""
    for package in ("pytest", "pytest_timeout", "hypothesis"):
        importlib.import_module(package)
    # with the versions at hand, whose warnings may be others than those of the tested ones
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-o", "filterwarnings=default"]
    files = [
        str(path)
        for path in (CHECKOUT / "tests").rglob("test_*.py")
        if "pytest.mark.gpu" in path.read_text(encoding="utf-8")
    ]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *files],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return {"summary": done.stdout.strip().splitlines()[-1]}


def bench() -> dict[str, object]:
    """The engines side by side, with memory, replays and answers that are equal."""
    from runners.lab.bench.comparing import compare_engines

    settings: Any = SimpleNamespace(**BENCH)
    return compare_engines(settings)


def kernels() -> dict[str, object]:
    """Where the device's time goes in packs, by kernel."""
    from torch.profiler import ProfilerActivity, profile

    engine, requests = _packed_engine()
    list(engine.run(requests))
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        list(engine.run(requests))
    events = [
        {"name": event.key[:160], "calls": event.count, "ms": event.self_device_time_total / 1000}
        for event in profiled.key_averages()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    events.sort(key=lambda event: -event["ms"])
    words = ("flash", "fmha", "attention", "cudnn", "softmax")
    return {
        "device_ms": sum(event["ms"] for event in events),
        "num_kernels_started": sum(event["calls"] for event in events),
        "attention": [e for e in events if any(word in e["name"].lower() for word in words)],
        "longest": events[:15],
    }


def processes() -> dict[str, object]:
    """One process on the GPU, then two that answer the same at the same time."""
    alone = _answer_in(1)
    together = _answer_in(2)
    if any(each["answers"] != alone[0]["answers"] for each in together):
        raise RuntimeError("two processes on one GPU answered otherwise than one")
    for each in (*alone, *together):
        del each["answers"]
    return {"alone": alone, "together": together}


def quantized() -> dict[str, object]:
    """Whether packed answers with quantized weights are the sequential ones, as after replay."""
    importlib.import_module("bitsandbytes")
    from llava.generation.packed import PackedEngine
    from llava.generation.sequential import SequentialEngine
    from llava.model.builder import load_pretrained_model
    from llava.model.quantization import Quantization
    from runners.lab.bench.models import DEMO_DIR
    from runners.lab.bench.workloads import build_workload, find_words

    found = {}
    for kind in ("nf4", "int8"):
        quantization = Quantization(kind=kind)
        parts = load_pretrained_model(str(DEMO_DIR), None, "demo", quantization=quantization)
        requests = build_workload("vqav2", 45, find_words(parts[0]), 0)
        expected = {r.key: r.token_ids for r in SequentialEngine(*parts).run(requests)}
        engine = PackedEngine(*parts)
        answers = {result.key: result.token_ids for result in engine.run(requests)}
        if answers != expected:
            raise RuntimeError(f"with {kind} packed answers differ from sequential ones")
        report = engine.report()
        found[kind] = {
            "num_questions": len(requests),
            "threshold": report.threshold,
            "num_replayed": report.num_replayed,
            "num_flipped": report.num_flipped,
        }
    return found


def _seconds(call: Callable[[], object], repeats: int) -> float:
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def _packed_engine() -> tuple[Any, list[Any]]:
    """A packed engine around the model, nothing computed again, and questions of GQA's shape."""
    from llava.generation.packed import PackedEngine
    from runners.lab.bench.models import build_model
    from runners.lab.bench.workloads import build_workload, find_words

    parts = build_model(MODEL, device="cuda:0", dtype=torch.bfloat16, tower_dtype=None)
    return PackedEngine(*parts, replay="off"), build_workload(
        "gqa", NUM_IMAGES, find_words(parts[0]), 0
    )


def _answer_in(number: int) -> list[dict[str, Any]]:
    """What each of so many processes took, which begin together once all have their model."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(number), context.Queue()
    started = [context.Process(target=_answer, args=(barrier, queue)) for _ in range(number)]
    for process in started:
        process.start()
    found = [queue.get(timeout=45) for _ in started]
    for process in started:
        process.join()
    return found


def _answer(barrier: Any, queue: Any) -> None:
    engine, requests = _packed_engine()
    list(engine.run(requests))
    torch.cuda.reset_peak_memory_stats()
    barrier.wait()
    begun = time.perf_counter()
    answers = {result.key: result.token_ids for result in engine.run(requests)}
    queue.put(
        {
            "questions_per_s": len(requests) / (time.perf_counter() - begun),
            "peak_memory_bytes": torch.cuda.max_memory_allocated(),
            "num_halvings": engine.report().num_halvings,
            "answers": answers,
        }
    )


def main(name: str, output: Path) -> None:
    """Runs one part and writes what it found; a part that lacks a package is left out."""
    part = {function.__name__: function for function in PARTS}[name]
    try:
        found = {"status": "done", **part()}
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("llava", "evals", "runners", "tests"):
            raise
        found = {"status": "left out", "reason": f"{error.name} is not installed"}
    output.write_text(json.dumps(found))


PARTS = (device, tests, bench, kernels, processes, quantized)

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
