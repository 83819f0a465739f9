"""What a run came to: scores, tables, and how many questions have no answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from evals.scorers.judge import Judged
from evals.submission import Submittable
from runners.errors import COMPLETE, INCOMPLETE
from runners.evaluation.provenance import Timing
from runners.evaluation.task_run import TaskRun
from runners.storage.run_table import render_summaries, write_tables

logger = logging.getLogger(__name__)


def conclude(
    run_dir: Path,
    task_runs: Sequence[TaskRun],
    timings: Mapping[str, Timing],
    *,
    max_failures: int,
) -> int:
    """Scores the tasks, prints and writes the tables; returns the exit code.

    Args:
        run_dir: The run's folder.
        task_runs: Everything that could be asked has been.
        timings: Of the tasks that were asked in this session, by name.
        max_failures: How many questions of a task may have no answer.
    """
    summaries = [task_run.finish(timings.get(task_run.name)) for task_run in task_runs]
    write_tables(run_dir)
    print(f"{run_dir.name}\n{render_summaries(summaries)}\n")
    for task_run in task_runs:
        if not task_run.asked.task.has_annotations:
            _say_who_scores(task_run)
    logger.info("results in %s", run_dir)
    too_many = [
        f"{task_run.name} {number:,}"
        for task_run in task_runs
        if (number := task_run.num_unanswered()) > max_failures
    ]
    if not too_many:
        return COMPLETE
    logger.error(
        "Incomplete: questions without an answer, more than max_failures=%d: %s. The same command "
        "asks them again.",
        max_failures,
        ", ".join(too_many),
    )
    return INCOMPLETE


def _say_who_scores(task_run: TaskRun) -> None:
    """Says what becomes of answers that cannot be scored here."""
    task, way = task_run.asked.task, "it has no scorer"
    if isinstance(task, Submittable):
        way = "runners.submit writes the file for the server"
    elif isinstance(task, Judged):
        run = task_run.folder.parent.name
        way = f"a judge scores them: runners.score run={run} judge=openai"
    logger.info(
        "%s %s is not scored here: %s; the answers are in %s",
        task.name,
        task.split,
        way,
        task_run.folder,
    )
