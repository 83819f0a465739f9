"""The leaderboard as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence

from runners.views.leaderboard.board import Cell, Leaderboard, Row, Section
from runners.views.leaderboard.columns import PART_TITLES

_NUM_TEXTS = 2
"""The first columns of a table, which are aligned left; figures are aligned right."""

_MARKDOWN = re.compile(r"([\\`*\[\]|<>&])")
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        **{character: f"{{{character}}}" for character in "[]*"},  # \\ would take them
        **{character: f"\\{character}" for character in "{}$&#_%"},
    }
)
_FORMULA = ("=", "+", "-", "@")


def render_csv(board: Leaderboard) -> str:
    """Returns one line a row of the leaderboard, unrounded, in the units of `summary.json`.

    For every column there is its figure and, named after it, the ends of its interval, the
    published figure, the difference to it, the share of questions answered, and what is to be known
    about it.
    """
    columns = [column for section in board.sections for column in section.columns]
    parts = ("", " low", " high", " published", " difference", " coverage", " notes")
    heads = [column.key + part for column in columns for part in parts]
    rows: dict[tuple[str, bool, str], Row] = {}
    for section in board.sections:  # a run may stand in several tables, and is one line here
        rows |= {(row.name, row.is_published, row.setup): row for row in section.rows}
    lines = [["name", "kind", "setup", *map(_plain, heads)]]
    for row in rows.values():
        kind = "published" if row.is_published else "run"
        cells = [value for column in columns for value in _values(row.cells.get(column))]
        lines.append([_plain(row.name), kind, _plain(row.setup), *cells])
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def _values(cell: Cell | None) -> list[str]:
    if cell is None:
        return [""] * 7
    low, high = cell.interval or (None, None)
    figures = (cell.value, low, high, cell.published, cell.difference, cell.coverage)
    notes = "; ".join(mark.text for mark in cell.marks)
    return [*("" if figure is None else repr(figure) for figure in figures), _plain(notes)]


def _plain(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text  # the apostrophe marks text there


def render_markdown(board: Leaderboard) -> str:
    """Returns the tables in Markdown, padded so that they can be read as they stand."""
    blocks = ["# Leaderboard\n"]
    for section in board.sections:
        table = _matrix(board, section, _markdown, _markdown_figure)
        blocks.append(f"## {PART_TITLES[section.part]}\n\n{_pad(table)}")
        details = _details(board, section, _markdown)
        if details:  # published rows have none
            blocks.append(_pad(details))
    notes = [f"({letter}) {_markdown(mark.text)}." for mark, letter in board.letters.items()]
    for title, lines in (
        ("Notes", notes),
        ("Not finished", map(_markdown, board.unfinished)),
        ("Published figures", map(_markdown, board.sources)),
    ):
        listed = "".join(f"- {line}\n" for line in lines)
        if listed:
            blocks.append(f"## {title}\n\n{listed}")
    return "\n".join(blocks)


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _markdown_figure(text: str, letters: str, *, best: bool) -> str:
    shown = f"**{text}**" if best else text
    return f"{shown} ({letters})" if letters else shown


def _pad(table: Sequence[Sequence[str]]) -> str:
    # Wide characters are counted as one: a terminal shows their rows shifted, a browser does not.
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    heads, *lines = [
        f"| {' | '.join(_align(cell, widths, number) for number, cell in enumerate(row))} |\n"
        for row in table
    ]
    rule = [
        "-" * (width + 2) if number < _NUM_TEXTS else "-" * (width + 1) + ":"
        for number, width in enumerate(widths)
    ]
    return "".join([heads, f"|{'|'.join(rule)}|\n", *lines])


def _align(cell: str, widths: Sequence[int], number: int) -> str:
    return cell.ljust(widths[number]) if number < _NUM_TEXTS else cell.rjust(widths[number])


def _matrix(
    board: Leaderboard,
    section: Section,
    escape: Callable[[str], str],
    render: Callable[..., str],
) -> list[list[str]]:
    """One line a row, one column a benchmark, the heads first."""
    lines = [["Run", "Setup", *(escape(column.title) for column in section.columns)]]
    for row in section.rows:
        cells = [row.cells.get(column) for column in section.columns]
        figures = [
            render(cell.text, ",".join(board.letters_of(cell)), best=section.is_best(cell))
            if cell is not None
            else ""
            for cell in cells
        ]
        lines.append([escape(row.name), escape(row.setup), *figures])
    return lines


def _details(board: Leaderboard, section: Section, escape: Callable[[str], str]) -> list[list[str]]:
    """One line a figure of a run, the heads first; nothing if there is no run."""
    figures = [
        (row, column, cell)
        for row in section.rows
        if not row.is_published
        for column in section.columns
        if (cell := row.cells.get(column)) is not None
    ]
    lines = [
        {
            "Run": row.name,
            "Benchmark": column.title,
            "Score": cell.text,
            "95% interval": cell.interval_text,
            "Published": "" if cell.published is None else column.render(cell.published),
            "Difference": cell.difference_text,
            "Answered": cell.coverage_text,
            "Notes": ",".join(board.letters_of(cell)),
        }
        for row, column, cell in figures
    ]
    if not any(cell.published is not None for *_, cell in figures):
        for line in lines:
            del line["Published"], line["Difference"]
    return [[*map(escape, cells)] for cells in (*lines[:1], *map(dict.values, lines))]


def render_latex(board: Leaderboard) -> str:
    """Returns the tables in LaTeX; the document needs the packages booktabs and graphicx."""
    blocks = ["% Needs \\usepackage{booktabs} and \\usepackage{graphicx}.\n"]
    for section in board.sections:
        title = _latex(PART_TITLES[section.part])
        blocks.append(_tabular(_matrix(board, section, _latex, _latex_figure), f"{title}."))
        details = _details(board, section, _latex)
        if details:
            heads, *_ = details
            beside = " and differences to the published figures" if "Published" in heads else ""
            caption = f"{title}: 95\\% intervals{beside}."
            blocks.append(_tabular(details, caption))
    notes = [
        f"\\textsuperscript{{{letter}}} {_latex(mark.text)}."
        for mark, letter in board.letters.items()
    ]
    notes += [f"Not finished: {_latex(line)}." for line in board.unfinished]
    notes += [f"Published figures: {_latex(source)}." for source in board.sources]
    if notes:
        blocks.append("{\\footnotesize\\noindent\n" + "\\\\\n".join(notes) + "\n}\n")
    return "\n".join(blocks)


def _latex(text: str) -> str:
    return text.translate(_LATEX).replace("--", "-{}-")  # two hyphens stay two


def _latex_figure(text: str, letters: str, *, best: bool) -> str:
    shown = f"\\textbf{{{text}}}" if best else text.replace("-", "--")  # the dash of a gap
    return f"{shown}\\textsuperscript{{{letters}}}" if letters else shown


def _tabular(table: Sequence[Sequence[str]], caption: str) -> str:
    heads, *lines = [" & ".join(row) + r" \\" for row in table]
    alignment = "l" * _NUM_TEXTS + "r" * (len(table[0]) - _NUM_TEXTS)
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{caption}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            heads,
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )
