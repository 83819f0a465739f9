"""The report of a run that goes on, in a browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runners.options.given import TaskChoice
from runners.view.pages import ServedRuns
from runners.view.server import PageServer
from tests.browser.conftest import NewPage
from tests.browser.driving import wait_until, watch
from tests.browser.synthetic_runs import Data, Reply, write_data, write_picture, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

NUM_QUESTIONS = 40


@pytest.fixture
def data(tmp_path: Path) -> Data:
    records = [
        {"question_id": i, "image": "0.jpg", "text": f"Why {i}?", "answer": f"a{i}"}
        for i in range(NUM_QUESTIONS)
    ]
    data = write_data(tmp_path / "data", records)
    write_picture(data.images / "0.jpg", 0, (900, 600))
    answered(tmp_path, data, 20)
    return data


def answered(folder: Path, data: Data, number: int, *, finished: bool = False) -> None:
    """Puts a run with more answers in the place of the last one."""
    replies = [Reply(f"a{i}") if i < number else None for i in range(NUM_QUESTIONS)]
    new = write_run(folder / f"new{number}" / "A", data, replies, finished=finished)
    place = folder / "results/A/custom"
    place.mkdir(parents=True, exist_ok=True)
    for path in (new / "custom").iterdir():
        path.replace(place / path.name)


@pytest.fixture
def address(data: Data, tmp_path: Path) -> Iterator[str]:
    runs = ServedRuns(tmp_path / "results", TaskChoice(), only=None, thumbnail_px=160)
    with PageServer(0, runs) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


def wait_for(page: Page, selector: str, text: str) -> None:
    """Waits until an element has a text, whatever pages are loaded meanwhile."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_contain_text(text, timeout=30_000)


def wait_for_answers(page: Page, number: int) -> None:
    wait_for(page, "#live-state", f"{number} of 40 answers")


def test_answers_appear_and_the_reader_stays_in_place(
    address: str, data: Data, tmp_path: Path, new_page: NewPage
) -> None:
    page = new_page()
    seen = watch(page)
    page.goto(address)
    page.get_by_role("link", name="report").click()
    wait_for_answers(page, 20)
    page.goto(f"{page.url}#question/custom/7")
    page.locator("#search").fill("why")
    page.get_by_label("Order").select_option("length")
    page.locator("#list").evaluate("list => { list.focus(); list.scrollTop = 300; }")
    answered(tmp_path, data, 30)
    wait_for_answers(page, 30)
    assert page.locator("#live-state").inner_text() == "30 of 40 answers"
    assert page.locator("#result-count").inner_text() == "30 questions"
    assert page.locator("#search").input_value() == "why"
    assert page.get_by_label("Order").input_value() == "length"
    assert page.locator("#detail .asked").inner_text() == "Why 7?"
    assert page.locator("#list").evaluate("list => list.scrollTop") == 300
    assert page.evaluate("document.activeElement.id") == "list"
    answered(tmp_path, data, 40, finished=True)
    wait_for_answers(page, 40)
    page.keyboard.press("s")
    assert "100.00" in page.locator("#summary-view").inner_text()
    assert seen["console"] == seen["errors"] == []


def test_pause_and_an_open_image_hold_the_page(
    address: str, data: Data, tmp_path: Path, new_page: NewPage
) -> None:
    page = new_page()
    page.goto(f"{address}run/A/#question/custom/7")
    wait_for_answers(page, 20)
    page.keyboard.press("z")
    wait_until(page, "document.querySelector('#zoom-box img')?.naturalWidth === 900")
    answered(tmp_path, data, 30)
    wait_for(page, "#live-state", "more have arrived")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(3000)
    assert page.locator("#live-state").inner_text() == "20 of 40 answers"
    page.get_by_role("button", name="Go on").click()
    wait_for_answers(page, 30)


def test_index_shows_new_answers(
    address: str, data: Data, tmp_path: Path, new_page: NewPage
) -> None:
    page = new_page(viewport={"width": 390, "height": 844})
    page.goto(address)
    assert "20 answered" in page.locator("table").inner_text()
    answered(tmp_path, data, 30)
    wait_for(page, "table", "30 answered")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
