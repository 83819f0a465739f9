"""The programs. The only package that imports hydra and both `llava` and `evals`.

Nothing is imported here before it is asked for: the process that reads data never imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llava_evals import require_own

if TYPE_CHECKING:
    from runners.in_training.evaluate import evaluate
    from runners.storage.frames import read

__all__ = ["evaluate", "flatten_metrics", "read"]

require_own()  # else what another project calls `llava` or `conf` would be imported from here on


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


def __getattr__(name: str) -> Any:
    """Returns what users of the package import from it, once they do."""
    if name == "evaluate":
        from runners.in_training.evaluate import evaluate

        return evaluate
    if name == "read":
        from runners.storage.frames import read

        return read
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
