"""The published figures, from the tables in `assets/published`."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evals.errors import DataError
from evals.reading.files import marked_encoding, visible
from runners.views.leaderboard.board import Cell, Row
from runners.views.leaderboard.columns import OTHER_TITLES, PAPER_TITLES, Column, known_column

_PUBLISHED_SETUP = "published"
"""What stands beside the models of the first table."""
_FIRST_TABLE = "model_zoo.csv"
"""Its figures go before those of other tables."""
_ROUNDING = 1e-6
"""Of the half digit by which a printed figure may differ."""
_FIELDS = ("model", "task", "split", "metric", "value", "printed", "source")
"""A table may have `definition` too, see `Column`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """One figure as somebody printed it.

    Attributes:
        model: The model's name there.
        column: What it is a figure of.
        value: In the unit of `summary.json`.
        printed: As it was printed.
        source: Where.
        setup: What stands beside the model, as `published, released answers`: it names the table.
    """

    model: str
    column: Column
    value: float
    printed: str
    source: str
    setup: str


def read_published(folder: Path) -> list[PublishedFigure]:
    """Returns the figures of all tables in a folder, those of the first table first.

    Raises:
        DataError: the folder holds no table, or one is malformed.
    """
    paths = visible(folder.glob("*.csv"))
    paths.sort(key=lambda path: path.name != _FIRST_TABLE)
    if not paths:
        raise DataError(
            f"{folder} holds no table of published figures. Leave `published_dir` out, or set "
            "published=none."
        )
    return [figure for path in paths for figure in _read_table(path)]


def _read_table(path: Path) -> Iterable[PublishedFigure]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a mark
            table = csv.DictReader(file)
            heads = ", ".join(table.fieldnames or ())[:200]
            records = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        encoding = marked_encoding(path) if isinstance(error, UnicodeDecodeError) else ""
        reason = f"it is {encoding}. Save it as UTF-8" if encoding else f"{error}. Restore the file"
        raise DataError(f"{path} cannot be read: {reason}.") from error
    setup = _PUBLISHED_SETUP
    if path.name != _FIRST_TABLE:
        setup += f", {path.stem.replace('_', ' ')}"
    lines: dict[tuple[str, Column], int] = {}
    for number, record in enumerate(records, start=2):  # line 1 has the heads
        place = f"{path}:{number}"
        try:
            figure = PublishedFigure(
                model=record["model"],
                column=known_column(
                    record["task"],
                    record["split"],
                    record["metric"],
                    record.get("definition") or "",
                ),
                value=_read_number(record, "value", place),
                printed=record["printed"],
                source=record["source"],
                setup=setup,
            )
            printed = _read_number(record, "printed", place)
        except (KeyError, TypeError, ValueError) as error:  # TypeError: a line is too short
            raise DataError(
                f"{place} must have the columns {', '.join(_FIELDS)}, but does not: "
                f"{error!r}, under the heads {heads}. Save it with commas, or restore the file."
            ) from error
        _require_agreement(figure, printed, place)
        if (first := lines.setdefault((figure.model, figure.column), number)) != number:
            raise DataError(
                f"{place} has a figure of {figure.model} for {figure.column.key}, as line {first} "
                "has. Leave one of them out."
            )
        yield figure


def _require_agreement(figure: PublishedFigure, printed: float, place: str) -> None:
    """Checks that a figure is the one that was printed.

    Raises:
        DataError: it is another.
    """
    expected = {figure.column.scale.in_print(figure.value)}
    if figure.column.task not in {column.task for column in (*PAPER_TITLES, *OTHER_TITLES)}:
        expected.add(figure.value)  # what an included benchmark counts in is not known here
    half = 0.5 * 10.0 ** -len(figure.printed.partition(".")[2].strip())
    if all(abs(value - printed) > half * (1 + _ROUNDING) for value in expected):
        raise DataError(
            f"{place} has the `value` {figure.value:g}, but {figure.printed} as `printed`, another "
            "figure. Correct one of them: where percent is printed, `value` is a share of 1, "
            "such as 0.62 for 62.0, and otherwise it is the same number."
        )


def _read_number(record: Mapping[str, str], name: str, place: str) -> float:
    try:
        value = float(record[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{place}: `{name}` must be a number, such as 62.0, but is {record[name][:80]!r}. "
            "Leave out what is around it, or the whole line."
        )
    return value


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
        cell = Cell(column=figure.column, value=figure.value, text=figure.printed)
        cells.setdefault((figure.model, figure.setup), {})[figure.column] = cell
    return [
        Row(name=model, is_published=True, model=model, setup=setup, cells=row)
        for (model, setup), row in cells.items()
    ]


def sources_of(
    figures: Iterable[PublishedFigure], rows: Collection[Row], columns: Collection[Column]
) -> list[str]:
    """Returns where the figures that stand in rows, or beside them, are from, each source once."""
    of_columns = [figure for figure in figures if figure.column in columns]
    # Of several figures of one thing the first counts, as in `figures_by_model`.
    compared = {(figure.model, figure.column): figure for figure in reversed(of_columns)}
    shown = {(row.name, row.setup) for row in rows if row.is_published}
    beside = {(row.model, column) for row in rows for column in row.cells if not row.is_published}
    there = [f for f in of_columns if (f.model, f.setup) in shown]
    there += [figure for key, figure in compared.items() if key in beside]
    return sorted({figure.source for figure in there})
