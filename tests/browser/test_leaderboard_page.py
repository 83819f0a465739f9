from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runners.leaderboard import leaderboard
from runners.options import program
from tests.browser.conftest import NewPage
from tests.browser.driving import watch
from tests.runners.synthetic_runs import scores_of_mean, write_task

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture
def page_path(tmp_path: Path) -> Path:
    """Runs b, a, c; d, whose figure is of a part of the questions; e without a figure for GQA."""
    for name, share in (("b", 0.5), ("a", 0.9), ("c", 0.7)):
        write_task(tmp_path / "results" / name, "gqa", scores_of_mean(share, 100))
    write_task(tmp_path / "results/d", "gqa", scores_of_mean(0.95, 100), limited=True)
    write_task(tmp_path / "results/e", "pope", scores_of_mean(0.5, 10))
    options = [f"results_dir={tmp_path / 'results'}", "formats=[html]", "published=none"]
    assert program.run("leaderboard", leaderboard, options) == 0
    return tmp_path / "results/leaderboard.html"


def names(page: Page) -> str:
    return "".join(text.strip()[0] for text in page.locator("tbody th").all_inner_texts())


def test_columns_sort_up_down_and_back(page_path: Path, new_page: NewPage) -> None:
    page = new_page()
    seen = watch(page)
    page.goto(page_path.as_uri())
    found = {}
    for head in ("GQA", "Run"):
        button = page.get_by_role("button", name=head)
        states = []
        for _ in range(3):
            button.click()
            states.append((names(page), button.locator("..").get_attribute("aria-sort")))
        found[head] = states
    assert found == {
        "GQA": [("acbde", "descending"), ("bcade", "ascending"), ("abcde", "none")],
        "Run": [("abcde", "descending"), ("edcba", "ascending"), ("abcde", "none")],
    }
    assert seen["console"] == seen["errors"] == []


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_page_says_that_columns_scroll_where_they_do(
    width: int, page_path: Path, new_page: NewPage
) -> None:
    page = new_page(viewport={"width": width, "height": 800})
    page.goto(page_path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate("(() => { const t = document.querySelector('.table');"
                         " return t.scrollWidth > t.clientWidth; })()")  # fmt: skip
    assert page.locator(".scrolls").first.is_visible() == wide
