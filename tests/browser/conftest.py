"""A browser for the tests, and pages to look at; skipped only where no Chromium is installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runners.options import program
from runners.report import report
from tests.browser.driving import find_chromium, launched
from tests.browser.synthetic_runs import write_large_pair

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP = {"width": 1360, "height": 850}
NUM_QUESTIONS, NUM_IMAGES = 10_000, 2_000

NewPage = Callable[..., "Page"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium is installed")
    with launched(executable) as running:
        yield running


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Opens a window of its own; all are closed after the test."""
    contexts = []

    def build(**options: Any) -> Page:
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        contexts.append(context)
        return context.new_page()

    yield build
    for context in contexts:
        context.close()


def write_report(folder: Path, *options: str) -> Path:
    """The page over runs in `folder/results`."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert program.run("report", report, [*options, "output=page.html"]) == 0
    finally:
        os.chdir(before)
    return folder / "page.html"


@pytest.fixture(scope="session")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs over 10,000 questions with 2,000 pictures."""
    folder = tmp_path_factory.mktemp("large")
    write_large_pair(folder, NUM_QUESTIONS, NUM_IMAGES)
    return write_report(folder, "runs=[A,B]")


@pytest.fixture(scope="session")
def small_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The like of it with a hundredth of both."""
    folder = tmp_path_factory.mktemp("small")
    write_large_pair(folder, NUM_QUESTIONS // 100, NUM_IMAGES // 100)
    return write_report(folder, "runs=[A,B]")
