"""Every table from what lies in results: `python -m runners.leaderboard`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from evals.reading.files import visible
from runners.errors import COMPLETE, INCOMPLETE, ConfigError
from runners.logs import RunLog, doing
from runners.options import program
from runners.options.build import read_settings
from runners.options.leaderboard import LeaderboardConfig
from runners.storage.files import write_atomic
from runners.views.leaderboard.board import Leaderboard
from runners.views.leaderboard.building import build_leaderboard
from runners.views.leaderboard.page import render_page
from runners.views.leaderboard.text import render_csv, render_latex, render_markdown

logger = logging.getLogger(__name__)

NAME = "leaderboard"
_OF_PROJECT = Path(__file__).parent / "views" / "leaderboard" / "assets" / "published"


def leaderboard(config: DictConfig) -> int:
    """Writes and prints the leaderboard of one composed configuration; returns the exit code."""
    settings = read_settings(config, LeaderboardConfig)
    with RunLog():
        published = _published_dir(settings)
        with doing(f"reading the runs in {settings.results_dir}"):
            board = build_leaderboard(settings, published)
        print(render_markdown(board))
        if all(row.is_published for section in board.sections for row in section.rows):
            logger.warning(
                "no run of %s is shown: none is finished that has these benchmarks; runners.eval "
                "makes one, results_dir=DIR names another folder",
                settings.results_dir,
            )
        with doing("writing the tables"):
            return _write(board, settings)


def _published_dir(settings: LeaderboardConfig) -> Path | None:
    """The folder with the tables of published figures, None if none are wanted."""
    if settings.published == ["none"]:
        return None
    if settings.published_dir is not None:
        named = Path(settings.published_dir)
        if not named.is_dir():
            raise ConfigError(
                f"`published_dir` must be a folder, but {named} is none. Leave it out for the "
                "figures that come with the project."
            )
        return named
    # Tables beside the runs replace those of the project.
    beside = Path(settings.results_dir) / "published"
    return beside if visible(beside.glob("*.csv")) else _OF_PROJECT


def _write(board: Leaderboard, settings: LeaderboardConfig) -> int:
    output = Path(settings.output or settings.results_dir)
    code = COMPLETE
    for suffix in settings.formats:
        try:
            write_atomic(output / f"{NAME}.{suffix}", _render(suffix, board, output))
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "matplotlib":  # a fault of our own
                raise
            logger.error(
                "%s.png is not drawn: it needs matplotlib, which is not installed. Install it with "
                "pip install 'llava-evals[plots]', or leave it out with formats=[csv,md,tex,html].",
                NAME,
            )
            code = INCOMPLETE
    logger.info("written to %s", output)
    return code


def _render(suffix: str, board: Leaderboard, folder: Path) -> str | bytes:
    """The file of one format, which will lie in a folder."""
    return render_page(board, folder) if suffix == "html" else _RENDERERS[suffix](board)


def _render_chart(board: Leaderboard) -> bytes:
    from runners.views.leaderboard.chart import render_chart  # needs an optional package

    return render_chart(board)


_RENDERERS: Mapping[str, Callable[[Leaderboard], str | bytes]] = {
    "csv": render_csv,
    "md": render_markdown,
    "tex": render_latex,
    "png": _render_chart,
}


main = partial(program.main, "leaderboard", leaderboard)

if __name__ == "__main__":
    main()
