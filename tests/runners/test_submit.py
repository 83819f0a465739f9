from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runners.options import program
from runners.score import score
from runners.submit import submit
from tests.evals.small_data import SMALL_DATA, put_json, put_lines
from tests.runners.conftest import CHECKOUT, Finished

pytestmark = pytest.mark.usefixtures("in_own_folder")

SHARED = CHECKOUT / "../shared/scoring"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded cases are not here")


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """VQAv2 with three questions in test2015, of which test-dev2015 asks two."""
    for subtype, ids in (("test2015", (1, 2, 3)), ("test-dev2015", (1, 2))):
        questions = [{"question_id": n, "image_id": 7, "question": "Is it?"} for n in ids]
        name = f"v2_OpenEnded_mscoco_{subtype}_questions.json"
        put_json(tmp_path / "vqav2" / name, {"questions": questions})
    return ["task=vqav2", "tasks.vqav2.data_dir=vqav2", "output=up.json"]


def line(question_id: int | str, text: str = "yes", **fields: Any) -> dict[str, Any]:
    return {"question_id": question_id, "text": text, **fields}


def submit_lines(options: list[str], *lines: dict[str, Any]) -> int:
    put_lines(Path("answers.jsonl"), list(lines))
    return program.run("submit", submit, [*options, "predictions=answers.jsonl"])


def test_upload_is_written_and_told_about(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit_lines(options, line(2, "A cat."), line(1)) == 0
    assert json.loads(Path("up.json").read_text()) == [
        {"question_id": 1, "answer": "yes"},
        {"question_id": 2, "answer": "cat"},
        {"question_id": 3, "answer": ""},
    ]
    said = capsys.readouterr().out
    for part in ("up.json", "test-dev2015", "3 questions listed, 2 answered", "eval.ai"):
        assert part in said


FAILED = line(2, "", metadata={"error": {"cause": "error", "message": "m"}})


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ([line(1)], "have no answer"),
        ([line(1), FAILED], "have no answer"),
        ([line(1), line(2, " ")], "have an empty answer"),
        ([line(1), line(2), line(2, "no")], "several different answers"),
        ([line(1), line(2), line(3)], "in the larger split"),
        ([line(1), line(2), line(9)], "not in vqav2 test-dev2015"),
        ([line("a"), line("b")], "not in vqav2 test-dev2015"),
        ([], "no answer"),
    ],
)
def test_wrong_answers_write_nothing(
    options: list[str],
    lines: list[dict[str, Any]],
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert submit_lines(options, *lines) == 2
    said = capsys.readouterr()
    assert named in said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    assert "\n\n" not in said.err.strip()
    assert sorted(path.name for path in Path().iterdir()) == ["answers.jsonl", "vqav2"]


def test_what_is_missing_is_sent_empty_on_request_and_counted(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit_lines([*options, "allow_missing=true"], line(1), FAILED) == 0
    assert [entry["answer"] for entry in json.loads(Path("up.json").read_text())] == ["yes", "", ""]
    assert "1 without an answer" in capsys.readouterr().out


def test_torn_last_line_is_named(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    put_lines(Path("answers.jsonl"), [line(1), line(2)])
    Path("answers.jsonl").write_text(Path("answers.jsonl").read_text() + '{"question_id": 3, "te')
    assert program.run("submit", submit, [*options, "predictions=answers.jsonl"]) == 0
    said = capsys.readouterr()
    assert "answers.jsonl:3" in said.err
    assert "1 unreadable lines" in said.out


def test_file_that_is_there_stays_unless_it_may_go(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("up.json").write_text("mine")
    assert submit_lines(options, line(1), line(2)) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert Path("up.json").read_text() == "mine"
    assert submit_lines([*options, "overwrite=true"], line(1), line(2)) == 0
    assert len(json.loads(Path("up.json").read_text())) == 3


def test_file_survives_wrong_answers_even_if_it_may_go(options: list[str]) -> None:
    Path("up.json").write_text("mine")
    assert submit_lines([*options, "overwrite=true"], line(1)) == 2
    assert Path("up.json").read_text() == "mine"


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("dropped", "added", "named"),
    [
        ("output=", [], "output"),
        ("output=", ["output=up.csv"], ".json"),
        ("output=", ["output=up.json.d/x/up.json"], "up.json.d"),
        ("output=", ["output=folder.json"], "folder"),
        ("task=", [], "task"),
        ("nothing", ["run=r"], "`run`"),
        ("predictions=", [], "`run`"),
        ("predictions=", ["run=none"], "`run` must be a run in results"),
        ("predictions=", ["predictions=none.jsonl"], "none.jsonl"),
        ("task", ["task=gqa"], "no server"),
        ("nothing", ["tasks.vqav2.split=val"], "has no server"),
        ("tasks", ["tasks.vqav2.data_dir=elsewhere"], "elsewhere"),
        ("nothing", ["allow_mising=true"], "allow_mising"),
    ],
)
def test_wrong_option_is_one_paragraph_that_names_it(
    options: list[str],
    dropped: str,
    added: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("folder.json").mkdir()
    Path("up.json.d").write_text("a file")
    put_lines(Path("answers.jsonl"), [line(1), line(2)])
    argv = [*options, "predictions=answers.jsonl"]
    argv = [option for option in argv if not option.startswith(dropped)] + added
    assert program.run("submit", submit, argv) == 2
    said = capsys.readouterr().err
    assert named in said
    assert "Traceback" not in said
    assert not Path("up.json").exists()


def test_run_is_submitted_as_it_was_configured(options: list[str]) -> None:
    put_lines(Path("answers.jsonl"), [line(n) for n in (1, 2, 3)])
    made = [*options[:2], "tasks.vqav2.split=test2015", "predictions=answers.jsonl", "run=r"]
    assert program.run("score", score, made) == 0
    assert program.run("submit", submit, ["task=vqav2", "run=r", "output=up.json"]) == 0
    assert [entry["answer"] for entry in json.loads(Path("up.json").read_text())] == ["yes"] * 3
    other = ["task=vqav2", "run=r", "output=x.json", "tasks.vqav2.split=test-dev2015"]
    assert program.run("submit", submit, other) == 2


def test_edited_answers_of_a_run_are_not_sent(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    put_lines(Path("answers.jsonl"), [line(1), line(2, "no"), line(3)])
    made = [*options[:2], "tasks.vqav2.split=test2015", "predictions=answers.jsonl", "run=r"]
    assert program.run("score", score, made) == 0
    path = Path("results/r/vqav2/predictions.jsonl")
    path.write_text(path.read_text().replace('"text": "no"', '"text": "yes"'))
    assert program.run("submit", submit, ["task=vqav2", "run=r", "output=up.json"]) == 2
    said = capsys.readouterr().err
    assert "results/r/vqav2/predictions.jsonl: lines that are not as they were written: 1." in said
    assert not Path("up.json").exists()
    as_it_is = [*options, "tasks.vqav2.split=test2015", f"predictions={path}"]
    assert program.run("submit", submit, as_it_is) == 0  # the remedy that is told


def test_task_that_the_run_lacks_is_named(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("results/r/gqa").mkdir(parents=True)
    Path("results/r/gqa/manifest.json").write_text(
        '{"identity": {}, "environment": {"task": {}}, "history": []}'
    )
    assert program.run("submit", submit, [*options, "run=r"]) == 2
    assert "results/r/vqav2/predictions.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "suffix"), [("seedbench", ".jsonl"), ("mmbench", ".xlsx")])
def test_other_servers_get_their_format(
    name: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openpyxl")
    small = SMALL_DATA[name]
    small.write(tmp_path / name)
    samples = small.build(data_dir=tmp_path / name).samples()
    lines = [line(s.question_id, text) for s, text in zip(samples, small.right, strict=True)]
    options = [f"task={name}", f"tasks.{name}.data_dir={name}", f"output=deep/up{suffix}"]
    assert submit_lines(options, *lines) == 0
    assert Path(f"deep/up{suffix}").stat().st_size > 0
    assert "http" in capsys.readouterr().out


RECORDED = {
    "vizwiz": ("vizwiz", "answers.jsonl", "up.json", ["tasks.vizwiz.split=test"]),
    "vqav2": (
        "vqav2/submission",
        "merge.jsonl",
        "up.json",
        ["tasks.vqav2.split=test2015", "allow_missing=true"],
    ),
    "seedbench": ("seedbench", "answers.jsonl", "up.jsonl", ["allow_missing=true"]),
    "mmbench": ("mmbench", "answers.jsonl", "up.xlsx", ["allow_missing=true"]),
    "docvqa": (
        "../scoring_next/docvqa/submission",
        "answers.jsonl",
        "up.json",
        ["tasks.docvqa.split=test"],
    ),
    "infovqa": (
        "../scoring_next/infovqa/submission",
        "answers.jsonl",
        "up.json",
        ["tasks.infovqa.split=test"],
    ),
}


def content_of(path: Path) -> list[Any]:
    """An upload as values: parsed JSON, or cells as texts."""
    if path.suffix == ".xlsx":
        openpyxl = pytest.importorskip("openpyxl")
        sheet = openpyxl.load_workbook(io.BytesIO(path.read_bytes())).active
        header, *rows = [
            ["" if cell is None else str(cell) for cell in row]
            for row in sheet.iter_rows(values_only=True)
        ]
        return [header, *(dict(zip(header, row, strict=True)) for row in rows)]
    if path.suffix == ".jsonl":
        return [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.few_cases(3)
@needs_shared
@pytest.mark.parametrize("name", RECORDED)
def test_upload_equals_the_recorded_one(name: str) -> None:
    folder, answers, output, more = RECORDED[name]
    place = SHARED / folder
    argv = [f"task={name}", f"tasks.{name}.data_dir={place}", f"predictions={place / answers}"]
    assert program.run("submit", submit, [*argv, f"output={output}", *more]) == 0
    [recorded] = place.glob("expected_upload.*")
    expected = content_of(recorded)
    if name == "mmbench":
        expected = [expected[0]["columns"], *expected[1:]]
    assert content_of(Path(output)) == expected


@pytest.mark.slow
def test_command_runs_literally_through_a_shell(
    shell: Callable[[str, Path], Finished], options: list[str], tmp_path: Path
) -> None:
    put_lines(tmp_path / "answers.jsonl", [line(1), line(2)])
    command = f"python -m runners.submit {' '.join(options)} predictions=answers.jsonl"
    finished = shell(command, tmp_path)
    assert finished.code == 0, finished.stderr
    assert "3 questions listed" in finished.stdout


def test_help_says_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run("submit", submit, ["--help"]) == 0
    shown = capsys.readouterr().out
    for part in ("allow_missing", "mmbench", "otherwise nothing is written"):
        assert part in shown
