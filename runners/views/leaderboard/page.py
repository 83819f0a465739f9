"""The leaderboard as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from html import escape

from jinja2 import Environment, PackageLoader

from runners.views.leaderboard.board import Leaderboard
from runners.views.leaderboard.columns import PART_TITLES


def render_page(board: Leaderboard) -> str:
    """Returns the page; every text in it that is not from here is escaped."""
    templates = Environment(
        loader=PackageLoader("runners.views.leaderboard", "assets"),
        finalize=lambda value: escape(str(value)),  # whatever a template puts in by {{ }}
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return templates.get_template("page.html").render(board=board, titles=PART_TITLES)
