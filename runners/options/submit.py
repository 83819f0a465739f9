"""The typed schema of `runners.submit`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass(kw_only=True, slots=True)
class SubmitConfig:
    """Options of `runners.submit`.

    Attributes:
        tasks: The one benchmark.
        data: Where the benchmarks lie.
        predictions: An answer file in LLaVA's JSONL; null takes the answers of a run.
        run: The stored run whose answers are taken.
        results_dir: Where runs are kept.
        output: The file that is written.
        allow_missing: Send empty answers for questions that have none.
        overwrite: Replace a file that is there.
    """

    tasks: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    predictions: str | None = None
    run: str | None = None
    results_dir: str = "results"
    output: str = MISSING
    allow_missing: bool = False
    overwrite: bool = False
