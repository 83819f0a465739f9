"""The figures of summaries under names that trackers of trainings take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flatten_metrics(
    summaries: Mapping[str, Mapping[str, Any]], prefix: str = "eval"
) -> dict[str, float]:
    """Returns every metric as `<prefix>/<task>/<metric>`, and each task's coverage beside them.

    A metric that could not be computed is left out. The summaries are the contents of
    `summary.json` by task.

    >>> flatten_metrics({"gqa": {"metrics": {"accuracy": 0.62, "binary": None}, "coverage": 1.0}})
    {'eval/gqa/accuracy': 0.62, 'eval/gqa/coverage': 1.0}
    """
    flat = {}
    for task, summary in summaries.items():
        for name, value in {**summary["metrics"], "coverage": summary["coverage"]}.items():
            if value is not None:
                flat[f"{prefix}/{task}/{name}"] = float(value)
    return flat
