"""The index: every run of a results folder, with its scores and the pages in its folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, PrefixLoader

from evals.errors import DataError
from runners.errors import ConfigError
from runners.storage.files import is_there, write_atomic
from runners.storage.run_table import render_metric
from runners.storage.stored import State, StoredRun, StoredTask, list_runs
from runners.views.policy import content_policy
from runners.views.report.page import is_report

logger = logging.getLogger(__name__)

INDEX_NAME = "reports.html"
_MARK = "<!-- llava-evals index -->"
_ASSETS = ("runners.views.leaderboard", "runners.views.report")

Link = tuple[str, str]
"""What a link is called, and where it leads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedTask:
    """One task of a run.

    Attributes:
        name: The task's name.
        score: Its primary metric as it is printed; empty where there is none yet.
        answered: How many questions are answered.
        state: What is to be known of it; empty if it is finished.
    """

    name: str
    score: str
    answered: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedRun:
    """One run.

    Attributes:
        name: Its name.
        date: When the last session on it began; empty where that is not known.
        tasks: Its tasks.
        pages: The pages in its folder, or the one that is served.
    """

    name: str
    date: str
    tasks: Sequence[IndexedTask]
    pages: Sequence[Link]


def write_index(results_dir: Path) -> Path | None:
    """Writes the index of the pages in a results folder.

    Returns:
        The file; None if there are no pages, or something else lies in its place.
    """
    path = results_dir / INDEX_NAME
    runs = list_runs(results_dir)
    if not any(_pages(run) for run in runs):
        return None
    if is_there(path) and _MARK.encode() not in path.read_bytes()[:200]:
        logger.warning("%s is no index of reports, and is left as it is", path)
        return None
    write_atomic(path, render_index(str(results_dir), index_runs(runs, _pages), is_live=False))
    return path


def index_runs(
    runs: Sequence[StoredRun], pages_of: Callable[[StoredRun], Sequence[Link]]
) -> list[IndexedRun]:
    """Returns what the index says of runs, those that were worked on last first."""
    indexed = [
        IndexedRun(
            name=run.name,
            date=max(map(_last_session, run.tasks.values()), default=""),
            tasks=[_index_task(task) for task in run.tasks.values()],
            pages=pages_of(run),
        )
        for run in runs
    ]
    return sorted(indexed, key=lambda run: run.date, reverse=True)


def render_index(title: str, runs: Sequence[IndexedRun], *, is_live: bool) -> str:
    """Returns the page; every text in it that is not from here is escaped.

    Args:
        title: The results folder.
        runs: What is listed.
        is_live: Whether the page is served, and looks for new answers.
    """
    templates = Environment(
        loader=PrefixLoader({package: PackageLoader(package, "assets") for package in _ASSETS}),
        finalize=lambda value: escape(str(value)),  # whatever a template puts in by {{ }}
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    style = _asset("runners.views.leaderboard", "style.css")
    script = _asset("runners.views.report", "index.js") if is_live else ""
    rules = {"img-src": "data:", **({"connect-src": "'self'"} if is_live else {})}
    return templates.get_template("runners.views.report/index.html").render(
        title=title, runs=runs, is_live=is_live, policy=content_policy(style, script, rules)
    )


def _asset(package: str, name: str) -> str:
    return (files(package) / "assets" / name).read_text(encoding="utf-8")


def _pages(run: StoredRun) -> list[Link]:
    """The pages in a run's folder, as seen from the folder with the runs."""
    paths = sorted(path for path in run.folder.glob("*.html") if is_report(path))
    return [(path.stem, quote(os.fsencode(f"{run.folder.name}/{path.name}"))) for path in paths]


def _last_session(task: StoredTask) -> str:
    try:
        return "" if task.manifest is None else str(task.manifest.last_session or "")
    except ConfigError:
        return ""


def _index_task(task: StoredTask) -> IndexedTask:
    score = answered = ""
    try:
        answered = f"{task.num_lines:,}"
        if (summary := task.summary) is not None:
            score = render_metric(summary, summary.primary_metric)
            answered = f"{summary.num_answered:,} / {summary.num_questions:,}"
        _ = task.manifest  # without a readable one there is no report
        state = " and ".join(_remarks(task))
    except (ConfigError, DataError):
        state = "cannot be read"
    return IndexedTask(name=task.name, score=score, answered=answered, state=state)


def _remarks(task: StoredTask) -> Iterator[str]:
    if task.state is State.UNFINISHED:
        yield "not finished"
    elif task.state is not State.FINISHED:
        yield f"{task.state.value} since it was scored"
    if task.summary is not None and task.summary.origin.limited:
        yield "only a part of the questions"
