"""The leaderboard as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from runners.views.leaderboard.columns import PART_TITLES, Column
from runners.views.leaderboard.records import Cell, Leaderboard, Row, Section
from runners.views.leaderboard.text import render_coverage, render_difference, render_interval

_STYLE = """\
:root {
  color-scheme: light dark;
  --page: #fff; --ink: #1c1f23; --faint: #5d6570; --rule: #d9dde2; --band: #f4f6f8;
  --accent: #0b57d0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15181c; --ink: #e6e8eb; --faint: #9aa3ad; --rule: #333a42; --band: #1d2228;
    --accent: #8ab4f8;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem clamp(.75rem, 3vw, 2.5rem) 3rem; max-width: 110rem;
  background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
p { margin: 0 0 .5rem; color: var(--faint); max-width: 60rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.table { overflow-x: auto; border: 1px solid var(--rule); border-radius: 8px; }
.table { width: fit-content; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; }
th, td { padding: .5rem .65rem; text-align: right; vertical-align: top; white-space: nowrap; }
thead th { background: var(--band); font-weight: 600; border-bottom: 1px solid var(--rule); }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
th[scope=row], thead th:first-child {
  position: sticky; left: 0; text-align: left; background: var(--page);
  border-right: 1px solid var(--rule); white-space: normal; overflow-wrap: anywhere;
  min-width: min(13rem, 36vw); max-width: min(22rem, 36vw); font-weight: 600;
}
thead th:first-child { background: var(--band); }
th small, td small { display: block; font-size: .8rem; font-weight: 400; color: var(--faint); }
td { font-variant-numeric: tabular-nums; }
td b { font-weight: 700; }
td sup { line-height: 0; margin-left: .15em; }
tr.published > * { background: var(--band); }
tr.published td, tr.published th { font-style: italic; font-weight: 400; }
tr.published td b { font-style: normal; }
ol, ul { margin: .25rem 0; padding-left: 1.6rem; max-width: 70rem; overflow-wrap: anywhere; }
li { margin: .2rem 0; }
li:target { background: var(--band); outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 40rem) {
  body { font-size: 14px; padding-top: 1rem; }
  th, td { padding: .4rem .5rem; }
}
"""

_LEGEND = (
    "Below a score: its 95% interval, with errors clustered by image; behind Δ, the distance to "
    "the published figure of the same model. Published figures are in italics. Bold is the best "
    "comparable figure of a column."
)


def render_page(board: Leaderboard) -> str:
    """Returns the page; every text in it that is not from here is escaped."""
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<title>Leaderboard</title>",
        f"<style>\n{_STYLE}</style>",
        "</head>",
        "<body>",
        "<h1>Leaderboard</h1>",
        f"<p>{escape(_LEGEND)}</p>",
        *(line for section in board.sections for line in _render_section(board, section)),
        *_render_notes(board),
        *_render_list("Not finished", board.unfinished),
        *_render_list("Published figures", board.sources),
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(parts)


def _render_section(board: Leaderboard, section: Section) -> Iterator[str]:
    title = escape(PART_TITLES[section.part])
    number = section.part.value
    yield f'<h2 id="part-{number}">{title}</h2>'
    yield f'<div class="table" role="region" aria-labelledby="part-{number}" tabindex="0">'
    yield "<table>"
    heads = "".join(_render_head(column) for column in section.columns)
    yield f'<thead><tr><th scope="col">Run</th>{heads}</tr></thead>'
    yield "<tbody>"
    for row in section.rows:
        kind = ' class="published"' if row.is_published else ""
        name = f"{escape(row.name)}<small>{escape(row.setup)}</small>"
        cells = "".join(_render_cell(board, section, row, column) for column in section.columns)
        yield f'<tr{kind}><th scope="row">{name}</th>{cells}</tr>'
    yield "</tbody>"
    yield "</table>"
    yield "</div>"


def _render_head(column: Column) -> str:
    about = f"{column.task}, {column.split}, {column.metric}"
    return f'<th scope="col" title="{escape(about)}">{escape(column.title)}</th>'


def _render_cell(board: Leaderboard, section: Section, row: Row, column: Column) -> str:
    cell = row.cells.get(column)
    if cell is None:
        return "<td></td>"
    figure = escape(cell.text)
    if section.is_best(row, column):
        figure = f"<b>{figure}</b>"
    return f"<td>{figure}{_render_marks(board, cell)}{_render_further(column, cell)}</td>"


def _render_marks(board: Leaderboard, cell: Cell) -> str:
    letters = board.letters_of(cell)
    if not letters:
        return ""
    links = ",".join(f'<a href="#note-{letter}">{letter}</a>' for letter in letters.split(","))
    return f"<sup>{links}</sup>"


def _render_further(column: Column, cell: Cell) -> str:
    lines = [render_interval(column, cell).replace(" to ", "–")]
    difference = render_difference(column, cell)
    if difference:
        lines.append(f"Δ {difference}")
    if cell.coverage is not None and cell.coverage < 1:
        lines.append(f"{render_coverage(cell)} answered")
    return "".join(f"<small>{escape(line)}</small>" for line in lines if line)


def _render_notes(board: Leaderboard) -> Iterator[str]:
    if not board.letters:
        return
    yield "<h2>Notes</h2>"
    yield "<ul>"
    for mark, letter in board.letters.items():
        yield f'<li id="note-{letter}"><b>{letter}</b> {escape(mark.text)}.</li>'
    yield "</ul>"


def _render_list(title: str, lines: Sequence[str]) -> Iterator[str]:
    if not lines:
        return
    yield f"<h2>{escape(title)}</h2>"
    yield "<ul>"
    yield from (f"<li>{escape(line)}</li>" for line in lines)
    yield "</ul>"
