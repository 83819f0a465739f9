"""The leaderboard as one HTML page that asks no network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader

from runners.views.leaderboard.board import Leaderboard, Row
from runners.views.leaderboard.columns import PART_TITLES
from runners.views.policy import content_policy
from runners.views.report.page import REPORT_NAME, is_report


def render_page(board: Leaderboard, folder: Path) -> str:
    """Returns the page; every text in it that is not from here is escaped.

    Args:
        board: What is shown.
        folder: Where the page will lie: links to reports lead from there.
    """
    templates = Environment(
        loader=PackageLoader("runners.views.leaderboard", "assets"),
        finalize=lambda value: escape(str(value)),  # whatever a template puts in by {{ }}
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    assets = files("runners.views.leaderboard") / "assets"
    style, script = (
        (assets / name).read_text(encoding="utf-8") for name in ("style.css", "sort.js")
    )
    return templates.get_template("page.html").render(
        board=board,
        titles=PART_TITLES,
        legend=" ".join(legend(board)),
        policy=content_policy(style, script, {"img-src": "data:"}),
        report_of=partial(_report_of, folder=folder),
    )


def legend(board: Leaderboard) -> Iterator[str]:
    """What a reader has to know of the tables: of each thing only where one of them has it."""
    rows = [(section, row) for section in board.sections for row in section.rows]
    cells = [(section, cell) for section, row in rows for cell in row.cells.values()]
    if any(cell.interval for _, cell in cells):
        yield "Below a score: its 95% interval, with errors clustered by image."
    if any(cell.difference_text for _, cell in cells):
        yield "Behind Δ: the distance to the published figure of the same model."
    if any(row.is_published for _, row in rows):
        yield "Rows in italics: figures that others published."
    if any(section.is_best(cell) for section, cell in cells):
        yield "In bold: the best comparable figure of a column."
    if any(cell.marks for _, cell in cells):
        yield "A raised letter leads to a note below."
    if any(row.date for _, row in rows):
        yield "The date is that of the last session on a run."


def _report_of(row: Row, folder: Path) -> str:
    """The address of a run's report as seen from a folder; empty if it has none."""
    if row.folder is None or not is_report(row.folder / REPORT_NAME):
        return ""
    path = (row.folder / REPORT_NAME).absolute()
    return quote(os.fsencode(os.path.relpath(path, folder.absolute())))
