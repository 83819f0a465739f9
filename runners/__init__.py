"""The programs. The only package that imports hydra and both `llava` and `evals`.

Nothing is imported here before it is asked for: the process that reads data never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llava_evals import require_own

if TYPE_CHECKING:
    from runners.in_training.evaluate import evaluate
    from runners.in_training.flat_metrics import flatten_metrics
    from runners.in_training.wandb_logging import log_run, log_summaries
    from runners.storage.frames import read

__all__ = ["evaluate", "flatten_metrics", "log_run", "log_summaries", "read"]

require_own()  # else what another project calls `llava` or `conf` would be imported from here on

_PLACES = {
    "evaluate": "runners.in_training.evaluate",
    "flatten_metrics": "runners.in_training.flat_metrics",
    "log_run": "runners.in_training.wandb_logging",
    "log_summaries": "runners.in_training.wandb_logging",
    "read": "runners.storage.frames",
}


def __getattr__(name: str) -> Any:
    """Returns what users of the package import from it, once they do."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
