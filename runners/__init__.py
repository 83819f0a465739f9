"""The programs. The only package that imports hydra and both `llava` and `evals`.

Nothing is imported here before it is asked for: the process that reads data never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runners.in_training.evaluate import evaluate
    from runners.in_training.flat_metrics import flatten_metrics

__all__ = ["evaluate", "flatten_metrics"]


def __getattr__(name: str) -> Any:
    """Returns what users of the package import from it, once they do."""
    if name == "evaluate":
        from runners.in_training.evaluate import evaluate

        return evaluate
    if name == "flatten_metrics":
        from runners.in_training.flat_metrics import flatten_metrics

        return flatten_metrics
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
