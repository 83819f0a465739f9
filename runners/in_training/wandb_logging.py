"""Weights & Biases: the figures of an evaluation in a W&B run. Needs `llava-evals[wandb]`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llava.errors import reason_of
from runners.errors import COMPLETE, INCOMPLETE, ConfigError
from runners.in_training.flat_metrics import flatten_metrics
from runners.storage.files import is_there, sha256_of_json, write_json
from runners.storage.lock import explaining_disk_errors
from runners.storage.run_table import read_figures, summary_rows
from runners.storage.stored import read_run
from runners.storage.summary import SummaryFile

if TYPE_CHECKING:
    from wandb import Run

logger = logging.getLogger(__name__)

PREFIX = "eval"
SENT_FILE = "wandb.json"
"""Beside the benchmarks of a run: which figures W&B has taken, as a hash by project."""


def log_summaries(
    summaries: Mapping[str, Mapping[str, Any]],
    run: Run,
    *,
    step: int | None = None,
    prefix: str = PREFIX,
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
    run_dir: str | Path, run: Run, *, step: int | None = None, prefix: str = PREFIX
) -> dict[str, float]:
    """Logs the finished benchmarks of a stored run, and in the configuration what decided them.

    `run_dir` is the run's folder, such as `results/llava-v1.5-7b`; the rest, and what is returned,
    is as in `log_summaries`. In the configuration, the last run logged with a prefix takes the
    place of the one before. A benchmark whose figures are not those of its answers is left out,
    and a warning says so.

    Raises:
        ConfigError: the folder holds no finished benchmark.
    """
    stored = read_run(Path(run_dir))
    summaries = {name: summary.to_json() for name, summary in read_figures(stored).items()}
    if not summaries:
        raise ConfigError(
            f"`run_dir` must be the folder of a run with a finished benchmark, but {run_dir} holds "
            "none. Give results/NAME."
        )
    manifests = {name: stored.tasks[name].manifest for name in summaries}
    identities = {name: m.identity for name, m in manifests.items() if m is not None}
    metrics = log_summaries(summaries, run, step=step, prefix=prefix)
    decided = {"run": Path(run_dir).name, "identity": identities}
    run.config.update({prefix: decided}, allow_val_change=True)
    return metrics


def require_wandb() -> None:
    """Checks that the package is installed.

    Raises:
        ConfigError: it is not.
    """
    if find_spec("wandb") is None:
        raise ConfigError(
            "`wandb` needs the package wandb, which is not installed. Install it with "
            "pip install 'llava-evals[wandb]', or leave the option out."
        )


def log_to_project(run_dir: Path, project: str, *, quiet: bool = False) -> int:
    """Logs a stored run as a run of its name in a project, and notes it; returns an exit code.

    Args:
        run_dir: The run's folder.
        project: Its name, or `ENTITY/PROJECT`.
        quiet: Have W&B itself say nothing.

    Raises:
        StoreError: W&B has the figures, but that cannot be noted.
    """
    import wandb

    entity, _, name = project.rpartition("/")
    try:
        options = wandb.Settings(silent=quiet, console="off")
        wandb.setup(options)  # else what comes before the run, such as the login, is told
        with wandb.init(
            project=name, entity=entity or None, name=run_dir.name, settings=options
        ) as run:
            figures = log_run(run_dir, run)
            place, is_kept = Path(run.dir).parent if run.offline else run.url, not run.disabled
    except (wandb.Error, OSError) as error:  # the run itself is complete and stored
        logger.error(
            "W&B has not taken %s: %s. The results are in %s; the same command sends them again, "
            "with overwrite=false if it had overwrite=true.",
            run_dir.name,
            reason_of(error),
            run_dir,
        )
        return INCOMPLETE
    if is_kept:  # nothing is with WANDB_MODE=disabled
        logger.info("W&B has taken %s: %s", run_dir.name, place)
        sent = {**_read_sent(run_dir), project: sha256_of_json(figures)}
        with explaining_disk_errors(run_dir):
            write_json(run_dir / SENT_FILE, sent)
    return COMPLETE


def is_sent(run_dir: Path, project: str) -> bool:
    """Whether W&B has taken the figures of a stored run, as they are now, into a project."""
    stored = read_figures(read_run(run_dir))
    figures = flatten_metrics({name: summary.to_json() for name, summary in stored.items()}, PREFIX)
    return _read_sent(run_dir).get(project) == sha256_of_json(figures)


def _read_sent(run_dir: Path) -> dict[str, object]:
    """What is noted; nothing where that cannot be read, so that the figures are sent again."""
    path = run_dir / SENT_FILE
    try:
        content = json.loads(path.read_bytes()) if is_there(path) else {}
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}
