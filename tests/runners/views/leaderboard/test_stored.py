"""Folders as they lie below the results: runs, unfinished, odd and foreign ones."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from runners.evaluation.rerun import repeatable_options
from runners.options.eval import EvalConfig
from runners.options.leaderboard import LeaderboardConfig
from runners.options.model import ModelConfig
from runners.views.leaderboard.building import build_leaderboard
from runners.views.leaderboard.page import render_page
from runners.views.leaderboard.text import render_csv, render_latex, render_markdown
from tests.runners.synthetic_runs import write_task
from tests.runners.views.leaderboard.conftest import Build

OPTIONS = asdict(
    repeatable_options(EvalConfig(model=ModelConfig(path="owner/model", name="model")))
)
RENDERERS = (render_csv, render_markdown, render_latex, partial(render_page, folder=Path()))
JUNK = (None, [], {}, "x", -1, 1e300, float("inf"), True, [[]], {"model": [], "name": {}})


def test_run_without_summary_is_listed_as_not_finished(results: Path, build: Build) -> None:
    (results / "half/gqa").mkdir(parents=True)
    (results / "half/gqa/predictions.jsonl").write_text("{}\n{}\n{}")
    (results / "torn/gqa").mkdir(parents=True)
    (results / "torn/gqa/summary.json").write_text('{"task": ')
    (results / "foreign/gqa").mkdir(parents=True)
    (results / "foreign/gqa/summary.json").write_text('{"task": "gqa"}')
    built = build()
    assert built.code == 0
    unfinished = built.stdout.partition("## Not finished")[2]
    assert "- half, gqa: not finished, 2 answers are stored\n" in unfinished
    assert "torn/gqa/summary.json is no summary" in unfinished
    assert "foreign/gqa/summary.json is no summary: \\`split\\`" in unfinished
    assert "half" in built.text("html")
    assert "half" in built.text("tex")


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    "change",
    [
        {"coverage": float("nan")},
        {"metrics": {"accuracy": "0.5"}},
        {"metrics": {"accuracy": True}},
        {"interval": [0.1]},
        {"num_questions": "12"},
        {"task": None},
    ],
)
def test_malformed_summary_is_no_row(
    change: dict[str, object], results: Path, build: Build
) -> None:
    path = results / "llava-v1.5-7b/gqa/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    built = build()
    assert "llava-v1.5-7b/gqa/summary.json is no summary" in built.stdout
    assert [r["name"] for r in built.records() if r["kind"] == "run"] == ["demo"]


def test_folders_that_are_no_runs_are_passed_over(results: Path, build: Build) -> None:
    expected = build().text("csv")
    write_task(results / "old" / "x", "gqa", [1.0, 0.0])
    (results / "old/x/gqa").rename(results / "old/gqa.old-1")
    (results / "old/x").rmdir()
    write_task(results / "demo.old-1", "gqa", [1.0, 0.0])
    write_task(results / ".hidden", "gqa", [1.0, 0.0])
    (results / "published").mkdir()
    (results / "bench").mkdir()
    (results / "bench/cpu.json").write_text("{}")
    (results / "empty/folder").mkdir(parents=True)
    built = build()
    assert built.text("csv") == expected
    assert "Not finished" not in built.stdout


@pytest.mark.slow
@pytest.mark.parametrize("file", ["summary.json", "manifest.json"])
def test_odd_files_are_a_row_or_a_remark_and_never_a_crash(file: str, tmp_path: Path) -> None:
    folder = write_task(
        tmp_path / "results/odd-run",
        "mmvet",
        [1.0, 0.0],
        judge={"model": "gpt-4-0613"},
        environment={"options": OPTIONS, "runner": {"shard": None}},
    )
    path = folder / file
    whole = json.loads(path.read_text())
    places = [(name,) for name in whole]
    places += [
        (name, inner) for name in whole if isinstance(whole[name], dict) for inner in whole[name]
    ]
    settings = LeaderboardConfig(results_dir=str(tmp_path / "results"))
    for place in places:
        for junk in JUNK:
            content = copy.deepcopy(whole)
            within = content if len(place) == 1 else content[place[0]]
            within[place[-1]] = junk
            path.write_text(json.dumps(content))
            board = build_leaderboard(settings, None)
            csv_text, *texts = (render(board) for render in RENDERERS)
            assert all("odd-run" in text for text in texts), (place, junk)
            assert ("odd-run" in csv_text) == bool(board.sections)
            assert board.sections or board.unfinished
