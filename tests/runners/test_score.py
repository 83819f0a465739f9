from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runners.options import program
from runners.score import score
from runners.storage.lock import FolderLock
from tests.runners.conftest import CHECKOUT, Finished, read_lines

pytestmark = pytest.mark.usefixtures("in_own_folder")

QUESTIONS = {"1": "red", "2": "blue", "3": "green"}


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A custom task with three questions, and where answers and results are."""
    lines = [{"question_id": q, "text": "Color?", "answer": a} for q, a in QUESTIONS.items()]
    path = tmp_path / "questions=a,b.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [
        "task=custom",
        f"tasks.custom.questions={path}",
        "tasks.custom.scorer=exact",
        f"predictions={tmp_path}/answers.jsonl",
        f"output={tmp_path}/out",
    ]


def write_answers(path: Path, answers: dict[str, str], *extra: str) -> None:
    lines = [json.dumps({"question_id": q, "text": a}) for q, a in answers.items()]
    path.write_text("".join(line + "\n" for line in [*lines, *extra]))


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "custom" / "summary.json").read_text())


def test_complete_answers_are_scored(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(tmp_path / "answers.jsonl", {"3": "green", "1": "red", "2": "red"})
    assert program.run("score", score, options) == 0
    summary = summary_of(tmp_path)
    assert summary["metrics"] == {"accuracy": pytest.approx(2 / 3)}
    lines = read_lines(tmp_path / "out" / "custom" / "scores.jsonl")
    assert [line["score"] for line in lines] == [1.0, 0.0, 1.0]
    assert "66.67" in capsys.readouterr().out


def test_compressed_answers_are_found_under_the_plain_name(
    options: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    write_answers(path, QUESTIONS)
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert program.run("score", score, options) == 0
    assert summary_of(tmp_path)["metrics"] == {"accuracy": 1.0}


def test_summary_keeps_what_it_was_scored_with(options: list[str], tmp_path: Path) -> None:
    write_answers(tmp_path / "answers.jsonl", QUESTIONS)
    assert program.run("score", score, [*options, "tasks.custom.scorer=contains"]) == 0
    assert summary_of(tmp_path)["scored_as"]["scorer"] == "contains"


def test_missing_answers_count_as_wrong_and_make_it_incomplete(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(tmp_path / "answers.jsonl", {"1": "red"})
    assert program.run("score", score, options) == 1
    summary = summary_of(tmp_path)
    assert (summary["num_questions"], summary["num_answered"]) == (3, 1)
    assert summary["metrics"] == {"accuracy": pytest.approx(1 / 3)}
    assert summary["metrics_answered"] == {"accuracy": 1.0}
    assert "33.33 *" in capsys.readouterr().out


def test_unreadable_line_is_named_and_skipped(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(tmp_path / "answers.jsonl", QUESTIONS, '{"question_id": ')
    assert program.run("score", score, options) == 0
    assert "answers.jsonl:4" in capsys.readouterr().err


def test_recorded_failure_is_counted_by_cause(options: list[str], tmp_path: Path) -> None:
    failure = {
        "question_id": "2",
        "text": "",
        "metadata": {"key": "2", "error": {"cause": "image_missing", "message": "gone"}},
    }
    answers = {"1": "red", "3": "green"}
    write_answers(tmp_path / "answers.jsonl", answers, json.dumps(failure))
    assert program.run("score", score, options) == 1
    assert summary_of(tmp_path)["num_failed"] == {"image_missing": 1}


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("dropped", "added", "named"),
    [
        ("predictions=", [], "`predictions`"),
        ("output=", [], "`output`"),
        ("task=", [], "custom"),
        ("nothing", ["run=a"], "`run`"),
        ("nothing", ["task=[custom,gqa]"], "`task`"),
        ("nothing", ["model=llava-demo"], "model"),
        ("tasks.custom.questions=", ["tasks.custom.questions=/no.jsonl"], "/no.jsonl"),
        ("nothing", ["tasks.custom.scorer=fuzzy"], "scorer"),
    ],
)
def test_bad_input_is_one_paragraph_and_scores_nothing(
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dropped: str,
    added: list[str],
    named: str,
) -> None:
    write_answers(tmp_path / "answers.jsonl", QUESTIONS)
    argv = [option for option in options if not option.startswith(dropped)] + added
    if any(option.startswith("task=[") for option in added):
        argv.remove("task=custom")
    assert program.run("score", score, argv) == 2
    said = capsys.readouterr().err
    assert named in said
    assert "Traceback" not in said
    assert "\n\n" not in said.strip()
    assert not (tmp_path / "out").exists()


def test_foreign_answers_are_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(tmp_path / "answers.jsonl", QUESTIONS | {"77": "x"})
    assert program.run("score", score, options) == 2
    assert "77" in capsys.readouterr().err


@pytest.mark.slow
def test_scoring_imports_no_torch(options: list[str], tmp_path: Path) -> None:
    write_answers(tmp_path / "answers.jsonl", QUESTIONS)
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "runners.score", *options],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = [line.split("|")[-1].strip() for line in finished.stderr.splitlines()]
    assert "evals.scorers.exact" in modules
    assert not [name for name in modules if name.split(".")[0] in ("torch", "transformers")]


def test_stored_run_is_scored_again_to_the_same_files(demo_run: Finished, tmp_path: Path) -> None:
    shutil.copytree(demo_run.workspace / "results", tmp_path / "results")
    task = tmp_path / "results" / "demo" / "gqa"
    before = {name: (task / name).read_bytes() for name in ("scores.jsonl", "summary.json")}
    (task / "scores.jsonl").unlink()
    assert program.run("score", score, ["run=demo"]) == 0
    assert {name: (task / name).read_bytes() for name in before} == before
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_answer_that_was_edited_counts_as_missing(
    demo_run: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(demo_run.workspace / "results", tmp_path / "results")
    task = tmp_path / "results" / "demo" / "gqa"
    first, *rest = (task / "predictions.jsonl").read_text().splitlines(keepends=True)
    edited = json.dumps({**json.loads(first), "text": "banana"}) + "\n"
    (task / "predictions.jsonl").write_text("".join([edited, *rest]))
    assert program.run("score", score, ["run=demo"]) == 1
    assert "count as missing: 1." in capsys.readouterr().err
    summary = json.loads((task / "summary.json").read_text())
    assert summary["num_answered"] == summary["num_questions"] - 1


@pytest.mark.parametrize("run", ["none", "empty"])
def test_run_that_is_not_there_is_bad_input(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results" / "empty").mkdir(parents=True)
    assert program.run("score", score, [f"run={run}"]) == 2
    said = capsys.readouterr().err
    assert run in said
    assert "`run`" in said


def test_unfinished_run_is_bad_input(
    demo_run: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(demo_run.workspace / "results", tmp_path / "results")
    (tmp_path / "results" / "demo" / "gqa" / "summary.json").unlink()
    assert program.run("score", score, ["run=demo"]) == 2
    assert "no complete run" in capsys.readouterr().err


def test_what_was_asked_is_read_once_nobody_else_writes(
    demo_run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(demo_run.workspace / "results", tmp_path / "results")
    path = tmp_path / "results/demo/gqa/summary.json"
    whole = path.read_bytes()
    limited = json.loads(whole) | {"limited": True, "limit": 2, "num_questions": 2}
    path.write_text(json.dumps(limited))

    class FreeLater(FolderLock):
        """Of a folder that another program gives free now, having asked the other questions."""

        def acquire(self) -> None:
            path.write_bytes(whole)
            super().acquire()

    monkeypatch.setattr("runners.score.FolderLock", FreeLater)
    assert program.run("score", score, ["run=demo", "task=gqa"]) == 0
    summary = json.loads(path.read_text())
    assert summary["num_questions"] == json.loads(whole)["num_questions"] > 2
    assert (summary["limited"], summary["limit"]) == (False, None)


def test_manifest_cannot_name_foreign_code(
    demo_run: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(demo_run.workspace / "results", tmp_path / "results")
    path = tmp_path / "results" / "demo" / "gqa" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["environment"]["task"] = {"_target_": "os.system", "command": "touch owned"}
    path.write_text(json.dumps(manifest))
    assert program.run("score", score, ["run=demo"]) == 2
    assert "os.system" in capsys.readouterr().err
    assert not (tmp_path / "owned").exists()


def test_command_runs_literally_through_a_shell(
    shell: Callable[[str, Path], Finished], options: list[str], tmp_path: Path
) -> None:
    write_answers(tmp_path / "answers.jsonl", QUESTIONS)
    finished = shell(f"python -m runners.score {' '.join(options)}", tmp_path)
    assert finished.code == 0, finished.stderr
    assert summary_of(tmp_path)["metrics"] == {"accuracy": 1.0}
