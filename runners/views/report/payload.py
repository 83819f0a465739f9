"""The report as JSON: positions instead of names, every text once. `report.js` reads it back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from evals.figures.paired_tests import PairedComparison
from runners.storage.summary import SummaryFile
from runners.views.report.shown import Outcome, Report, TaskReport
from runners.views.report.thumbnails import ImageName

_LEFT_OUT = -1
"""In place of the number of a thumbnail above the limit, or of an image that is not had in full."""


class Pictures(NamedTuple):
    """The numbers of an image's pictures.

    Attributes:
        thumbnail: Of the small one, or `UNREADABLE`.
        full: Of the whole one.
    """

    thumbnail: int = _LEFT_OUT
    full: int = _LEFT_OUT


_NO_PICTURES = Pictures()

_SUMMARY_FIELDS = (
    *("split", "definition", "primary_metric", "metrics", "metrics_answered", "breakdowns"),
    *("interval", "num_questions", "num_answered", "coverage", "num_failed", "num_unparsed"),
    *("batch_check", "scales"),
)


def number_pictures(
    thumbnails: Mapping[ImageName, int], addresses: Mapping[ImageName, str]
) -> dict[ImageName, Pictures]:
    """Returns the numbers of each image's pictures.

    Args:
        thumbnails: The number of each image's thumbnail.
        addresses: Where images are had in full; equal addresses have one number.
    """
    numbers = {address: n for n, address in enumerate(dict.fromkeys(addresses.values()))}
    return {
        name: Pictures(
            thumbnail=thumbnails.get(name, _LEFT_OUT),
            full=numbers[addresses[name]] if name in addresses else _LEFT_OUT,
        )
        for name in dict.fromkeys((*thumbnails, *addresses))
    }


def build_payload(report: Report, pictures: Mapping[ImageName, Pictures]) -> dict[str, Any]:
    """Returns the object that the page's script reads.

    Args:
        report: What is shown.
        pictures: The numbers of each image's pictures.
    """
    texts: dict[str, int] = {}
    payload = {
        "runs": [asdict(run) for run in report.runs],
        "outcomes": [outcome.name.lower() for outcome in Outcome],
        "tasks": [_task(task, pictures, texts) for task in report.tasks],
        "texts": list(texts),  # last: by now they all have their numbers
    }
    return dict(_finite(payload))


def _task(
    task: TaskReport, pictures: Mapping[ImageName, Pictures], texts: dict[str, int]
) -> dict[str, Any]:
    # Rows name their groups by position, and need not have all of them.
    fields = list(dict.fromkeys(name for row in task.rows for name in row.groups))
    rows = [
        (
            row.key,
            row.question_id,
            row.question,
            [(i.key, *pictures.get((task.name, i.key), _NO_PICTURES)) for i in row.images],
            row.targets,
            [row.groups.get(name) for name in fields],
            row.answers,
        )
        for row in task.rows
    ]
    return {
        "name": task.name,
        "notes": task.notes,
        "summaries": [_summary(summary) for summary in task.summaries],
        "comparisons": [each and _comparison(each) for each in task.comparisons],
        "differences": [[name, *values] for name, values in task.differences.items()],
        "fields": fields,
        "rows": _numbered(rows, texts),
    }


def _comparison(found: PairedComparison) -> dict[str, Any]:
    return {
        "num_common": found.num_questions,
        "difference": found.difference,
        "interval": found.interval,
        "num_better": found.gained,
        "num_worse": found.lost,
    }


def _summary(summary: SummaryFile | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    content = summary.to_json()
    return {name: content.get(name) for name in _SUMMARY_FIELDS}


def _numbered(value: Any, texts: dict[str, int]) -> Any:
    """The value with the number of every text in its place, and 0 or 1 for what is yes or no.

    One text may stand a thousand times on a page; so it is written once.

    >>> texts = {}
    >>> _numbered(["yes", ("no", True), "yes", 0.5, None], texts), list(texts)
    ([0, [1, 1], 0, 0.5, None], ['yes', 'no'])
    """
    if isinstance(value, str):
        return texts.setdefault(value, len(texts))
    if isinstance(value, (list, tuple)):
        return [_numbered(part, texts) for part in value]
    return int(value) if isinstance(value, bool) else value


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return value
