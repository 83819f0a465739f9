"""Stored runs as data: a row a task, and a row a question, in pandas."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from evals.errors import DataError
from runners.errors import ConfigError
from runners.storage.answer_lines import is_failure, read_failure
from runners.storage.answer_store import TRACE_FILE
from runners.storage.run_table import UNREADABLE, task_row, warn_of_lack
from runners.storage.stored import State, StoredRun, StoredTask, find_run, list_runs
from runners.storage.summary import StoredScore

logger = logging.getLogger(__name__)

Row = Mapping[str, object]

_OF_A_RUN = (
    *("run", "task", "split", "state", "metric", "score", "unit"),
    *("interval_low", "interval_high"),
    *("num_questions", "num_answered", "coverage", "num_failed", "num_unparsed"),
    *("limited", "limit", "shard", "other_data"),
    *("definition", "model", "conversation", "dtype", "quantization", "started", "folder"),
)
_OF_A_SAMPLE = (
    *("run", "task", "key", "question_id", "prompt", "text", "answer", "score", "cluster"),
    *("cause", "message", "finish_reason", "num_prompt_tokens", "num_new_tokens"),
    *("min_margin", "latency_s"),
)
"""The columns that are there in any case, in their order."""


class Results(NamedTuple):
    """What stored runs hold.

    Attributes:
        runs: One row a task of a run. Figures of a task that is not `finished` are missing, since
            they are not those of its answers. Each metric has a column `metrics.<name>`, each cause
            of failures one `failures.<cause>`.
        samples: One row a question that has an answer or a failure. Each breakdown field has a
            column `groups.<name>`. Scores of a task that is not finished are missing.
    """

    runs: pd.DataFrame
    samples: pd.DataFrame


def read(
    results_dir: str | Path = "results",
    *,
    runs: str | Sequence[str] | None = None,
    tasks: str | Sequence[str] | None = None,
) -> Results:
    """Returns what lies in a folder of runs as two data frames; see `Results`.

    What cannot be read costs its own figures only, and is logged as a warning.

    Args:
        results_dir: The folder.
        runs: Names or folders of runs; None for all.
        tasks: Names of benchmarks; None for all.

    Raises:
        ConfigError: the folder does not exist, or holds no such run or benchmark.
    """
    root, named = Path(results_dir), _names(runs)
    found = list_runs(root) if named is None else [find_run(run, root, "runs") for run in named]
    chosen = list(_tasks_of(found, _names(tasks)))
    rows = [{**task_row(task), "folder": str(task.folder)} for task in chosen]
    samples: list[Row] = []
    for row, task in zip(rows, chosen, strict=True):
        warn_of_lack(row, task.folder)
        if row["state"] != UNREADABLE:
            samples += _samples(task)
    return Results(_frame(rows, _OF_A_RUN), _frame(samples, _OF_A_SAMPLE))


def _names(given: str | Sequence[str] | None) -> list[str] | None:
    return [given] if isinstance(given, str) else None if given is None else list(given)


def _tasks_of(runs: Iterable[StoredRun], names: Sequence[str] | None) -> Iterator[StoredTask]:
    """The tasks of those names; each must be there at least once."""
    runs = list(runs)
    there = {name for run in runs for name in run.tasks}
    if missing := [name for name in names or () if name not in there]:
        raise ConfigError(
            f"`tasks` names {missing[0]!r}, which no run here has. There are: "
            f"{', '.join(sorted(there)) or 'none'}."
        )
    for run in runs:
        yield from (task for name, task in run.tasks.items() if names is None or name in names)


def _samples(task: StoredTask) -> Iterator[Row]:
    """The questions of a task that have an answer or a failure."""
    lines, traces = task.answers.lines, task.answers.traces
    if not task.answers_path.exists():
        logger.warning("%s is not there: its questions are left out", task.answers_path)
    if task.answers.num_bad:
        logger.warning(
            "%d answers in %s are not as they were written, or their lines in %s are missing: they "
            "are left out",
            task.answers.num_bad,
            task.answers_path,
            TRACE_FILE,
        )
    scores: Mapping[str, StoredScore] = {}
    try:
        scores = task.scores if task.state is State.FINISHED else {}
    except DataError as error:
        logger.warning("the scores of single questions are left out: %s", error)
    for key, line in lines.items():
        score, trace, metadata = scores.get(key), traces.get(key, {}), line["metadata"]
        failure = read_failure(line) if is_failure(line) else None
        yield {
            "run": task.run,
            "task": task.name,
            "key": key,
            **{name: line.get(name) for name in ("question_id", "prompt", "text")},
            "answer": None if score is None else score.answer,
            "score": None if score is None else score.value,
            "cluster": None if score is None else score.cluster,
            "cause": None if failure is None else failure.cause,
            "message": None if failure is None else failure.message,
            "finish_reason": metadata.get("finish_reason"),
            **{name: metadata.get(name) for name in ("num_prompt_tokens", "num_new_tokens")},
            **{name: trace.get(name) for name in ("min_margin", "latency_s")},
            "groups": {} if score is None else score.groups,
        }


def _frame(rows: Iterable[Row], columns: Sequence[str]) -> pd.DataFrame:
    """A frame with those columns first; a mapping in a row has a column each of its names."""
    flat = [{_whole(name): _whole(value) for name, value in _flattened(row)} for row in rows]
    others = dict.fromkeys(name for row in flat for name in row if name not in columns)
    return pd.DataFrame(flat, columns=[*columns, *others])


def _flattened(row: Row) -> Iterator[tuple[str, object]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", part) for inner, part in value.items())
        else:
            yield name, value


def _whole(value: Any) -> Any:
    """Half a character, as JSON can hold it, is escaped: pandas takes none."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
