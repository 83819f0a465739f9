"""The published figures, from the tables in `results/published`."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from evals.errors import DataError
from runners.storage.summary import known_scale
from runners.views.leaderboard.columns import Column
from runners.views.leaderboard.records import Cell, Row

FIELDS = ("model", "task", "split", "metric", "value", "printed", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """One figure as somebody printed it.

    Attributes:
        model: The model's name there.
        column: What it is a figure of.
        value: In the unit of `summary.json`.
        printed: As it was printed.
        source: Where.
        table: The table's file name without its suffix.
    """

    model: str
    column: Column
    value: float
    printed: str
    source: str
    table: str


def read_published(folder: Path) -> list[PublishedFigure]:
    """Returns the figures of all tables in a folder, those of `model_zoo.csv` first.

    Raises:
        DataError: the folder holds no table, or one is malformed.
    """
    paths = sorted(folder.glob("*.csv"), key=lambda path: (path.name != "model_zoo.csv", path.name))
    if not paths:
        raise DataError(
            f"{folder} holds no table of published figures. Leave `published_dir` out, or set "
            "published=none."
        )
    return [figure for path in paths for figure in _read_table(path)]


def _read_table(path: Path) -> Iterable[PublishedFigure]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            records = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}. Restore the file.") from error
    for number, record in enumerate(records, start=2):
        try:
            task, metric = record["task"], record["metric"]
            scale = known_scale(task, metric)
            column = Column(task=task, split=record["split"], metric=metric, scale=scale)
            yield PublishedFigure(
                model=record["model"],
                column=column,
                value=float(record["value"]),
                printed=record["printed"],
                source=record["source"],
                table=path.stem,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}:{number} must have the columns {', '.join(FIELDS)}, but does not: "
                f"{error!r}. Restore the file."
            ) from error


def figures_by_model(figures: Iterable[PublishedFigure]) -> dict[str, dict[Column, float]]:
    """Returns the value that a run of a model is compared with; the first table's figure counts."""
    found: dict[str, dict[Column, float]] = {}
    for figure in figures:
        found.setdefault(figure.model, {}).setdefault(figure.column, figure.value)
    return found


def published_rows(figures: Iterable[PublishedFigure]) -> list[Row]:
    """Returns one row a model and table, every figure as it was printed."""
    cells: dict[tuple[str, str], dict[Column, Cell]] = {}
    for figure in figures:
        cell = Cell(value=figure.value, text=figure.printed)
        cells.setdefault((figure.model, figure.table), {})[figure.column] = cell
    return [
        Row(
            name=model,
            is_published=True,
            model=model,
            setup=setup_of(table),
            cells=row,
        )
        for (model, table), row in cells.items()
    ]


def setup_of(table: str) -> str:
    """Returns what stands beside the models of a table.

    >>> setup_of("model_zoo"), setup_of("released_answers")
    ('published', 'published, released answers')
    """
    return "published" if table == "model_zoo" else f"published, {table.replace('_', ' ')}"


def sources_of(
    figures: Iterable[PublishedFigure], rows: Collection[Row], columns: Collection[Column]
) -> list[str]:
    """Returns where the figures that stand in rows, or beside them, are from, each source once."""
    of_columns = [figure for figure in figures if figure.column in columns]
    # Of several figures of one thing the first counts, as in `figures_by_model`.
    compared = {(figure.model, figure.column): figure for figure in reversed(of_columns)}
    shown = {(row.name, row.setup) for row in rows if row.is_published}
    beside = {(row.model, column) for row in rows for column in row.cells if not row.is_published}
    there = [f for f in of_columns if (f.model, setup_of(f.table)) in shown]
    there += [figure for key, figure in compared.items() if key in beside]
    return sorted({figure.source for figure in there})
