"""The whole leaderboard: which rows and columns are shown, and in what order."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_lowercase

from runners.errors import ConfigError
from runners.options.leaderboard import PUBLISHED, LeaderboardConfig
from runners.storage.stored import list_runs
from runners.views.leaderboard.board import Leaderboard, Mark, Row, Section
from runners.views.leaderboard.columns import Column, Part, in_order
from runners.views.leaderboard.entries import read_entries
from runners.views.leaderboard.marks import mark_other_questions
from runners.views.leaderboard.published import (
    figures_by_model,
    published_rows,
    read_published,
    sources_of,
)
from runners.views.leaderboard.rows import build_row

PAPER_MODELS = ("llava-v1.5-7b", "llava-v1.5-13b")
"""Their published rows are shown unless others are asked for."""


def build_leaderboard(settings: LeaderboardConfig, published_dir: Path | None) -> Leaderboard:
    """Returns the leaderboard of the runs in `results_dir`, beside published figures if any.

    Raises:
        ConfigError: there is no results folder, or an option names what is not there.
        DataError: a table of published figures is malformed.
    """
    runs = [read_entries(run) for run in list_runs(Path(settings.results_dir))]
    if settings.models:
        _check_patterns("models", settings.models, [run.name for run in runs])
        runs = [run for run in runs if _matches(run.name, settings.models)]
    runs = mark_other_questions(runs)
    figures = [] if published_dir is None else read_published(published_dir)
    by_model = figures_by_model(figures)
    own = [build_row(run, by_model) for run in runs if run.entries]
    rows = [*_select_published(published_rows(figures), own, settings.published), *own]
    # Of equal columns the first is taken: that of a run, which says its scale itself.
    columns = in_order({column for row in (*own, *rows) for column in row.cells})
    _check_tasks("tasks", settings.tasks, columns)
    if settings.sort not in (None, "name"):
        _check_tasks("sort", [str(settings.sort)], columns)
    if settings.tasks:
        columns = [column for column in columns if column.task in settings.tasks]
    sections = list(_sections(rows, columns, settings))
    shown = [row for section in sections for row in section.rows]
    return Leaderboard(
        sections=sections,
        letters=dict(zip(_marks(sections), _alphabet(), strict=False)),
        unfinished=[line for run in runs for line in run.unfinished],
        sources=sources_of(figures, shown, columns),
    )


def _select_published(rows: Sequence[Row], own: Sequence[Row], wanted: Sequence[str]) -> list[Row]:
    if wanted == ["none"]:
        return []
    if wanted == ["all"]:
        return list(rows)
    if wanted == ["auto"]:
        models = {*PAPER_MODELS, *(row.model for row in own)}
        first = {row.name: row for row in reversed(rows)}  # of tables in the order that they count
        return [row for row in rows if row.name in models and row is first[row.name]]
    if set(wanted) & set(PUBLISHED):
        raise ConfigError(
            f"`published` must be one of {', '.join(PUBLISHED)}, or names, but is {list(wanted)}."
        )
    _check_patterns("published", wanted, [row.name for row in rows])
    return [row for row in rows if _matches(row.name, wanted)]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _check_patterns(option: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in names):
            known = ", ".join(dict.fromkeys(names)) or "none"
            raise ConfigError(
                f"`{option}` must name what is there, but {pattern!r} matches nothing. There are: "
                f"{known}."
            )


def _check_tasks(option: str, tasks: Sequence[str], columns: Sequence[Column]) -> None:
    known = dict.fromkeys(column.task for column in columns)
    for task in tasks:
        if task not in known:
            raise ConfigError(
                f"`{option}` must name a benchmark with figures, but is {task!r}. There are: "
                f"{', '.join(known) or 'none'}."
            )


def _sections(
    rows: Sequence[Row], columns: Sequence[Column], settings: LeaderboardConfig
) -> Iterator[Section]:
    for part in Part:
        of_part = [column for column in columns if column.part is part]
        there = [row for row in rows if any(column in row.cells for column in of_part)]
        if there:
            yield Section(
                part=part,
                columns=of_part,
                rows=_order(there, of_part, settings.sort),
                best=_best(there, of_part) if settings.best == "bold" else {},
            )


def _order(rows: Sequence[Row], columns: Sequence[Column], sort: str | None) -> list[Row]:
    by_name = sorted(rows, key=lambda row: (row.name, not row.is_published, row.setup))
    if sort == "name":
        return by_name
    column = next((column for column in columns if column.task == sort), None)
    if column is not None:
        return sorted(by_name, key=lambda row: _rank(row, column))
    # The published models in the order of their tables, each with its runs; then the other runs.
    models = list(dict.fromkeys(row.name for row in rows if row.is_published))
    published = [row for row in rows if row.is_published]
    runs = [row for row in by_name if not row.is_published]
    return sorted(
        [*published, *runs],
        key=lambda row: models.index(row.model) if row.model in models else len(models),
    )


def _rank(row: Row, column: Column) -> tuple[int, float]:
    """Comparable figures from the best on, then the others, then rows without one."""
    cell = row.cells.get(column)
    if cell is None or cell.value is None:
        return 2, 0.0
    return (0 if cell.is_comparable else 1), -cell.value


def _best(rows: Sequence[Row], columns: Sequence[Column]) -> dict[Column, float]:
    """The largest figure of every column as it is printed, so that rounded ties share the place."""
    best = {}
    for column in columns:
        cells = [row.cells[column] for row in rows if column in row.cells]
        printed = [float(cell.text) for cell in cells if cell.is_comparable]  # others may be "-"
        if printed:
            best[column] = max(printed)
    return best


def _marks(sections: Sequence[Section]) -> dict[Mark, None]:
    """Every mark once, in the order of reading."""
    return {
        mark: None
        for section in sections
        for row in section.rows
        for column in section.columns
        if column in row.cells
        for mark in row.cells[column].marks
    }


def _alphabet() -> Iterator[str]:
    for length in itertools.count(1):
        yield from map("".join, itertools.product(ascii_lowercase, repeat=length))
