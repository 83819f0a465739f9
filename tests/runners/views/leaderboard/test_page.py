"""The page: one file, complete in itself, whose legend says what it shows and no more."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from runners.options import program
from runners.report import report
from tests.browser.synthetic_runs import Reply, write_data, write_run
from tests.runners.synthetic_runs import scores_of_mean, write_task
from tests.runners.views.leaderboard.conftest import Build


def legend(html: str) -> str:
    found = re.search("<h1>Leaderboard</h1>\n<p>(.*?)</p>\n<h2", html, re.DOTALL)
    return "" if found is None else found[1]


def test_page_needs_nothing_beside_itself(results: Path, build: Build) -> None:
    html = build().text("html")
    assert re.findall(r"(?:src|href)=\"(?!#|data:,\")", html) == []
    assert "url(" not in html
    assert "@import" not in html
    assert html.count("<main>") == html.count("</main>") == html.count("<script") == 1


def test_policy_names_this_script_and_this_style(results: Path, build: Build) -> None:
    html = build().text("html")
    [policy] = re.findall('Content-Security-Policy" content="(.*?)"', html)
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        [content] = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{rule} &#x27;sha256-{digest}&#x27;" in policy
    assert policy.startswith("default-src &#x27;none&#x27;")


@pytest.mark.parametrize(
    ("options", "told", "untold"),
    [
        ([], ["interval", "Δ", "italics", "bold"], ["letter", "date"]),
        (["best=none"], ["interval", "Δ", "italics"], ["bold"]),
        (["published=none"], ["interval", "bold"], ["Δ", "italics", "published"]),
    ],
)
def test_legend_tells_of_what_the_page_shows(
    options: list[str], told: list[str], untold: list[str], results: Path, build: Build
) -> None:
    said = legend(build(*options).text("html"))
    assert [word for word in told if word not in said] == []
    assert [word for word in untold if word in said] == []


def test_page_without_figures_has_no_legend(tmp_path: Path, build: Build) -> None:
    (tmp_path / "results").mkdir()
    assert legend(build("published=none").text("html")) == ""


def test_no_file_speaks_of_published_figures_where_none_are_shown(
    results: Path, build: Build
) -> None:
    built = build("published=none")
    for suffix in ("md", "tex", "html"):
        text = re.sub("<style.*?</style>", "", built.text(suffix), flags=re.DOTALL)
        assert "ublished" not in text.replace("no published benchmark", ""), suffix
    assert "Published" in build().text("md")
    assert "differences to the published figures" in build().text("tex")


def test_date_of_the_last_session_stands_below_the_name(tmp_path: Path, build: Build) -> None:
    folder = write_task(tmp_path / "results/mine", "gqa", scores_of_mean(0.5, 10))
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text())
    content["history"] = [{"started": f"2026-0{month}-03T04:05:06Z"} for month in (1, 2)]
    manifest.write_text(json.dumps(content))
    html = build().text("html")
    assert '<time datetime="2026-02-03">2026-02-03</time>' in html
    assert "date" in legend(html)


def test_run_leads_to_its_report(tmp_path: Path, build: Build) -> None:
    data = write_data(tmp_path / "data", [{"question_id": 1, "text": "Why?", "answer": "a"}])
    for name in ("a b#1", "other"):
        write_run(tmp_path / "results" / name, data, [Reply("a")])
    options = [f"results_dir={tmp_path / 'results'}", "runs=a b#1"]
    assert program.run("report", report, options) == 0
    (tmp_path / "results/other/report.html").write_text("<p>my own</p>")
    html = build().text("html")
    assert '<a href="../results/a%20b%231/report.html">a b#1</a>' in html
    assert "other/report.html" not in html


def test_every_figure_says_its_value_to_be_sorted_by(tmp_path: Path, build: Build) -> None:
    write_task(tmp_path / "results/mine", "gqa", scores_of_mean(0.5, 10), limited=True)
    html = build("published=none").text("html")
    assert '<td data-value="0.5" data-marked>' in html
