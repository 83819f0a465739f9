"""Chromium without a window, and what is measured in it."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATIENCE_S = 30.0
_POLL_MS = 20
# From an event until the browser has drawn what came of it and is free again.
_TIMED = """async () => {
  const drawn = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  await drawn();
  const started = performance.now();
  %s;
  document.body.getBoundingClientRect();
  await drawn();
  return performance.now() - started;
}"""
_SEARCH = """(() => {
  const box = document.getElementById("search");
  box.value = %r;
  box.dispatchEvent(new Event("input"));
})()"""
_CHIP = """document.querySelector("input[value=%s]").click()"""


def find_chromium() -> str | None:
    """The program of an installed Chromium or Chrome; None if there is none."""
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


@contextmanager
def launched(executable: str) -> Iterator[Browser]:
    """A running browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its sandbox needs rights that a container does not have.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(page: Page, path: Path, address: str = "") -> None:
    """Opens a file and waits until it can be used."""
    page.goto(f"{path.absolute().as_uri()}{address}")
    wait_until(page, "performance.getEntriesByName('ready').length > 0")


def wait_until(page: Page, condition: str) -> None:
    """Waits until an expression holds.

    `page.wait_for_function` has the page evaluate text, which its security policy forbids, as soon
    as the condition does not hold at once.

    Raises:
        TimeoutError: it did not come to hold.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while not page.evaluate(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(condition)
        page.wait_for_timeout(_POLL_MS)


def measure_opening_s(browser: Browser, path: Path, repeats: int = 3) -> list[float]:
    """Seconds from the start of the navigation until the page is drawn and free, sorted."""
    times = []
    for _ in range(repeats):
        context = browser.new_context(viewport={"width": 1360, "height": 850})
        page = context.new_page()
        open_page(page, path, "#questions")
        times.append(page.evaluate("performance.getEntriesByName('ready')[0].startTime / 1000"))
        context.close()
    return sorted(times)


def measure_filters_ms(page: Page, repeats: int = 7) -> dict[str, float]:
    """The median over several turns of each filter, until the page is drawn again."""
    acts = {
        "search": _SEARCH % "bicycle",
        "search for two words": _SEARCH % "umbrella 77",
        "no search": _SEARCH % "",
        "worse in B": _CHIP % "worse",
        "all again": _CHIP % "worse",
        "wrong in A": _CHIP % "wrong",
        "and nearly tied": _CHIP % "near",
        "not nearly tied": _CHIP % "near",
        "not wrong": _CHIP % "wrong",
    }
    times: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(repeats):
        for name, act in acts.items():
            times[name].append(page.evaluate(_TIMED % act))
    return {name: statistics.median(found) for name, found in times.items()}


def watch(page: Page) -> dict[str, list[Any]]:
    """Collects what a page asks for, prints and throws, from now on."""
    seen: dict[str, list[Any]] = {"requests": [], "console": [], "errors": []}
    page.on("request", lambda request: seen["requests"].append(request.url))
    page.on("console", lambda message: seen["console"].append(message.text))
    page.on("pageerror", lambda error: seen["errors"].append(str(error)))
    return seen
