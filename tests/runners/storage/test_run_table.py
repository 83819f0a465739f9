from __future__ import annotations

import csv
import json
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from filelock import FileLock

from runners.errors import StoreError
from runners.storage import run_table
from runners.storage.files import sha256_of_file
from runners.storage.run_table import write_tables
from runners.storage.summary import SummaryFile
from tests.runners.synthetic_runs import write_task

POINTS = {"accuracy": {"unit": "points", "largest": 2000.0}}


def render_summaries(summaries: list[dict[str, Any]]) -> str:
    return run_table.render_summaries([SummaryFile.from_json(content) for content in summaries])


def summary(**changes: Any) -> dict[str, Any]:
    return {
        "task": "gqa",
        "definition": "exact/1",
        "split": "demo",
        "primary_metric": "accuracy",
        "metrics": {"accuracy": 0.75, "consistency": None, "distribution": 0.03},
        "interval": [0.7, 0.8],
        "num_questions": 1200,
        "num_answered": 1200,
        "coverage": 1.0,
        "num_failed": {},
        "num_unparsed": 0,
    } | changes


def test_complete_task_is_one_row_with_percentages() -> None:
    shown = render_summaries([summary()])
    assert "75.00" in shown
    assert "70.00 to 80.00" in shown
    assert "1,200 / 1,200" in shown
    assert "*" not in shown


def test_incomplete_task_is_marked_with_its_causes() -> None:
    shown = render_summaries(
        [summary(num_answered=900, coverage=0.75, num_failed={"image_missing": 300})]
    )
    assert "75.00 *" in shown
    assert "* gqa: 75.0% of the questions were answered" in shown
    assert "image_missing 300" in shown


def test_further_metrics_stand_below_without_those_that_are_null() -> None:
    shown = render_summaries([summary()])
    assert "gqa: distribution 0.0300" in shown
    assert "consistency" not in shown


def test_line_of_metrics_is_broken_between_them_and_no_narrower_than_it_must_be() -> None:
    metrics = {"accuracy": 0.75, **{f"type {n}": 0.5 for n in range(9)}}
    content = summary(metrics=metrics, num_answered=900, coverage=0.75)
    shown = run_table.render_summaries([SummaryFile.from_json(content)], 60).splitlines()
    below = shown[shown.index("") + 1 :]
    assert below == [
        "gqa: type 0 50.00, type 1 50.00, type 2 50.00, type 3 50.00,",
        "  type 4 50.00, type 5 50.00, type 6 50.00, type 7 50.00,",
        "  type 8 50.00",
        "* gqa: 75.0% of the questions were answered, the others",
        "  count as wrong (no answer).",
    ]
    assert render_summaries([content]).splitlines()[3].count("type") == 9


def test_points_are_shown_as_points() -> None:
    mme = summary(metrics={"accuracy": 1531.3}, interval=[1507.25, 1555.35], scales=POINTS)
    shown = render_summaries([mme])
    assert "1531.30" in shown
    assert "1507.25 to 1555.35" in shown


@pytest.mark.parametrize(
    ("value", "interval", "scales", "score", "ends"),
    [
        (0.97, [0.92, 1.02], {}, "97.00", "92.00 to 102.00"),
        (1.05, [0.9, 1.2], {}, "105.00", "90.00 to 120.00"),
        (1.05, [0.9, 1.2], POINTS, "1.05", "0.90 to 1.20"),
        (0.5, [0.0, 7.4], POINTS, "0.50", "0.00 to 7.40"),
    ],
)
def test_the_scale_and_no_value_decides_the_unit(
    value: float, interval: list[float], scales: dict[str, Any], score: str, ends: str
) -> None:
    shown = render_summaries(
        [summary(metrics={"accuracy": value}, interval=interval, scales=scales)]
    )
    assert score in shown.split()
    assert ends in shown


def test_unparsed_answers_are_told() -> None:
    said = render_summaries([summary(num_unparsed=3)])
    assert said.endswith("gqa: nothing could be read from 3 answers.")
    said = render_summaries([summary(num_unparsed=3, judge=None)])
    assert said.endswith(
        "nothing could be read from 3 answers, or from what the judge says about them."
    )


def test_split_without_annotations_has_no_score() -> None:
    shown = render_summaries([summary(metrics={}, interval=None)])
    assert shown.splitlines()[1].split()[:4] == ["gqa", "demo", "none", "-"]


def test_tables_on_disk_hold_all_tasks_of_the_run(tmp_path: Path) -> None:
    for name in ("gqa", "vqav2", "gqa.old-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(summary(task=name)))
    (tmp_path / "unfinished").mkdir()
    write_tables(tmp_path)
    with (tmp_path / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["task"] for row in rows} == {"gqa", "vqav2"}
    assert [row["value"] for row in rows[:3]] == ["0.75", "", "0.03"]
    markdown = (tmp_path / "summary.md").read_text()
    assert "| gqa | demo | accuracy | 75.00 | 70.00 to 80.00 | 1,200 / 1,200 | 0 |" in markdown
    assert "| gqa | demo | consistency | - |" in markdown


def test_figures_that_are_not_those_of_the_answers_are_in_no_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("gqa", "pope", "mme", "vizwiz"):
        write_task(tmp_path, name, [1.0, 0.0])
    scores = tmp_path / "pope/scores.jsonl"
    content = json.loads((tmp_path / "pope/summary.json").read_text())
    content["hashes"]["scores"] = sha256_of_file(scores)
    (tmp_path / "pope/summary.json").write_text(json.dumps(content))
    scores.write_text(scores.read_text().replace("0.0", "1.0"))
    (tmp_path / "mme/summary.json").write_text("{")
    (tmp_path / "vizwiz/summary.json").unlink()
    write_tables(tmp_path)
    with (tmp_path / "summary.csv").open(newline="") as file:
        assert {row["task"] for row in csv.DictReader(file)} == {"gqa"}
    markdown = (tmp_path / "summary.md").read_text()
    assert markdown.count("| gqa |") == 2
    for name in ("pope", "mme", "vizwiz"):
        assert f"| {name} |" not in markdown
    assert "\npope is edited: its figures are not those of its answers" in markdown
    assert "\nmme is unreadable: " in markdown
    assert "\nvizwiz is unfinished: it has no figures yet.\n" in markdown
    states = {
        row["task"]: row["state"]
        for row in json.loads((tmp_path / "run.json").read_text())["tasks"]
    }
    assert states == {
        "gqa": "finished",
        "pope": "edited",
        "mme": "unreadable",
        "vizwiz": "unfinished",
    }
    assert caplog.text.count("pope is edited") == 1
    assert "vizwiz" not in caplog.text


def test_part_of_a_split_is_told_in_every_table(tmp_path: Path) -> None:
    write_task(tmp_path, "gqa", [1.0, 0.0])
    write_task(tmp_path, "mme", [1.0, 0.0], limited=True, limit=2)
    shard = {"runner": {"shard": "1/3"}}
    write_task(tmp_path, "pope", [1.0, 0.0], limited=True, limit=None, environment=shard)
    write_tables(tmp_path)
    with (tmp_path / "summary.csv").open(newline="") as file:
        told = {
            row["task"]: (row["limited"], row["limit"], row["shard"])
            for row in csv.DictReader(file)
        }
    assert told == {"gqa": ("False", "", ""), "mme": ("True", "2", ""), "pope": ("True", "", "1/3")}
    rows = json.loads((tmp_path / "run.json").read_text())["tasks"]
    told = {row["task"]: (row["limited"], row["limit"], row["shard"]) for row in rows}
    assert told == {"gqa": (False, None, None), "mme": (True, 2, None), "pope": (True, None, "1/3")}
    markdown = (tmp_path / "summary.md").read_text()
    for name in ("mme", "pope"):
        assert f"\n* {name}: only 2 questions of the split were asked.\n" in markdown
    assert [line.count(" * |") for line in markdown.splitlines()[4:7]] == [0, 1, 1]


def test_tables_wait_for_another_program_and_have_its_tasks(tmp_path: Path) -> None:
    write_task(tmp_path, "gqa", [1.0, 0.0])
    writing = Thread(target=write_tables, args=(tmp_path,))
    with FileLock(tmp_path / ".run.json.lock"):
        writing.start()
        writing.join(0.2)
        assert not (tmp_path / "run.json").exists()
        write_task(tmp_path, "pope", [1.0, 0.0])
    writing.join()
    rows = json.loads((tmp_path / "run.json").read_text())["tasks"]
    assert [row["task"] for row in rows] == ["gqa", "pope"]


def test_program_that_keeps_the_tables_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_table, "_WAIT_S", 0.1)
    write_task(tmp_path, "gqa", [1.0, 0.0])
    with (
        FileLock(tmp_path / ".run.json.lock"),
        pytest.raises(StoreError, match=r"\.run\.json\.lock"),
    ):
        write_tables(tmp_path)
    assert not (tmp_path / "run.json").exists()


def test_figures_by_few_groups_stand_below() -> None:
    many = {str(n): {"accuracy": 0.5} for n in range(9)}
    few = {"a": {"accuracy": 0.5, "num_questions": 2}, "b": {"accuracy": 1.0}}
    breakdowns = {"kind": few, "size": many}
    shown = render_summaries([summary(breakdowns=breakdowns, metrics={"accuracy": 0.75})])
    assert "gqa by kind: a 50.00, b 100.00" in shown
    assert "by size" not in shown
    assert " by " not in render_summaries([summary(breakdowns=breakdowns)])  # metrics tell enough
