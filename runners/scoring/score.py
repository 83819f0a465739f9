"""Stored answers become scores and a summary on disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from evals.errors import DataError
from evals.figures.summary import Summary, summarize, summarize_unscored
from evals.records import Score
from evals.task import Task
from runners.storage.files import sha256_of_json
from runners.storage.lines import is_failure, read_failure, read_prediction
from runners.storage.summary import scores_hash


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
        "hashes": {**hashes, **scores_hash(scores), "scorer": sha256_of_json(task.definition)},
        "timing": dict(timing),
    }
    return content, scores
