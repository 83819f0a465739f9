from __future__ import annotations

import csv
import io
import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import NUM_IMAGES, NUM_QUESTIONS, NewPage, write_report
from tests.browser.driving import (
    measure_filters_ms,
    measure_opening_s,
    open_page,
    wait_until,
    watch,
)
from tests.browser.synthetic_runs import Reply, write_data, write_picture, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

MAX_OPENING_RATIO = 6.0
"""Of the time that a page with a hundredth of the questions and pictures takes, in one browser."""
MAX_FILTER_RATIO = 3.0
NUM_PAIRS = 3
MARKUP = "</script><script>hacked=1</script><img src=x onerror='hacked=2'><b>bold</b>{{data}}"
ODD = {
    "markup": MARKUP,
    "long": "word " * 20_000,
    "unbroken": "x" * 100_000,
    "rtl": "\u202eevil\u202c שלום",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈",
    "control": "a\x00b\x1b[31m",
    "surrogate": "half \ud800 pair",
    "empty": "",
}


@pytest.fixture(scope="module")
def pair_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs A and B: both right, lost, gained, wrong, failed, and nearly tied."""
    folder = tmp_path_factory.mktemp("pair")
    names = ("same", "lost", "gained", "wrong", "failed", "tied")
    records = [
        {"question_id": name, "text": f"Why {name}?\nBe brief.", "answer": name}
        | {"image": f"{i % 2}.jpg"}
        for i, name in enumerate(names)
    ]
    data = write_data(folder / "data", records)
    for i in range(2):
        write_picture(data.images / f"{i}.jpg", i)
    kinds = [{"kind": kind} for kind in ("new", "old", "old", "new", "new", "new")]
    said = {
        "A": ["same", "lost", "no", "blue", "failed", "tied"],
        "B": ["same", "no", "gained", "green", "", "tied"],
    }
    for name, texts in said.items():
        replies = [Reply(text, groups=kind) for text, kind in zip(texts, kinds, strict=True)]
        replies[5] = Reply("tied", margin=1e-5, replayed=True, groups=kinds[5])
        if name == "B":
            replies[4] = Reply(cause="out_of_memory", message="no room", groups=kinds[4])
        write_run(folder / "results" / name, data, replies)
    return write_report(folder, "runs=[A,B]")


@pytest.fixture(scope="module")
def odd_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every odd text as key, question, target, answer, group, cause of failure and run's name."""
    folder = tmp_path_factory.mktemp("odd")
    records = [
        {"question_id": text or "empty", "text": text or " ", "answer": text or "none"}
        for text in ODD.values()
    ]
    data = write_data(folder / "data", records)
    replies = [Reply(text, groups={text: text, "kind": text}) for text in ODD.values()]
    # A cause is counted in `summary.json`, which is UTF-8: no half of a pair can be in it.
    causes = [text.replace("\ud800", "") or "error" for text in ODD.values()]
    failures = [
        Reply(cause=cause, message=text) for cause, text in zip(causes, ODD.values(), strict=True)
    ]
    write_run(folder / "results" / "<b>bold", data, replies)
    write_run(folder / "results" / "B", data, failures)
    return write_report(folder, "runs=['<b>bold',B]")


def ids_shown(page: Page) -> list[str]:
    """The questions in the list, top down."""
    found: list[list[Any]] = page.evaluate(
        "[...document.querySelectorAll('#list .item')].map((item) =>"
        " [item.offsetTop, item.querySelector('.question').textContent])"
    )
    return [text.removeprefix("Why ").removesuffix("?") for _, text in sorted(found)]


def selected(page: Page) -> str:
    return page.locator("#detail .asked").inner_text().split("?")[0].removeprefix("Why ")


def click_chip(page: Page, value: str, run: int = 0) -> None:
    page.locator(f"#filters input[value={value}]").nth(run).click()


@pytest.mark.alone
def test_a_hundred_times_the_questions_open_about_as_fast(
    large_page: Path, small_page: Path, browser: Browser
) -> None:
    pairs = [
        [statistics.median(measure_opening_s(browser, page)) for page in (large_page, small_page)]
        for _ in range(NUM_PAIRS)
    ]
    assert statistics.median(large / small for large, small in pairs) < MAX_OPENING_RATIO, pairs


@pytest.mark.alone
def test_a_hundred_times_the_questions_filter_about_as_fast(
    large_page: Path, small_page: Path, new_page: NewPage
) -> None:
    pages = [new_page(), new_page()]
    for page, path in zip(pages, (large_page, small_page), strict=True):
        open_page(page, path, "#questions")
    pairs = []
    for _ in range(NUM_PAIRS):
        times = []
        for page in pages:
            page.bring_to_front()
            times.append(sum(measure_filters_ms(page).values()))
        pairs.append(times)
    assert statistics.median(large / small for large, small in pairs) < MAX_FILTER_RATIO, pairs


def test_large_page_holds_all_and_draws_what_is_in_sight(
    large_page: Path, new_page: NewPage
) -> None:
    page = new_page()
    open_page(page, large_page, "#questions")
    assert (
        page.evaluate("JSON.parse(document.getElementById('pictures').textContent).length")
        == NUM_IMAGES
    )
    assert page.locator("#result-count").inner_text() == f"{NUM_QUESTIONS:,} questions"
    assert 0 < page.locator("#list .item").count() < 60


def test_large_page_shows_the_pictures_of_the_rows_in_sight(
    large_page: Path, new_page: NewPage
) -> None:
    page = new_page()
    open_page(page, large_page, "#questions")
    page.locator("#list").evaluate("list => { list.scrollTop = 5000 * 66; }")
    wait_until(page, "document.querySelector('#list').textContent.includes('number 5003')")
    loaded = "[...document.querySelectorAll('#list img')].every(i => i.complete && i.naturalWidth)"
    wait_until(page, loaded)


def test_page_asks_no_network_and_complains_of_nothing(pair_page: Path, new_page: NewPage) -> None:
    page = new_page()
    seen = watch(page)
    open_page(page, pair_page, "#questions")
    for key in ("j", "j", "Enter", "Escape", "s", "s", "?"):
        page.keyboard.press(key)
    assert {url.split(":")[0] for url in seen["requests"]} <= {"file", "data"}
    assert [url for url in seen["requests"] if url.startswith("file")] == [pair_page.as_uri()]
    assert seen["console"] == seen["errors"] == []


def test_page_could_not_reach_the_network(pair_page: Path, new_page: NewPage) -> None:
    page = new_page()
    open_page(page, pair_page)
    for act in ("fetch('https://example.com')", "import('data:text/javascript,')"):
        assert (
            page.evaluate(f"{act}.then(() => 'went through', () => 'was refused')") == "was refused"
        )


@pytest.mark.parametrize(
    ("chips", "expected"),
    [
        ([("better", 0)], ["gained"]),
        ([("worse", 0)], ["lost", "failed"]),
        ([("better", 0), ("worse", 0)], ["lost", "gained", "failed"]),
        ([("reworded", 0)], ["wrong"]),
        ([("same", 0)], ["same", "tied"]),
        ([("wrong", 0)], ["gained", "wrong"]),
        ([("wrong", 1)], ["lost", "wrong"]),
        ([("wrong", 0), ("wrong", 1)], ["wrong"]),
        ([("failed", 0)], ["failed"]),
        ([("near", 0)], ["tied"]),
        ([("replayed", 0)], ["tied"]),
    ],
)
def test_filters_show_what_they_say(
    chips: list[tuple[str, int]], expected: list[str], pair_page: Path, new_page: NewPage
) -> None:
    page = new_page()
    open_page(page, pair_page, "#questions")
    for value, run in chips:
        click_chip(page, value, run)
    assert ids_shown(page) == expected
    page.get_by_text("Clear all filters").click()
    assert len(ids_shown(page)) == 6


def test_category_narrows_and_is_kept_beside_other_filters(
    pair_page: Path, new_page: NewPage
) -> None:
    page = new_page()
    open_page(page, pair_page, "#questions")
    page.get_by_label("kind").select_option(label="old (2)")
    assert ids_shown(page) == ["lost", "gained"]
    click_chip(page, "better")
    assert ids_shown(page) == ["gained"]


@pytest.mark.parametrize(
    ("text", "expected"), [("GREEN", ["wrong"]), ("why blue", ["wrong"]), ("nowhere", [])]
)
def test_search_looks_at_questions_targets_and_answers(
    text: str, expected: list[str], pair_page: Path, new_page: NewPage
) -> None:
    page = new_page()
    open_page(page, pair_page, "#questions")
    page.keyboard.press("/")
    page.keyboard.type(text)
    assert ids_shown(page) == expected


def test_order_by_margin_puts_near_ties_first(pair_page: Path, new_page: NewPage) -> None:
    page = new_page()
    open_page(page, pair_page, "#questions")
    page.get_by_label("Order").select_option("margin")
    assert ids_shown(page)[0] == "tied"


def test_a_question_shows_both_runs_side_by_side(pair_page: Path, new_page: NewPage) -> None:
    page = new_page()
    open_page(page, pair_page, "#question/custom/lost")
    cards = page.locator("#detail .card")
    assert cards.nth(0).locator(".answer").inner_text() == "lost"
    assert cards.nth(1).locator(".answer").inner_text() == "no"
    assert "right" in cards.nth(0).inner_text()
    assert "wrong" in cards.nth(1).inner_text()
    boxes = [cards.nth(i).bounding_box() or {} for i in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]
    assert page.locator("#detail .targets").inner_text().split() == ["Target", "lost"]
    page.get_by_text("Prompt as rendered").click()
    assert (
        "USER: <image>\nWhy lost?\nBe brief. ASSISTANT:" in page.locator(".prompt pre").inner_text()
    )
    picture = page.locator("#detail figure img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 160


def test_failure_shows_cause_and_message(pair_page: Path, new_page: NewPage) -> None:
    page = new_page()
    open_page(page, pair_page, "#question/custom/failed")
    text = page.locator("#detail .card").nth(1).inner_text()
    assert "out_of_memory" in text
    assert "no room" in text


def test_link_leads_to_the_question_and_follows_the_selection(
    pair_page: Path, new_page: NewPage
) -> None:
    page = new_page()
    open_page(page, pair_page, "#question/custom/gained")
    assert selected(page) == "gained"
    page.keyboard.press("j")
    assert page.url.endswith("#question/custom/wrong")
    address = page.get_by_title("Link to this question").get_attribute("href")
    assert address == "#question/custom/wrong"
    click_chip(page, "worse")
    page.evaluate("location.hash = '#question/custom/gained'")  # which the filter hides
    wait_until(page, "document.querySelector('.asked').textContent.includes('gained')")
    assert len(ids_shown(page)) == 6


def test_keys_walk_through_the_questions(pair_page: Path, new_page: NewPage) -> None:
    page = new_page()
    open_page(page, pair_page, "#questions")
    walked = []
    for key in ("j", "j", "k", "End", "j", "Home", "ArrowDown"):
        page.keyboard.press(key)
        walked.append(selected(page))
    assert walked == ["lost", "gained", "lost", "tied", "tied", "same", "lost"]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "detail"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "list"
    page.keyboard.press("/")
    page.keyboard.type("jk?")  # typed, not obeyed
    assert page.locator("#search").input_value() == "jk?"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#help-dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help-dialog").is_visible()
    page.keyboard.press("s")
    assert page.locator("#summary-view").is_visible()


def test_list_tells_assistive_technology_where_one_is(pair_page: Path, new_page: NewPage) -> None:
    page = new_page()
    open_page(page, pair_page, "#question/custom/gained")
    chosen = page.locator("#list [aria-selected=true]")
    assert chosen.get_attribute("id") == page.locator("#list").get_attribute(
        "aria-activedescendant"
    )
    assert (chosen.get_attribute("aria-posinset"), chosen.get_attribute("aria-setsize")) == (
        "3",
        "6",
    )
    unnamed = """[...document.querySelectorAll('button, select, input, a, [role=img]')].filter(
      (e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).length"""
    assert page.evaluate(unnamed) == 0


def test_summary_leads_to_the_questions_behind_a_figure(pair_page: Path, new_page: NewPage) -> None:
    page = new_page()
    open_page(page, pair_page)
    scores = page.locator("#summary-view table").first.inner_text()
    for figure in ("66.67", "50.00", "6 / 6", "5 / 6"):
        assert figure in scores
    assert page.locator("#summary-view svg").count() >= 3
    page.get_by_role("button", name="out_of_memory").click()
    assert ids_shown(page) == ["failed"]


@pytest.mark.parametrize("name", ODD)
def test_odd_text_is_shown_as_text(name: str, odd_page: Path, new_page: NewPage) -> None:
    page = new_page()
    seen = watch(page)
    open_page(page, odd_page, "#questions")
    place = list(ODD).index(name)
    page.locator("#list").evaluate("(list, top) => { list.scrollTop = top; }", place * 66)
    page.locator(f"#row-{place}").click()
    shown = page.locator("#detail .card").nth(0).inner_text()
    replaced = {"\x00": "␀", "\x1b": "␛", "\ud800": "\ufffd"}
    expected = "".join(replaced.get(character, character) for character in ODD[name])
    assert (expected.strip() or "The answer is empty.") in shown
    assert page.evaluate("typeof hacked") == "undefined"
    assert page.locator("#detail b:has-text('bold'), #detail script").count() == 0
    assert page.evaluate("document.scripts.length") == 5
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#title").inner_text().split()[:2] == ["A", "<b>bold"]
    assert seen["console"] == seen["errors"] == []


@pytest.mark.parametrize("address", ["#summary", "#questions"])
@pytest.mark.parametrize("width", [320, 390, 768])
def test_narrow_screens_scroll_in_one_direction(
    width: int, address: str, pair_page: Path, odd_page: Path, new_page: NewPage
) -> None:
    for path in (pair_page, odd_page):
        page = new_page(viewport={"width": width, "height": 800}, has_touch=True)
        open_page(page, path, address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if address == "#questions":
            page.locator("#row-0").click()
            assert page.locator("#detail").is_visible()
            assert page.locator("#detail").evaluate("pane => pane.scrollWidth <= pane.clientWidth")


@pytest.fixture(scope="module")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs whose names are as long as those of real checkpoints."""
    folder = tmp_path_factory.mktemp("long")
    data = write_data(folder / "data", [{"question_id": "one", "text": "Why?", "answer": "so"}])
    names = [f"checkpoints-stage2-bfloat16-lora-r128-v{number}" for number in range(4)]
    for name in names:
        write_run(folder / "results" / name, data, [Reply("so")])
    return write_report(folder, f"runs=[{','.join(names)}]")


@pytest.mark.parametrize("width", [390, 800, 1101, 1300, 1360])
def test_long_names_of_runs_leave_room_for_the_rest(
    width: int, long_page: Path, new_page: NewPage
) -> None:
    page = new_page(viewport={"width": width, "height": 800})
    open_page(page, long_page, "#questions")
    page.locator("#row-0").click()
    assert page.locator(".card").count() == 4
    sticks_out = "all => all.filter(each => each.scrollWidth > each.clientWidth).length"
    for box in (".card", "#detail", "#filter-panel"):
        assert page.locator(box).evaluate_all(sticks_out) == 0, box
    tabs = "all => all.map(each => each.getClientRects().length + each.offsetHeight)"
    assert max(page.locator(".bar nav a").evaluate_all(tabs)) < 40  # one line each


def test_question_covers_the_list_on_a_phone_and_gives_it_back(
    pair_page: Path, new_page: NewPage
) -> None:
    page = new_page(viewport={"width": 390, "height": 844})
    open_page(page, pair_page, "#questions")
    assert not page.locator("#detail").is_visible()
    page.locator("#row-1").click()
    assert (page.locator("#detail").bounding_box() or {})["width"] == 390
    page.get_by_text("‹ List").click()
    assert not page.locator("#detail").is_visible()
    assert page.locator("#row-1").is_visible()


def brightness(page: Page) -> float:
    color: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(float(part) for part in color[4:-1].split(",")) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_until_switched(
    scheme: Any, pair_page: Path, new_page: NewPage
) -> None:
    page = new_page(color_scheme=scheme)
    open_page(page, pair_page)
    assert (brightness(page) > 128) == (scheme == "light")
    page.locator("#theme").click()
    assert (brightness(page) > 128) == (scheme == "dark")


def test_pictures_beside_the_page_are_shown(
    pair_page: Path, new_page: NewPage, tmp_path: Path
) -> None:
    folder = pair_page.parent
    (tmp_path / "results").symlink_to(folder / "results")
    page = new_page()
    open_page(page, write_report(tmp_path, "runs=[A,B]", "max_mb=0"), "#question/custom/lost")
    picture = page.locator("#detail figure img")
    assert "page-images/" in str(picture.get_attribute("src"))
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 160


@pytest.fixture(scope="module")
def four_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs; the third was asked one question only, and pictures are larger than thumbnails."""
    folder = tmp_path_factory.mktemp("four")
    records = [
        {"question_id": name, "text": f"Why {name}?", "answer": name, "image": "0.jpg"}
        for name in ("first", 'second, "quoted"', "=third")
    ]
    data = write_data(folder / "data", records)
    write_picture(data.images / "0.jpg", 0, (900, 600))
    first, second, third = (str(record["answer"]) for record in records)
    answers = {
        "A": [first, "no", third],
        "B": [first, second, third],
        "C": [first, None, None],
        "D": ["-1", second, "@x"],
    }
    for name, texts in answers.items():
        replies = [None if text is None else Reply(text) for text in texts]
        write_run(folder / "results" / name, data, replies)
    return write_report(folder, "runs=[A,B,C,D]")


def test_every_run_is_held_against_the_first(four_page: Path, new_page: NewPage) -> None:
    page = new_page()
    open_page(page, four_page)
    lines = page.locator("section:has(h2:text-is('Against A')) tbody tr").all_inner_texts()
    assert [line.split()[1:3] for line in lines] == [["B", "B"], ["C", "C"], ["D", "D"]]
    assert ["+33.33" in lines[0], "0.00" in lines[1]] == [True, True]
    page.get_by_role("button", name="2", exact=True).last.click()  # worse than A, of run D
    assert len(ids_shown(page)) == 2
    page.get_by_text("Clear all filters").click()
    page.locator("#filters fieldset:has-text('From A to B') input[value=better]").click()
    assert ids_shown(page) == ['second, "quoted"']
    assert page.locator("#detail .card").count() == 4


def saved(page: Page, kind: str) -> str:
    with page.expect_download() as download:
        page.locator(f"#save-{kind}").click()
    assert download.value.suggested_filename == f"questions.{kind}"
    return Path(download.value.path()).read_text()


def test_filtered_questions_are_saved(four_page: Path, new_page: NewPage) -> None:
    page = new_page()
    open_page(page, four_page, "#questions")
    page.get_by_label("Order").select_option("length")
    page.locator("#filters fieldset:has-text('From A to D') input[value=worse]").click()
    lines = [json.loads(line) for line in saved(page, "jsonl").splitlines()]
    assert [line["question_id"] for line in lines] == ["=third", "first"]
    assert [answer["run"] for answer in lines[0]["answers"]] == ["A", "B", "D"]
    assert lines[0]["answers"][2]["answer"] == "@x"
    assert lines[0]["targets"] == [{"text": "=third", "count": 1}]
    rows = list(csv.DictReader(io.StringIO(saved(page, "csv"))))
    assert [row["question_id"] for row in rows] == ["'=third", "first"]
    assert [rows[1][f"{run} answer"] for run in "ABCD"] == ["first", "first", "first", "'-1"]
    assert (rows[1]["A score"], rows[1]["D outcome"], rows[0]["C outcome"]) == ("1", "wrong", "")
    page.get_by_text("Clear all filters").click()
    rows = list(csv.DictReader(io.StringIO(saved(page, "csv"))))
    assert {row["targets"] for row in rows} == {"first", 'second, "quoted"', "'=third"}


def natural_width(page: Page) -> int:
    wait_until(page, "document.querySelector('#zoom-box img')?.naturalWidth > 0")
    return int(page.evaluate("document.querySelector('#zoom-box img').naturalWidth"))


def shown_width(page: Page) -> float:
    return float((page.locator("#zoom-box img").bounding_box() or {})["width"])


@pytest.mark.parametrize("options", [[], ["full_images=page"]])
def test_image_is_looked_at_in_full(options: list[str], four_page: Path, new_page: NewPage) -> None:
    path = write_report(four_page.parent, "runs=A", *options)
    page = new_page(viewport={"width": 700, "height": 500})
    seen = watch(page)
    open_page(page, path, "#question/custom/first")
    page.keyboard.press("Enter")
    page.keyboard.press("z")
    assert natural_width(page) == 900
    fitted = shown_width(page)
    assert 300 < fitted < 700
    page.keyboard.press("+")
    assert shown_width(page) == pytest.approx(1.25 * fitted, abs=2)
    page.locator("#zoom-box img").click()  # back to the fitted size
    assert shown_width(page) == pytest.approx(fitted, abs=2)
    page.locator("#zoom-box img").click()
    assert shown_width(page) == 900
    page.keyboard.press("Escape")
    assert not page.locator("#zoom").is_visible()
    assert any("/data/images/0.jpg" in url for url in seen["requests"]) == (not options)
    assert seen["console"] == seen["errors"] == []


def test_small_image_stands_in_where_the_full_one_is_gone(
    four_page: Path, new_page: NewPage, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.html"
    moved.write_bytes(write_report(four_page.parent, "runs=A").read_bytes())
    page = new_page()
    open_page(page, moved, "#question/custom/first")
    page.keyboard.press("z")
    assert natural_width(page) == 160
    assert "this is the small one" in page.locator("#zoom-note").inner_text()


def test_skip_link_leads_to_what_is_shown(pair_page: Path, new_page: NewPage) -> None:
    page = new_page()
    for address, expected in (("#summary", "summary-view"), ("#questions", "list")):
        open_page(page, pair_page, address)
        page.locator("#skip").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == expected
        assert page.locator(f"#{expected}").is_visible()


def test_every_head_of_a_table_says_something(pair_page: Path, new_page: NewPage) -> None:
    page = new_page()
    open_page(page, pair_page)
    assert all(text.strip() for text in page.locator("th").all_text_contents())


@pytest.mark.parametrize("width", [390, 1360])
def test_table_says_that_it_scrolls_where_it_does(
    width: int, four_page: Path, new_page: NewPage
) -> None:
    page = new_page(viewport={"width": width, "height": 800})
    open_page(page, four_page)
    page.wait_for_timeout(100)
    boxes = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map((box) => [box.scrollWidth > "
        "box.clientWidth + 1, !box.previousElementSibling.hidden, box.tabIndex === 0])"
    )
    assert all(len(set(box)) == 1 for box in boxes)
    assert boxes[0] == [width == 390] * 3
