"""The leaderboard as a picture: a panel a benchmark, a bar a run, with its interval."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from evals.records import Unit
from runners.views.leaderboard.board import Leaderboard, Row, Section
from runners.views.leaderboard.columns import PART_TITLES, Column

_FONT = "DejaVu Sans"
"""It comes with matplotlib, so that the picture is the same everywhere."""
_RUN, _PUBLISHED, _INK, _FAINT = "#3b6fb6", "#b9c0c8", "#1c1f23", "#6a727c"
_MAX_PANELS_A_ROW = 4
_MAX_ROWS = 60
_MAX_LABEL = 44
_PANEL_WIDTH, _BAR_HEIGHT, _PANEL_MARGIN = 2.5, 0.3, 0.62
_TITLE_HEIGHT, _LEGEND_HEIGHT, _MIN_WIDTH = 0.5, 0.3, 6.5
_DPI = 150


def render_chart(board: Leaderboard) -> bytes:
    """Returns the leaderboard as PNG; the same leaderboard gives the same bytes."""
    drawn = io.BytesIO()
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever matplotlibrc says here
        mpl.rcParams["font.family"] = _FONT
        figure = _draw(board)
        # Neither date nor version: they would change the bytes.
        figure.savefig(drawn, format="png", dpi=_DPI, metadata={"Software": None})
    return drawn.getvalue()


def _draw(board: Leaderboard) -> Figure:
    sections = [(s, panels) for s in board.sections if (panels := _panels(board, s))]
    heights = [_height(section, len(panels)) for section, panels in sections] or [1.0]
    labels = [_label(row) for section, _ in sections for row in section.rows[:_MAX_ROWS]]
    label_width = 0.3 + 0.075 * max(map(len, labels), default=0)  # inches, about, at 8.5 points
    num_beside = min(_MAX_PANELS_A_ROW, max((len(panels) for _, panels in sections), default=1))
    width = max(label_width + _PANEL_WIDTH * num_beside, _MIN_WIDTH)
    top = sum(heights) + _LEGEND_HEIGHT
    figure = Figure(figsize=(width, top), facecolor="white")
    FigureCanvasAgg(figure)  # pyplot would look for a screen
    if not sections:
        figure.text(0.5, 0.5, "No run has a figure yet.", ha="center", color=_FAINT)
        return figure
    legend = " ".join(_legend(sections))
    figure.text(0.12 / width, 0.1 / top, legend, fontsize=8, color=_FAINT)
    for (section, panels), height in zip(sections, heights, strict=True):
        _draw_section(figure, section, panels, top=top, label_width=label_width)
        top -= height
    return figure


def _legend(sections: Sequence[tuple[Section, Sequence[Column]]]) -> Iterator[str]:
    """What the bars mean: of each thing only where one of them shows it."""
    drawn = [
        (row, row.cells[column])
        for section, panels in sections
        for row in section.rows[:_MAX_ROWS]
        for column in panels
        if column in row.cells and row.cells[column].value is not None
    ]
    if any(cell.interval for _, cell in drawn):
        yield "95% intervals, clustered by image."
    if any(row.is_published for row, _ in drawn):
        yield "Grey: published."
    if any(not cell.is_comparable for _, cell in drawn):
        yield "Hatched: not comparable, see the notes."


def _panels(board: Leaderboard, section: Section) -> list[Column]:
    """The columns that runs have figures for; all of them if there is no run anywhere."""
    # A column without a run's bar would only repeat the paper's table.
    no_runs = all(row.is_published for s in board.sections for row in s.rows)
    return [
        column
        for column in section.columns
        if any(
            column in row.cells and row.cells[column].value is not None
            for row in section.rows
            if no_runs or not row.is_published
        )
    ]


def _height(section: Section, num_panels: int) -> float:
    """Inches that a section takes."""
    return _TITLE_HEIGHT + -(-num_panels // _MAX_PANELS_A_ROW) * _line_height(section)


def _line_height(section: Section) -> float:
    return _PANEL_MARGIN + _BAR_HEIGHT * min(len(section.rows), _MAX_ROWS)


def _draw_section(
    figure: Figure, section: Section, panels: Sequence[Column], *, top: float, label_width: float
) -> None:
    width, height = figure.get_size_inches()
    rows = section.rows[:_MAX_ROWS]
    title = PART_TITLES[section.part]
    if len(rows) < len(section.rows):
        title += f" (the first {len(rows)} of {len(section.rows)} rows)"
    place = (0.12 / width, (top - 0.3) / height)
    figure.text(*place, title, fontsize=11, fontweight="bold", color=_INK)
    line_height = _line_height(section)
    for number, column in enumerate(panels):
        line, beside = divmod(number, _MAX_PANELS_A_ROW)
        left = (label_width + beside * _PANEL_WIDTH) / width
        bottom = (top - _TITLE_HEIGHT - (line + 1) * line_height + 0.3) / height
        size = ((_PANEL_WIDTH - 0.25) / width, (line_height - _PANEL_MARGIN) / height)
        axes = figure.add_axes((left, bottom, *size))  # in shares of the figure
        _draw_panel(axes, rows, column, shows_labels=beside == 0)


def _draw_panel(axes: Axes, rows: Sequence[Row], column: Column, *, shows_labels: bool) -> None:
    largest = 0.0
    for place, row in enumerate(rows):
        cell = row.cells.get(column)
        if cell is None or cell.value is None:
            continue
        value = column.scale.in_print(cell.value)
        low, high = map(column.scale.in_print, cell.interval or (cell.value, cell.value))
        largest = max(largest, high)
        axes.barh(
            place,
            value,
            height=0.68,
            color=_PUBLISHED if row.is_published else _RUN,
            edgecolor="white",  # of the hatching
            linewidth=0,
            alpha=None if cell.is_comparable else 0.4,
            hatch=None if cell.is_comparable else "////",
        )
        if high > low:
            axes.plot([low, high], [place, place], color=_INK, linewidth=1.1, zorder=3)
            for end in (low, high):
                axes.plot([end, end], [place - 0.14, place + 0.14], color=_INK, linewidth=1.1)
        axes.annotate(
            cell.text,
            (max(value, high), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_INK,
        )
    _dress_panel(axes, rows, column, largest, shows_labels=shows_labels)


def _dress_panel(
    axes: Axes, rows: Sequence[Row], column: Column, largest: float, *, shows_labels: bool
) -> None:
    axes.set_title(_drawable(column.title), fontsize=9, loc="left", color=_INK, pad=4)
    axes.title.set_parse_math(False)  # a name may hold two $
    # Bars begin at zero, and beside the longest one there is room for its figure.
    if column.scale.unit is Unit.SHARE:
        largest = max(largest, 50.0)
    axes.set_xlim(0, 1.24 * largest or 1.0)
    axes.set_ylim(len(rows) - 0.45, -0.55)  # the first row on top
    axes.set_yticks(range(len(rows)))
    labels = [_label(row) for row in rows] if shows_labels else [""] * len(rows)
    axes.set_yticklabels(labels, fontsize=8.5, color=_INK, parse_math=False)
    for text, row in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_fontstyle("italic" if row.is_published else "normal")
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7.5, colors=_FAINT, length=2)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(visible=True, axis="x", color="#e6e9ec", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#c5cad0")


def _label(row: Row) -> str:
    name = _drawable(row.name)
    if len(name) > _MAX_LABEL:
        name = f"{name[: _MAX_LABEL - 1]}…"
    return f"{name} ({row.setup})" if row.is_published else name


def _drawable(text: str) -> str:
    """A text in which characters that the font lacks are squares."""
    font = get_font(findfont(_FONT))
    # Drawn as they are, each of them would come with a warning.
    return "".join(c if font.get_char_index(ord(c)) else "□" for c in text)
