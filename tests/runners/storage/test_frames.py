"""`runners.read`: stored runs as data frames, with no figure that is not one of its answers."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import runners
from runners.errors import ConfigError
from runners.storage.run_table import write_tables
from tests.browser.synthetic_runs import Reply, write_data, write_run
from tests.runners.conftest import CHECKOUT
from tests.runners.synthetic_runs import scores_of_mean, write_task


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for run, mean in (("A", 0.5), ("B", 0.75)):
        write_task(tmp_path / run, "gqa", scores_of_mean(mean, 8))
    part = {"limited": True, "environment": {"runner": {"shard": "2/4"}}}
    write_task(tmp_path / "B", "pope", scores_of_mean(0.25, 4), num_failed={"error": 1}, **part)
    return tmp_path


def test_a_row_a_task_and_a_row_a_question(results: Path) -> None:
    runs, samples = runners.read(results)
    assert list(runs.run) == ["A", "B", "B"]
    assert list(runs.task) == ["gqa", "gqa", "pope"]
    assert list(runs.score) == [0.5, 0.75, 0.25]
    assert list(runs["metrics.accuracy"])[:2] == [0.5, 0.75]
    assert list(runs.num_failed) == [0, 0, 1]
    assert runs["failures.error"][2] == 1
    assert (runs.interval_low < runs.score)[0]
    assert list(runs.limited) == [False, False, True]
    assert list(runs.shard.fillna("")) == ["", "", "2/4"]
    assert len(samples) == 20
    means = samples.groupby(["run", "task"]).score.mean()
    assert list(means) == list(runs.score)
    assert samples.prompt[0] == "Question 0?"


def test_some_runs_and_tasks_may_be_named(results: Path) -> None:
    runs, samples = runners.read(results, runs="B", tasks=["pope"])
    assert list(zip(runs.run, runs.task, strict=True)) == [("B", "pope")]
    assert len(samples) == 4
    with pytest.raises(ConfigError, match="`runs`"):
        runners.read(results, runs=["C"])
    with pytest.raises(ConfigError, match=r"`tasks` names 'mme'.*gqa, pope"):
        runners.read(results, tasks="mme")
    with pytest.raises(ConfigError, match="`results_dir`"):
        runners.read(results / "none")


def test_folder_without_runs_gives_the_columns(tmp_path: Path) -> None:
    runs, samples = runners.read(tmp_path)
    assert runs.empty
    assert {"run", "task", "score"} <= set(runs.columns) & set(samples.columns)


def test_figures_of_other_answers_are_left_out(
    results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edited, broken = results / "A/gqa/scores.jsonl", results / "B/pope/summary.json"
    summary = json.loads((results / "A/gqa/summary.json").read_text())
    summary["hashes"]["scores"] = "0" * 64
    (results / "A/gqa/summary.json").write_text(json.dumps(summary))
    assert edited.exists()
    broken.write_text("{")
    (results / "C/gqa").mkdir(parents=True)
    answers = (results / "B/gqa/predictions.jsonl").read_text().splitlines()
    (results / "C/gqa/predictions.jsonl").write_text(answers[0] + "\n")
    for name in ("manifest.json", "trace.jsonl"):
        (results / "C/gqa" / name).write_bytes((results / "B/gqa" / name).read_bytes())
    with caplog.at_level(logging.WARNING):
        runs, samples = runners.read(results)
    by_name = runs.set_index(["run", "task"])
    assert dict(by_name.state) == {
        ("A", "gqa"): "edited",
        ("B", "gqa"): "finished",
        ("B", "pope"): "unreadable",
        ("C", "gqa"): "unfinished",
    }
    assert by_name.score.notna().sum() == 1
    counts = samples.groupby("run").score.agg(["size", "count"])
    assert dict(counts["size"]) == {"A": 8, "B": 8, "C": 1}
    assert dict(counts["count"]) == {"A": 0, "B": 8, "C": 0}
    assert "edited" in caplog.text
    assert "unreadable" in caplog.text


def test_file_that_is_gone_costs_its_own_figures_only(
    results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (results / "A/gqa/scores.jsonl").unlink()
    (results / "B/pope/trace.jsonl").unlink()
    runs, samples = runners.read(results)
    assert list(runs.score) == [0.5, 0.75, 0.25]  # each is that of its answers
    assert list(samples.groupby("run").size()) == [8, 8]
    assert samples[samples.run == "A"].score.isna().all()
    assert samples[samples.run == "B"].score.notna().all()
    assert list(samples[samples.run == "B"].task.unique()) == ["gqa"]
    assert f"{results}/A/gqa/scores.jsonl does not exist" in caplog.text
    assert f"4 answers in {results}/B/pope/predictions.jsonl are not as they were" in caplog.text
    assert len(caplog.records) == 2
    (results / "B/gqa/predictions.jsonl").unlink()
    assert len(runners.read(results, runs="B", tasks="gqa").samples) == 0
    assert f"{results}/B/gqa/predictions.jsonl is not there" in caplog.text


def test_failures_have_their_cause(tmp_path: Path) -> None:
    records = [{"question_id": n, "text": f"What is {n}?", "answer": "yes"} for n in range(3)]
    data = write_data(tmp_path / "data", records)
    replies = [Reply("yes"), Reply(cause="image_missing"), Reply("no")]
    write_run(tmp_path / "results" / "A", data, replies)
    samples = runners.read(tmp_path / "results").samples
    assert [None if pd.isna(cause) else cause for cause in samples.cause] == [
        None,
        "image_missing",
        None,
    ]


def test_half_a_character_is_escaped(tmp_path: Path) -> None:
    record = {"question_id": 0, "text": "What is \ud800?", "answer": "\udc00"}
    data = write_data(tmp_path / "data", [record])
    write_run(tmp_path / "results" / "A", data, [Reply("yes\ud83d")])
    samples = runners.read(tmp_path / "results").samples
    assert (samples.text[0], samples.answer[0]) == ("yes\\ud83d", "yes\\ud83d")
    assert r"What is \ud800?" in samples.prompt[0]


def test_run_is_told_in_one_file(results: Path) -> None:
    write_tables(results / "B")
    content = json.loads((results / "B/run.json").read_text())
    assert content["run"] == "B"
    [gqa, pope] = content["tasks"]
    assert (gqa["score"], gqa["metrics"]) == (0.75, {"accuracy": 0.75})
    assert (pope["num_failed"], pope["failures"]) == (1, {"error": 1})
    table = pd.read_csv(results / "B/summary.csv").set_index("task")
    assert table.interval_low["gqa"] == gqa["interval_low"] < 0.75
    assert table.failures["pope"] == "error=1"
    assert list(runners.read(results).runs.run.unique()) == ["A", "B"]


def test_reading_imports_neither_torch_nor_hydra(results: Path) -> None:
    code = (
        f"import sys, runners; runners.read({str(results)!r}); "
        "print([name for name in ('torch', 'hydra', 'transformers') if name in sys.modules])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "[]"
