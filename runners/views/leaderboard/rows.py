"""One row a run: its figures, their intervals, and the published ones beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from evals.errors import DataError
from evals.figures.statistics import clustered_standard_error, interval_of
from evals.reading.images import IMAGE_PLACEHOLDER
from runners.storage.stored import StoredTask, first_model_id
from runners.views.definitions import unusual_definition
from runners.views.leaderboard.board import Cell, Mark, Row
from runners.views.leaderboard.columns import Column, Part, columns_of
from runners.views.leaderboard.entries import Entry, RunEntries, printable
from runners.views.leaderboard.marks import describe_setup, marks_of

_DAY = re.compile(r"\d{4}-\d\d-\d\dT")
_IMAGE_ACCURACY = Column(task="scienceqa", split="test", metric="accuracy_image")


def build_row(run: RunEntries, published: Mapping[str, Mapping[Column, float]]) -> Row:
    """Returns the row of a run with figures, beside the published ones of each model."""
    models = [_published_model(entry) for entry in run.entries]
    setups = [describe_setup(entry) for entry in run.entries]
    is_mixed = len(set(setups)) > 1
    cells: dict[Column, Cell] = {}
    for model, setup, entry in zip(models, setups, run.entries, strict=True):
        told = [Mark(text=f"computed with {setup}", is_comparable=True)] if is_mixed else []
        for cell in _cells(entry, published.get(model, {}), told):
            cells[cell.column] = cell
    named = {model for model in models if model in published}
    return Row(
        name=run.name,
        is_published=False,
        model=named.pop() if len(named) == 1 else "",
        setup="mixed" if is_mixed else setups[0],
        cells=cells,
        folder=run.folder,
        date=max(map(_last_day, run.entries)),
    )


def _last_day(entry: Entry) -> str:
    """The day of the last session on a task; empty where that is not known."""
    last = "" if entry.manifest is None else str(entry.manifest.last_session or "")
    return last[:10] if _DAY.match(last) else ""


def _cells(
    entry: Entry, published: Mapping[Column, float], setup: Sequence[Mark]
) -> Iterator[Cell]:
    summary = entry.summary
    # A summary may be anyone's, and what it names is printed.
    task, split = printable(summary.task), printable(summary.split)
    primary = printable(summary.primary_metric)
    marks, definition = marks_of(entry), printable(unusual_definition(task, summary))
    for known in columns_of(task, split, primary):
        column = replace(known, definition=definition, scale=summary.scale(known.metric))
        value = summary.metrics.get(column.metric)
        if value is None and column.part is Part.OTHER and column.metric != primary:
            continue  # gaps are told in the paper's columns, and of primary metrics
        gaps = []
        if value is None and summary.metrics:  # without any there is a mark for all of them
            gaps = [Mark(text=f"{column.metric} cannot be computed from these answers")]
        yield Cell(
            column=column,
            value=value,
            text="-" if value is None else column.render(value),
            interval=None if value is None else _interval(entry, column, value),
            published=published.get(column),
            coverage=float(summary.coverage),  # 1 in some files, 1.0 in others
            marks=(*marks, *gaps, *setup),
        )


def _published_model(entry: Entry) -> str:
    """The name under which figures of a run's model are published, where any are.

    A run says so itself; of an imported answer file the name in its lines is taken.
    """
    if entry.manifest is None:
        return first_model_id(entry.stored.folder)
    model = entry.manifest.options.get("model")
    if isinstance(model, dict):
        return str(model.get("published"))  # "None" is no model's name
    named = entry.manifest.identity.get("model")
    return first_model_id(entry.stored.folder) if named is None else str(named)


def _interval(entry: Entry, column: Column, value: float) -> tuple[float, float] | None:
    """The 95% interval of a figure; None where none was computed, as of secondary metrics."""
    if column.metric == entry.summary.primary_metric:
        return entry.summary.interval
    if replace(column, definition="") == _IMAGE_ACCURACY and entry.manifest is not None:
        return _interval_of_image_questions(entry.stored, value)
    return None


def _interval_of_image_questions(stored: StoredTask, value: float) -> tuple[float, float] | None:
    """The interval over the questions with an image; None if their scores do not give `value`."""
    lines = stored.answers.lines
    try:
        scores = [
            score
            for key, score in stored.scores.items()
            if key in lines and IMAGE_PLACEHOLDER in lines[key]["prompt"]
        ]
    except DataError:  # the scores are not those of the summary
        return None
    values = [score.value for score in scores]
    # Of a question without a good line it is not known whether it has an image.
    if not values or not math.isclose(sum(values) / len(values), value, abs_tol=1e-9):
        return None
    clusters = [score.cluster for score in scores]
    interval = interval_of(value, clustered_standard_error(values, clusters), clusters)
    return None if interval is None else interval.ends
