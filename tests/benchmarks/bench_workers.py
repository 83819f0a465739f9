"""How much faster two workers of one thread are than one.

Run as `python -m tests.benchmarks.bench_workers`.

Both answer the bench's `gqa` workload with `random-25m`, in turn, through the pool that the
programs use; the time runs from the first item dealt to the last answer, with all models loaded.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from llava.generation.request import Request
from llava.tokenizer import load_tokenizer
from runners.environment import num_cores
from runners.lab.bench.models import DEMO_DIR
from runners.lab.bench.workloads import build_workload
from runners.options.engine import PackedOptions
from runners.workers.messages import LoadModel
from runners.workers.pool import LocalWorkers
from tests.runners.workers.processes import wait_for_all


@dataclass(kw_only=True, slots=True)
class RandomModelOptions(PackedOptions):
    """Options of `RandomModelEngine`."""

    _target_: str = "tests.benchmarks.random_engine.RandomModelEngine"


def items(requests: list[Request]) -> Iterator[tuple[Request, ...]]:
    """One image with all its questions an item, the largest first."""
    groups = [
        tuple(group) for _, group in groupby(requests, key=lambda request: request.images[0].key)
    ]
    return iter(sorted(groups, key=len, reverse=True))


def loaded_pool(num_workers: int) -> LocalWorkers:
    pool = LocalWorkers(num_workers=num_workers, num_threads=1)
    pool.start("cpu")
    order = LoadModel(
        path=str(DEMO_DIR),
        base=None,
        name="llava-demo",
        dtype="float32",
        engine=RandomModelOptions(),
    )
    pool.load(order)
    wait_for_all(pool)
    return pool


def measure(pool: LocalWorkers, requests: list[Request]) -> float:
    started = time.perf_counter()
    answered = sum(result is not None for result in pool.answer(items(requests)))
    assert answered == len(requests)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-images", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--at-least", type=float, default=0.0, help="exit 1 below this ratio")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    requests = build_workload("gqa", options.num_images, len(load_tokenizer(DEMO_DIR)), seed=0)
    with closing(loaded_pool(1)) as one, closing(loaded_pool(2)) as two:
        for pool in (one, two):
            measure(pool, requests[:80])  # the first passes are slower
        pairs = [(measure(one, requests), measure(two, requests)) for _ in range(options.repeats)]
    ratio = statistics.median(alone / both for alone, both in pairs)
    result = {
        "num_questions": len(requests),
        "one_worker_s": [round(alone, 2) for alone, _ in pairs],
        "two_workers_s": [round(both, 2) for _, both in pairs],
        "ratio": round(ratio, 2),
        "num_cores": num_cores(),
        "machine": platform.machine(),
    }
    print(json.dumps(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if ratio >= options.at_least else 1


if __name__ == "__main__":
    raise SystemExit(main())
