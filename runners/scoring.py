"""Stored answers become scores and a summary on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.records import Score
from evals.summary import Summary, summarize, summarize_unscored
from evals.task import Task
from runners.answer_lines import is_failure, read_failure, read_prediction
from runners.files import json_line, sha256_of_json, write_json, write_jsonl

SUMMARY_FILE = "summary.json"
SCORES_FILE = "scores.jsonl"


def score_run(
    task: Task,
    lines: Iterable[Mapping[str, Any]],
    num_questions: int,
    *,
    only: Collection[str] | None = None,
) -> tuple[Summary, list[Score]]:
    """Returns summary and scores of the stored answers of a task.

    Args:
        task: The benchmark.
        lines: Lines of `predictions.jsonl`, one a question.
        num_questions: How many questions were asked.
        only: The keys of these questions if they are not all of the split.
    """
    answered, failures = {}, {}
    for line in lines:
        if is_failure(line):
            failure = read_failure(line)
            failures[failure.key] = failure
        else:
            prediction = read_prediction(line)
            answered[prediction.key] = prediction
    if not task.has_annotations:
        return summarize_unscored(task, num_questions, len(answered), failures), []
    scores = [score for score in task.score(answered) if only is None or score.key in only]
    if not scores:
        raise DataError(
            f"None of the {num_questions:,} questions that {task.name} was asked counts for its "
            "score. Raise `limit`."
        )
    return summarize(task, scores, failures, limit_cuts_groups=only is not None), scores


def score_asked(  # noqa: PLR0913 - what the parts of a summary come from
    task: Task,
    lines: Iterable[Mapping[str, Any]],
    *,
    asked: Collection[str],
    limit: int | None,
    is_limited: bool,
    batch_check: Mapping[str, int],
    hashes: Mapping[str, str],
    timing: Mapping[str, Any],
) -> tuple[dict[str, Any], list[Score]]:
    """Returns what `summary.json` holds of questions that were asked here, and the scores.

    Args:
        task: The benchmark.
        lines: Lines of `predictions.jsonl`, one a question.
        asked: The keys of the questions.
        limit: The option that they were chosen by.
        is_limited: Whether they are not all of the split.
        batch_check: How many answers were computed again, and how many of them changed.
        hashes: Of answers, prompts and data.
        timing: What is told about the time.
    """
    only = asked if is_limited else None
    summary, scores = score_run(task, lines, len(asked), only=only)
    content = {
        **summary.to_json(),
        "primary_metric": task.primary_metric,
        "limited": is_limited,
        "limit": limit if is_limited else None,
        "batch_check": dict(batch_check),
        "hashes": {**hashes, **_scores_hash(scores), "scorer": sha256_of_json(task.definition)},
        "timing": dict(timing),
    }
    return content, scores


def write_results(folder: Path, summary: Mapping[str, Any], scores: list[Score]) -> None:
    """Writes `scores.jsonl`, if there are scores, and then `summary.json`, which has its hash."""
    if scores:
        write_jsonl(folder / SCORES_FILE, (score.to_line() for score in scores))
    else:
        (folder / SCORES_FILE).unlink(missing_ok=True)
    hashes = {name: value for name, value in summary["hashes"].items() if name != "scores"}
    hashes |= _scores_hash(scores)
    write_json(folder / SUMMARY_FILE, {**summary, "hashes": hashes})


def _scores_hash(scores: Sequence[Score]) -> dict[str, str]:
    """The hash of `scores.jsonl`, by which the gate knows that nobody edited it."""
    if not scores:
        return {}
    lines = "".join(json_line(score.to_line()) for score in scores)
    return {"scores": hashlib.sha256(lines.encode()).hexdigest()}


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Returns the summary in a task's folder, None if there is none that can be read."""
    try:
        summary = json.loads((folder / SUMMARY_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return summary if isinstance(summary, dict) else None
