"""Weights & Biases: the figures of an evaluation in a W&B run. Needs `llava-evals[wandb]`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners import flatten_metrics
from runners.errors import ConfigError
from runners.storage.run_table import summary_rows
from runners.storage.stored import read_run
from runners.storage.summary import SummaryFile

if TYPE_CHECKING:
    from wandb import Run


def log_summaries(
    summaries: Mapping[str, Mapping[str, Any]],
    run: Run,
    *,
    step: int | None = None,
    prefix: str = "eval",
) -> dict[str, float]:
    """Logs every metric as `<prefix>/<task>/<metric>`, and the table that `runners.eval` prints.

    Args:
        summaries: What `runners.evaluate` returned.
        run: What `wandb.init` returned.
        step: The training step; None for W&B's own count.
        prefix: What the names begin with.

    Returns:
        What was logged, without the table.
    """
    import wandb

    metrics = flatten_metrics(summaries, prefix)
    stored = [SummaryFile.from_json(summary) for summary in summaries.values()]
    rows = summary_rows(stored)
    table = wandb.Table(
        columns=list(rows[0] if rows else []), data=[list(row.values()) for row in rows]
    )
    run.log({**metrics, f"{prefix}/summary": table}, step=step)
    return metrics


def log_run(
    run_dir: str | Path, run: Run, *, step: int | None = None, prefix: str = "eval"
) -> dict[str, float]:
    """Logs the finished benchmarks of a stored run, and in the configuration what decided them.

    `run_dir` is the run's folder, such as `results/llava-v1.5-7b`; the rest, and what is returned,
    is as in `log_summaries`.

    Raises:
        ConfigError: the folder holds no finished benchmark.
        DataError: a file of it is malformed.
    """
    tasks = read_run(Path(run_dir)).tasks
    summaries = {
        name: summary.to_json()
        for name, task in tasks.items()
        if (summary := task.summary) is not None
    }
    if not summaries:
        raise ConfigError(
            f"`run_dir` must be the folder of a run with a finished benchmark, but {run_dir} holds "
            "none. Give results/NAME."
        )
    manifests = {name: tasks[name].manifest for name in summaries}
    identities = {name: m.identity for name, m in manifests.items() if m is not None}
    run.config.update({prefix: {"run": Path(run_dir).name, "identity": identities}})
    return log_summaries(summaries, run, step=step, prefix=prefix)
