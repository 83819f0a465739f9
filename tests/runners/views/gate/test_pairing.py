"""Which runs and tasks can be compared, and what has to be said about the pair."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runners.storage.files import sha256_of_file, sha256_of_json
from tests.evals.small_data import put_lines
from tests.runners.conftest import read_lines
from tests.runners.gated_runs import right, store
from tests.runners.synthetic_runs import write_task
from tests.runners.views.gate.conftest import gate, verdict


def test_limited_run_is_compared_on_its_questions(capsys: pytest.CaptureFixture[str]) -> None:
    store("old", "gqa", right(300))
    store("new", "gqa", right(100, 20), limited=True)
    assert gate() == 1
    (task,) = verdict()["tasks"]
    assert (task["baseline"], task["candidate"], task["lost"]) == (1.0, 0.8, 20)
    assert "compared on the 100 questions that both runs were asked" in capsys.readouterr().out


def test_tasks_of_one_run_alone_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    store("old", "gqa", right(30))
    store("old", "pope", right(30))
    store("new", "gqa", right(30))
    assert gate() == 0
    assert "pope is not compared: there are no answers to it in results/new" in (
        capsys.readouterr().out
    )
    assert gate("task=[gqa,pope]") == 2
    assert "pope is not compared" in capsys.readouterr().err


def test_own_questions_are_named_as_they_are_called(capsys: pytest.CaptureFixture[str]) -> None:
    for run in ("old", "new"):
        store(run, "mine", right(30))
        store(run, "gqa", right(30))
    assert gate("task=custom", "tasks.custom.name=mine") == 0
    assert [task["task"] for task in verdict()["tasks"]] == ["mine"]


def test_what_the_figures_do_not_say_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"metrics": {"f1": 0.7}, "primary_metric": "f1"}
    store("old", "pope", right(40), **metrics, identity={"conversation": "vicuna_v1"})
    store(
        "new",
        "pope",
        right(40),
        **metrics,
        num_answered=30,
        identity={"conversation": "llava_v1"},
    )
    assert gate() == 0
    page = Path("results/new/regress-old/verdict.md").read_text()
    for said in (capsys.readouterr().out, page):
        assert "the candidate answered 30 of 40 questions" in said
        assert "conversation (vicuna_v1, llava_v1)" in said
        assert "mean score of the questions, not its f1, which is 70.00" in said


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hashes": {"prompts": "q"}}, "put in other words"),
        ({"hashes": {"data": "e"}}, r"data differ \(questions.json; split test and test\)"),
        (
            {"hashes": {"scorer": "t"}, "definition": "exact/2"},
            r"other definitions \(exact/1 and exact/2\)",
        ),
        ({"metrics": {}}, r"only the baseline has scores \(exact/1\). Score the other"),
        ({"judge": {"model": "gpt"}}, r"other definitions \(exact/1 and exact/1 by gpt\)"),
    ],
)
def test_runs_that_differ_in_more_than_answers_are_refused(
    changes: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store("old", "gqa", right(30))
    store("new", "gqa", right(30), **changes)
    assert gate() == 2
    error = capsys.readouterr().err
    assert error.startswith("results/new cannot be compared with results/old.")
    assert re.search(reason, error)
    assert not Path("results/new/regress-old").exists()


def test_judge_that_was_asked_in_another_way_is_told_by_what_differs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for run, num_runs, url in (("old", 1, "http://a/v1"), ("new", 5, "http://b/v1")):
        judge = {"model": "gpt-4", "num_runs": num_runs, "base_url": url}
        store(run, "mmvet", right(30), judge=judge)
    assert gate() == 2
    said = capsys.readouterr().err
    assert "`judge.num_runs` is 1 in the baseline and 5 in the candidate" in said
    assert "`judge.base_url` is 'http://a/v1' in the baseline and 'http://b/v1' in" in said


def test_run_that_no_judge_has_scored_yet_is_said_to_have_no_scores(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store("old", "mmvet", right(30), judge={"model": "gpt-4", "num_runs": 1})
    store("new", "mmvet", right(30), metrics={})
    assert gate() == 2
    said = capsys.readouterr().err
    assert "only the baseline has scores (exact/1 by gpt-4)." in said
    assert "other definitions" not in said


def test_all_reasons_come_in_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    for task in ("gqa", "pope"):
        store("old", task, right(30))
        store("new", task, right(30), hashes={"prompts": "q", "scorer": task})
    assert gate("task=[gqa,pope,mme]") == 2
    error = capsys.readouterr().err
    assert error.count("other words") == error.count("other definitions") == 2
    assert "mme is not compared" in error


def test_other_images_for_the_same_questions_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store("old", "gqa", right(30))
    store("new", "gqa", right(30), questions_per_image=3)
    assert gate() == 2
    assert "about other images" in capsys.readouterr().err


def test_another_engine_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    store("old", "gqa", right(40), identity={"engine": {"replay": "near_ties"}})
    store("new", "gqa", right(40), identity={"engine": {"replay": "off"}})
    assert gate() == 0
    assert "the runs differ in engine.replay (near_ties, off)." in capsys.readouterr().out


def put_traces(run: str, images: Sequence[Sequence[str]], **fields: Any) -> None:
    traces = [
        {"key": str(n), "attempts": 1, "image_sha256": [*of_one], "image_stat": [], **fields}
        for n, of_one in enumerate(images)
    ]
    put_lines(Path("results", run, "gqa", "trace.jsonl"), traces)


def test_runs_about_other_pictures_get_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    for run in ("old", "new"):
        store(run, "gqa", right(30))
    put_traces("old", [["a"]] * 28 + [[], []])
    put_traces("new", [["a"]] * 20 + [["b"]] * 5 + [["a", "a"]] * 2 + [[], ["a"], []])
    assert gate() == 2
    error = capsys.readouterr().err
    assert "7 of the 30 questions that both runs were asked, such as '20', have other" in error
    assert "Pillow" not in error
    assert not Path("results/new/regress-old").exists()


def test_the_same_pictures_read_in_another_way_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for run, version in (("old", "10.1"), ("new", "13.0")):
        folder = store(run, "gqa", right(30))
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["environment"]["versions"] = {"pillow": version}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        put_traces(run, [[run]] * 30)
    assert gate() == 2
    assert "(read by Pillow 10.1 and 13.0)" in capsys.readouterr().err


def test_pictures_are_compared_on_the_questions_of_both(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store("old", "gqa", right(300))
    store("new", "gqa", right(100), limited=True)
    put_traces("old", [["a"]] * 100 + [["b"]] * 200)
    put_traces("new", [["a"]] * 100, worker="ray-1")
    assert gate() == 0
    assert "about which images" not in capsys.readouterr().out


def test_pictures_that_are_not_known_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for run in ("old", "new"):
        store(run, "gqa", right(30))
    put_traces("new", [["a"]] * 28)
    assert gate() == 0
    told = capsys.readouterr().out
    for name, number in (("baseline", 30), ("candidate", 2)):
        asked = f"which images the {name} was asked {number} of the 30 questions."
        assert f"it is not known about {asked}" in told


def test_replies_of_one_judge_are_no_other_definition() -> None:
    for run in ("old", "new"):
        judge = {"model": "gpt", "prompt_sha256": "p", "replies_sha256": [run]}
        store(run, "mmvet", right(30), judge=judge, hashes={"scorer": run})
    assert gate() == 0


def test_tasks_without_scores_are_no_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    store("old", "vqav2", right(30), metrics={})
    store("new", "vqav2", right(30), metrics={})
    assert gate() == 2
    assert "neither run has scores" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "is_told"), [("b", True), ("a", False), (None, False)])
def test_scores_by_other_code_are_told(
    code: str | None, is_told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    store("old", "gqa", right(40), hashes={"code": "a"})
    store("new", "gqa", right(40), hashes={} if code is None else {"code": code})
    assert gate() == 0
    assert ("two versions of the scoring code" in capsys.readouterr().out) == is_told


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("Question 1?", "the words of the 4 questions that both answered are the same, but images"),
        ("Another?", "the questions were put in other words"),
    ],
)
def test_refusal_says_whether_words_or_images_differ(
    prompt: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in ("old", "new"):
        options = {"source": "files" if run == "old" else "hub"}
        folder = write_task(Path("results", run), "gqa", right(4), options=options)
        summary = json.loads((folder / "summary.json").read_text())
        lines = read_lines(folder / "predictions.jsonl")
        for line in lines:
            line["prompt"] = prompt if run == "new" else "Question 1?"
        put_lines(folder / "predictions.jsonl", lines)
        traces = read_lines(folder / "trace.jsonl")
        hashes = {line["metadata"]["key"]: sha256_of_json(line) for line in lines}
        put_lines(
            folder / "trace.jsonl",
            [trace | {"line_sha256": hashes[trace["key"]]} for trace in traces],
        )
        summary["hashes"] |= {
            "prompts": run,
            "answers": sha256_of_file(folder / "predictions.jsonl"),
        }
        (folder / "summary.json").write_text(json.dumps(summary))
    assert gate() == 2
    error = capsys.readouterr().err
    assert told in error
    assert '`tasks.gqa.source` is "files" in the baseline and "hub" in the candidate' in error


@pytest.mark.parametrize(("code", "expected"), [("x-b", 2), ("y-a", 0)])
def test_figures_by_two_versions_of_included_code_are_not_compared(
    code: str, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    store("old", "gqa", right(30), hashes={"code": "x-a"})
    store("new", "gqa", right(30), hashes={"code": code})
    assert gate() == expected
    said = "".join(capsys.readouterr())
    assert ("two versions of the included code" in said) == bool(expected)
