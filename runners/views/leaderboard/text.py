"""The leaderboard as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence

from runners.views.leaderboard.columns import PART_TITLES, Column
from runners.views.leaderboard.records import Cell, Leaderboard, Row, Section

NOTHING = ""
DETAIL_HEADS = (
    *("Run", "Benchmark", "Score", "95% interval", "Published", "Difference", "Answered"),
    "Notes",
)

_MARKDOWN = re.compile(r"([\\`*\[\]|<>&])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"{{{character}}}" for character in "[]*"},  # \\ would take them
    **{character: f"\\{character}" for character in "{}$&#_%"},
}
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
    for section in board.sections:
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
        return [NOTHING] * 7
    low, high = cell.interval or (None, None)
    figures = (cell.value, low, high, cell.published, cell.difference, cell.coverage)
    notes = "; ".join(mark.text for mark in cell.marks)
    return [*(NOTHING if figure is None else repr(figure) for figure in figures), _plain(notes)]


def _plain(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def render_markdown(board: Leaderboard) -> str:
    """Returns the tables in Markdown, padded so that they can be read as they stand."""
    blocks = ["# Leaderboard\n"]
    for section in board.sections:
        table = _matrix(board, section, _markdown, _markdown_figure)
        blocks.append(f"## {PART_TITLES[section.part]}\n\n{_pad(table, num_texts=2)}")
        details = list(_details(board, section, _markdown))
        if details:
            blocks.append(_pad([list(DETAIL_HEADS), *details], num_texts=2))
    notes = [f"- ({letter}) {_markdown(mark.text)}." for mark, letter in board.letters.items()]
    for title, lines in (
        ("Notes", notes),
        ("Not finished", [f"- {_markdown(line)}" for line in board.unfinished]),
        ("Published figures", [f"- {_markdown(source)}" for source in board.sources]),
    ):
        if lines:
            blocks.append(f"## {title}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(blocks)


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _markdown_figure(text: str, letters: str, *, best: bool) -> str:
    shown = f"**{text}**" if best else text
    return f"{shown} ({letters})" if letters else shown


def _pad(table: Sequence[Sequence[str]], *, num_texts: int) -> str:
    """A Markdown table with the first columns aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            text.ljust(width) if number < num_texts else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |")
    rule = [
        "-" * (width + 2) if number < num_texts else "-" * (width + 1) + ":"
        for number, width in enumerate(widths)
    ]
    lines.insert(1, f"|{'|'.join(rule)}|")
    return "\n".join(lines) + "\n"


def _matrix(
    board: Leaderboard,
    section: Section,
    escape: Callable[[str], str],
    render: Callable[..., str],
) -> list[list[str]]:
    """One line a row, one column a benchmark, the heads first."""
    lines = [["Run", "Setup", *(escape(column.title) for column in section.columns)]]
    for row in section.rows:
        figures = []
        for column in section.columns:
            cell = row.cells.get(column)
            best = section.is_best(row, column)
            letters = "" if cell is None else board.letters_of(cell)
            figures.append("" if cell is None else render(cell.text, letters, best=best))
        lines.append([escape(row.name), escape(row.setup), *figures])
    return lines


def _details(
    board: Leaderboard, section: Section, escape: Callable[[str], str]
) -> Iterator[list[str]]:
    """One line a figure of a run."""
    for row in section.rows:
        if row.is_published:
            continue
        for column in section.columns:
            if column in row.cells:
                cell = row.cells[column]
                yield [
                    escape(row.name),
                    escape(column.title),
                    cell.text,
                    render_interval(column, cell),
                    "" if cell.published is None else column.render(cell.published),
                    render_difference(column, cell),
                    render_coverage(cell),
                    board.letters_of(cell),
                ]


def render_interval(column: Column, cell: Cell) -> str:
    """Returns the interval of a figure as it is printed, empty if there is none."""
    if cell.interval is None:
        return NOTHING
    return " to ".join(column.render(end) for end in cell.interval)


def render_difference(column: Column, cell: Cell) -> str:
    """Returns the difference to the published figure, empty if there is none to compare with."""
    return NOTHING if cell.difference is None else column.render_difference(cell.difference)


def render_coverage(cell: Cell) -> str:
    """Returns how many of the questions were answered; a part never reads as all of them."""
    if cell.coverage is None:
        return NOTHING
    return "100%" if cell.coverage == 1 else f"{min(100 * cell.coverage, 99.9):.1f}%"


def render_latex(board: Leaderboard) -> str:
    """Returns the tables in LaTeX; the document needs the packages booktabs and graphicx."""
    blocks = ["% Needs \\usepackage{booktabs} and \\usepackage{graphicx}.\n"]
    for section in board.sections:
        title = _latex(PART_TITLES[section.part])
        matrix = _matrix(board, section, _latex, _latex_figure)
        blocks.append(_tabular(matrix, f"{title}.", num_texts=2))
        details = list(_details(board, section, _latex))
        if details:
            heads = [_latex(head) for head in DETAIL_HEADS]
            caption = f"{title}: 95\\% intervals and differences to the published figures."
            blocks.append(_tabular([heads, *details], caption, num_texts=2))
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
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return escaped.replace("--", "-{}-")  # two hyphens stay two


def _latex_figure(text: str, letters: str, *, best: bool) -> str:
    shown = f"\\textbf{{{text}}}" if best else text.replace("-", "--")
    return f"{shown}\\textsuperscript{{{letters}}}" if letters else shown


def _tabular(table: Sequence[Sequence[str]], caption: str, *, num_texts: int) -> str:
    heads, *rows = table
    alignment = "l" * num_texts + "r" * (len(heads) - num_texts)
    lines = [" & ".join(row) + r" \\" for row in rows]
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{caption}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )
