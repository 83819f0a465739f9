"""What the leaderboard consists of: rows of cells, and what is to be said about a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runners.storage.run_table import render_coverage
from runners.views.leaderboard.columns import Column, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a reader has to know about a cell; equal marks share a footnote.

    Attributes:
        text: One sentence without its full stop.
        is_comparable: Whether the figure may still be compared with others of its column.
    """

    text: str
    is_comparable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One figure.

    Attributes:
        column: What it is a figure of.
        value: As in `summary.json`; None where there is none yet.
        text: As it is printed.
        interval: The 95% interval, None where it is not known.
        published: The published figure of the same model, None where there is none.
        coverage: The share of questions that were answered; None for a published figure.
        marks: What is to be known about it.
    """

    column: Column
    value: float | None
    text: str
    interval: tuple[float, float] | None = None
    published: float | None = None
    coverage: float | None = None
    marks: tuple[Mark, ...] = ()

    @property
    def is_comparable(self) -> bool:
        """Whether the figure means what its column's title says."""
        return self.value is not None and all(mark.is_comparable for mark in self.marks)

    @property
    def difference(self) -> float | None:
        """The distance to the published figure, None where the two are not comparable."""
        if self.value is None or self.published is None or not self.is_comparable:
            return None
        return self.value - self.published

    @property
    def interval_text(self) -> str:
        """The interval as it is printed, empty if there is none."""
        return " to ".join(self.column.render(end) for end in self.interval or ())

    @property
    def difference_text(self) -> str:
        """The distance as it is printed, empty if there is none."""
        return "" if self.difference is None else self.column.render_difference(self.difference)

    @property
    def coverage_text(self) -> str:
        """How many of the questions were answered, empty for a published figure."""
        return "" if self.coverage is None else render_coverage(self.coverage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run, or one model with published figures.

    Attributes:
        name: The run's name, or the published model's.
        is_published: Whether the figures are somebody else's.
        model: The published model whose figures are beside it; empty if there is none.
        setup: What the answers were computed with; the figures' origin in a published row.
        cells: The figures by column.
        folder: The run's folder; None for a published row.
        date: The day on which the run was last worked on, such as `2026-01-31`; empty where that
            is not known.
    """

    name: str
    is_published: bool
    model: str
    setup: str
    cells: Mapping[Column, Cell]
    folder: Path | None = None
    date: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table: the columns of a part and the rows that have figures in them.

    Attributes:
        part: Which part.
        columns: In order.
        rows: In order.
        best: The best comparable figures by column, as printed; empty if they are not shown.
    """

    part: Part
    columns: Sequence[Column]
    rows: Sequence[Row]
    best: Mapping[Column, float]

    def is_best(self, cell: Cell) -> bool:
        """Whether a figure is the best of its column, as printed."""
        # As printed: a reader who sees two equal figures looks for what makes one of them better.
        return cell.is_comparable and float(cell.text) == self.best.get(cell.column)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Everything that the five formats show.

    Attributes:
        sections: The tables.
        letters: The footnote letter of every mark, in order.
        unfinished: What lies there without figures, a line each.
        sources: Where published figures are from, a line each.
    """

    sections: Sequence[Section]
    letters: Mapping[Mark, str]
    unfinished: Sequence[str]
    sources: Sequence[str]

    def letters_of(self, cell: Cell) -> list[str]:
        """Returns the footnote letters of a cell, `z` before `aa`."""
        return sorted((self.letters[mark] for mark in cell.marks), key=lambda x: (len(x), x))
