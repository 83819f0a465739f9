"""The report as JSON: positions instead of names, every text once. `report.js` reads it back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from runners.storage.summary import SummaryFile
from runners.views.report.records import OUTCOMES, Answer, Report, Row, TaskReport
from runners.views.report.thumbnails import ImageName

LEFT_OUT, UNREADABLE = -1, -2
"""In place of a thumbnail's number: above the limit, or not to be opened."""

_SUMMARY_FIELDS = (
    "split",
    "definition",
    "primary_metric",
    "metrics",
    "metrics_answered",
    "breakdowns",
    "interval",
    "num_questions",
    "num_answered",
    "coverage",
    "num_failed",
    "num_unparsed",
    "batch_check",
    "scales",
)


class Texts:
    """Numbers texts, so that one that occurs a thousand times is written once.

    >>> texts = Texts()
    >>> [texts.number(text) for text in ("yes", "no", "yes")], texts.table
    ([0, 1, 0], ['yes', 'no'])
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def table(self) -> list[str]:
        """Every text at its number."""
        return list(self._numbers)

    def number(self, text: str) -> int:
        """Returns the number of a text."""
        return self._numbers.setdefault(text, len(self._numbers))

    def optional(self, text: str | None) -> int | None:
        """Returns the number of a text, None of None."""
        return None if text is None else self.number(text)


def build_payload(report: Report, thumbnail_of: Callable[[ImageName], int]) -> dict[str, Any]:
    """Returns the object that the page's script reads.

    Args:
        report: What is shown.
        thumbnail_of: The number of an image's thumbnail, or `LEFT_OUT` or `UNREADABLE`.
    """
    texts = Texts()
    tasks = []
    for task in report.tasks:
        fields = list(dict.fromkeys(name for row in task.rows for name in row.groups))
        rows = [_row(row, task.name, fields, texts, thumbnail_of) for row in task.rows]
        tasks.append({**_task(task), "fields": fields, "rows": rows})
    payload = {
        "runs": [{"name": run.name, "facts": dict(run.facts)} for run in report.runs],
        "outcomes": list(OUTCOMES),
        "tasks": tasks,
        "texts": texts.table,
    }
    return dict(_finite(payload))


def _task(task: TaskReport) -> dict[str, Any]:
    return {
        "name": task.name,
        "notes": list(task.notes),
        "summaries": [_summary(summary) for summary in task.summaries],
        "comparison": None if task.comparison is None else asdict(task.comparison),
        "differences": [[name, *values] for name, values in task.differences.items()],
    }


def _summary(summary: SummaryFile | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    content = summary.to_json()
    return {name: content.get(name) for name in _SUMMARY_FIELDS}


def _row(
    row: Row,
    task: str,
    fields: list[str],
    texts: Texts,
    thumbnail_of: Callable[[ImageName], int],
) -> list[Any]:
    return [
        texts.number(row.key),
        texts.number(str(row.question_id)),
        texts.number(row.question),
        [[texts.number(image.key), thumbnail_of((task, image.key))] for image in row.images],
        [[texts.number(text), count] for text, count in row.targets],
        [texts.optional(row.groups.get(name)) for name in fields],
        [None if answer is None else _answer(answer, texts) for answer in row.answers],
    ]


def _answer(answer: Answer, texts: Texts) -> list[Any]:
    prompt, failure, trace = answer.prompt, answer.failure, answer.trace
    return [
        OUTCOMES.index(answer.outcome),
        texts.number(answer.text),
        answer.score,
        texts.optional(answer.compared),
        [
            int(prompt.is_rendered),
            texts.number(prompt.head),
            texts.number(prompt.turn),
            texts.number(prompt.tail),
        ],
        None if failure is None else [texts.number(failure.cause), texts.number(failure.message)],
        texts.optional(answer.details.get("finish_reason")),
        answer.details.get("num_prompt_tokens"),
        answer.details.get("num_new_tokens"),
        trace.get("min_margin"),
        int(bool(trace.get("replayed"))),
        int(bool(trace.get("flipped"))),
        trace.get("latency_s"),
        trace.get("attempts"),
    ]


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return value
