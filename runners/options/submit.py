"""The typed schema of `runners.submit`."""

from __future__ import annotations

from dataclasses import dataclass

from runners.options.benchmark_options import BenchmarksConfig
from runners.options.kinds import name_option, path_option


@dataclass(kw_only=True, slots=True)
class SubmitConfig(BenchmarksConfig):
    """Options of `runners.submit`.

    Attributes:
        tasks: The one benchmark.
        predictions: An answer file in LLaVA's JSONL; null takes the answers of a run.
        run: The stored run whose answers are taken.
        results_dir: Where runs are kept.
        output: The file that is written.
        allow_missing: Send empty answers for questions that have none.
        overwrite: Replace a file that is there.
    """

    predictions: str | None = path_option(None)
    run: str | None = name_option(None)
    results_dir: str = path_option("results")
    output: str = path_option()
    allow_missing: bool = False
    overwrite: bool = False
