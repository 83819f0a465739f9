"""One row a run: its figures, their intervals, and the published ones beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from evals.figures.statistics import confidence_interval
from evals.tasks.scienceqa import IMAGE_PLACEHOLDER
from runners.storage.answers import PREDICTIONS_FILE
from runners.storage.files import read_intact_lines
from runners.storage.lines import key_of
from runners.storage.summary import SCORES_FILE
from runners.views.leaderboard.columns import Column, Part, columns_of
from runners.views.leaderboard.marks import describe_setup, mark_of_gap, marks_of
from runners.views.leaderboard.records import Cell, Mark, Row
from runners.views.leaderboard.stored import StoredRun, StoredTask, printable

Figures = Mapping[str, Mapping[Column, float]]
"""The published figures by model."""

_NO_FIGURE = "-"
_IMAGE_ACCURACY = Column(task="scienceqa", split="test", metric="accuracy_image")


def build_row(run: StoredRun, figures: Figures) -> Row:
    """Returns the row of a run.

    Args:
        run: The run, with at least one finished task.
        figures: The published figures by model.
    """
    models = {stored.folder.name: _published_model(stored) for stored in run.tasks}
    cells: dict[Column, Cell] = {}
    for stored in run.tasks:
        known = figures.get(models[stored.folder.name], {})
        for column, cell in _cells(stored, known):
            cells[column] = cell
    setups = sorted({cell.setup for cell in cells.values()})
    if len(setups) > 1:
        cells = {column: _tell_setup(cell) for column, cell in cells.items()}
    named = sorted({model for model in models.values() if model in figures})
    return Row(
        name=run.name,
        is_published=False,
        model=named[0] if len(named) == 1 else "",
        setup=setups[0] if len(setups) == 1 else "mixed",
        cells=cells,
    )


def _cells(stored: StoredTask, published: Mapping[Column, float]) -> Iterable[tuple[Column, Cell]]:
    summary = stored.summary
    task, split = printable(summary["task"]), printable(summary["split"])
    primary = printable(summary["primary_metric"])
    marks, setup = marks_of(stored), describe_setup(stored)
    for column in columns_of(task, split, primary):
        value = summary["metrics"].get(column.metric)
        if value is None and column.part is Part.OTHER and column.metric != primary:
            continue
        gaps = (mark_of_gap(column),) if value is None and summary["metrics"] else ()
        cell = Cell(
            value=value,
            text=_NO_FIGURE if value is None else column.render(value),
            interval=None if value is None else _interval(stored, column, value),
            published=published.get(column),
            coverage=float(summary["coverage"]),
            num_questions=summary["num_questions"],
            setup=setup,
            marks=(*marks, *gaps),
        )
        yield column, cell


def _tell_setup(cell: Cell) -> Cell:
    mark = Mark(text=f"computed with {cell.setup}", is_comparable=True)
    return replace(cell, marks=(*cell.marks, mark))


def _published_model(stored: StoredTask) -> str:
    """The name under which figures of a run's model are published, where any are.

    A run says so itself; of an imported answer file the name in its lines is taken.
    """
    if stored.manifest is None:
        return _first_model_id(stored)
    identity, options = stored.manifest["identity"], stored.manifest["environment"].get("options")
    if isinstance(options, dict) and isinstance(options.get("model"), dict):
        return str(options["model"].get("published"))
    return str(identity["model"]) if "model" in identity else _first_model_id(stored)


def _first_model_id(stored: StoredTask) -> str:
    path = stored.folder / PREDICTIONS_FILE
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        line = file.readline()
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    return str(answer.get("model_id")) if isinstance(answer, dict) else ""


def _interval(stored: StoredTask, column: Column, value: float) -> tuple[float, float] | None:
    """The 95% interval of a figure; None where none was computed, as of secondary metrics."""
    summary = stored.summary
    if column.metric == summary["primary_metric"]:
        interval = summary["interval"]
        return None if interval is None else (float(interval[0]), float(interval[1]))
    if column == _IMAGE_ACCURACY:
        return _interval_of_image_questions(stored, value)
    return None


def _interval_of_image_questions(stored: StoredTask, value: float) -> tuple[float, float] | None:
    """The interval over the questions with an image; None if their scores do not give `value`."""
    asked = {
        key_of(line): IMAGE_PLACEHOLDER in str(line.get("prompt"))
        for line in read_intact_lines(stored.folder / PREDICTIONS_FILE)
    }
    scores = [
        (float(line["score"]), str(line["cluster"]))
        for line in read_intact_lines(stored.folder / SCORES_FILE)
        if asked.get(str(line.get("key")))
    ]
    if not scores:
        return None
    values, clusters = zip(*scores, strict=True)
    if not math.isclose(sum(values) / len(values), value, abs_tol=1e-9):
        return None
    interval = confidence_interval(values, clusters)
    return None if interval is None else (max(0.0, interval[0]), min(1.0, interval[1]))
