"""Measures the engines side by side: `python -m runners.bench workload=... engine=...`.

Ratios within one run are what counts: the machine's speed is in all of them alike. Answers that are
computed again as near ties, or to measure those, count as in a run. `roofline=h200` measures
nothing: it tells what the planned packs would take on that device.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from runners.environment import prepare_torch
from runners.evaluation.roofline import describe_stages
from runners.options import program
from runners.options.bench import BenchProgramConfig
from runners.options.build import read_settings
from runners.options.words import nest
from runners.storage.files import write_json


def bench(config: DictConfig) -> int:
    """Runs one composed configuration and returns the exit code."""
    settings = read_settings(config, BenchProgramConfig).bench
    prepare_torch()
    # with torch, which no wrong option has to wait for
    if settings.roofline is not None:
        from runners.lab.bench.predicting import predict_tasks

        figures = predict_tasks(settings)
        _print_roofline(figures)
    else:
        from runners.lab.bench.comparing import compare_engines

        figures = compare_engines(settings)
        _print(figures)
    if settings.output:
        write_json(Path(settings.output), figures)
    return 0


def _print(figures: dict[str, Any]) -> None:
    print(f"{figures['device']['name']}, matmul {figures['matmul_flops_per_s'] / 1e9:,.0f} GFLOP/s")
    row = "{:<10} {:<11} {:>9} {:>12} {:>8} {:>6} {:>9}"
    print(row.format("workload", "engine", "ratio", "questions/s", "equal", "MFU", "memory"))
    for result in figures["results"]:
        print(
            row.format(
                result["workload"],
                result["engine"],
                f"{result['ratio_to_sequential']:.2f}" if result["ratio_to_sequential"] else "",
                f"{result['questions_per_s']:.2f}",
                f"{result['answers_equal']:.2%}" if result["answers_equal"] is not None else "",
                f"{result['mfu']:.0%}",
                f"{result['peak_memory_bytes'] / 2**30:.2f} GiB",
            )
        )


def _print_roofline(figures: dict[str, Any]) -> None:
    for result in figures["results"]:
        print(
            f"{result['workload']}: {result['num_questions']:,} questions in "
            f"{result['num_packs']:,} packs, answers of {result['new_tokens_assumed']} tokens "
            f"assumed, {result['model']} in {result['dtype']} on one {figures['roofline']}: "
            f"{result['total_s']:,.1f} s ({describe_stages(result['stages_s'])})"
        )


# Below a name, so that options are not taken for groups of other programs.
main = partial(program.main, "bench", bench, partial(nest, name="bench"))

if __name__ == "__main__":
    main()
