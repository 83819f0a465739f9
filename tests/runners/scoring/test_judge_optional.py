"""Benchmarks that are scored with a judge or without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.options import program
from runners.score import score
from tests.evals.small_files import put_lines
from tests.evals.small_reasoning import write_hallusionbench, write_mathvista
from tests.runners.chat_server import ChatServer, completion
from tests.runners.conftest import read_lines
from tests.runners.scoring.conftest import judged, options, summary_of

TASK = "hallusionbench"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three questions of HallusionBench, and an answer to each."""
    write_hallusionbench(tmp_path / "data")
    ids = ("VD_ocr_0_0_0", "VD_ocr_0_0_1", "VD_ocr_0_1_0")
    put_lines(tmp_path / "answers.jsonl", [{"question_id": key, "text": "Yes"} for key in ids])
    return tmp_path / "data"


def test_words_decide_until_a_judge_is_asked(data: Path, tmp_path: Path) -> None:
    assert program.run("score", score, options(TASK, data)) == 0
    summary = summary_of(tmp_path, TASK)
    assert summary["metrics"]["aAcc"] == pytest.approx(1 / 3)
    assert summary["definition"] == "hallusionbench_yes_no/1"
    assert "judge" not in summary
    with ChatServer(otherwise=lambda _: completion("Correct")) as server:
        assert program.run("score", score, options(TASK, data, *judged(server))) == 0
    summary = summary_of(tmp_path, TASK)
    assert summary["metrics"]["aAcc"] == summary["metrics"]["easy"] == 1.0
    assert summary["definition"] == "hallusionbench_gpt-4/1"
    assert summary["judge"]["model"] == "gpt-4"
    assert {row["answer"] for row in read_lines(tmp_path / f"out/{TASK}/scores.jsonl")} == {
        "correct"
    }
    asked = server.requests[0]
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("gpt-4", 1.0, 16)
    assert all("Prediction answer:Yes\nOutput:" in prompt for prompt in server.prompts)


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("by", ["replies", "endpoint"])
def test_figures_of_a_judge_are_not_replaced_by_those_without_one(
    by: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [line["question_id"] for line in read_lines(tmp_path / "answers.jsonl")]
    told = [{"question_id": key, "model": "gpt-4", "content": "correct"} for key in ids]
    put_lines(tmp_path / "replies.jsonl", told)
    plain = options(TASK, data)
    given = f"tasks.{TASK}.replies=replies.jsonl"
    if by == "replies":
        assert program.run("score", score, [*plain, given]) == 0
    else:
        with ChatServer(otherwise=lambda _: completion("Correct")) as server:
            assert program.run("score", score, [*plain, *judged(server)]) == 0
        (record,) = (tmp_path / "out" / TASK).glob("judge-*/judge.json")
        record.unlink()  # as where more runs of it are asked for, and that is interrupted
    summary = summary_of(tmp_path, TASK)
    assert program.run("score", score, plain) == 2
    assert f"{given.partition('=')[0]}=FILE, or score them elsewhere" in capsys.readouterr().err
    assert summary_of(tmp_path, TASK) == summary
    elsewhere = [word for word in plain if not word.startswith("output=")]
    assert program.run("score", score, [*elsewhere, "output=other"]) == 0
    assert program.run("score", score, [*plain, given]) == 0
    put_lines(tmp_path / "answers.jsonl", [{"question_id": key, "text": "No"} for key in ids])
    assert program.run("score", score, plain) == 0
    assert "for other answers; those of these are without one" in capsys.readouterr().err


def test_judge_whose_examples_are_not_here_is_not_asked(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mathvista(tmp_path / "data")
    answers = [{"question_id": n, "text": "I think so"} for n in range(1, 6)]
    put_lines(tmp_path / "answers.jsonl", answers)
    with ChatServer() as server:
        assert program.run("score", score, options("mathvista", data, *judged(server))) == 2
    said = capsys.readouterr().err
    assert "five worked examples that are not here" in said
    assert "Traceback" not in said
    assert not server.requests
    assert program.run("score", score, options("mathvista", data)) == 0
    assert summary_of(tmp_path, "mathvista")["num_unparsed"] == 3


def test_judge_who_is_not_needed_is_not_asked(data: Path, tmp_path: Path) -> None:
    write_mathvista(tmp_path / "data")
    texts = ["Yes", "12", "1.2", "1.25", "[1, 2]"]
    answers = [{"question_id": n, "text": text} for n, text in enumerate(texts, start=1)]
    put_lines(tmp_path / "answers.jsonl", [*answers[:4]])
    with ChatServer() as server:
        argv = options("mathvista", data, *judged(server))
        assert program.run("score", score, argv) == 1  # one has no answer
    assert not server.requests
    assert summary_of(tmp_path, "mathvista")["metrics"]["accuracy"] == pytest.approx(3 / 5)
    assert program.run("score", score, options("mathvista", data)) == 1


def test_judge_grades_own_questions_beside_their_targets(tmp_path: Path) -> None:
    question = {"question_id": 1, "text": "What is it?", "answer": "a cat", "kind": "pets"}
    put_lines(tmp_path / "own.jsonl", [question])
    put_lines(tmp_path / "answers.jsonl", [{"question_id": 1, "text": "A tom."}])
    argv = ["task=custom", "tasks.custom.questions=own.jsonl", "tasks.custom.scorer=judge"]
    argv += ["tasks.custom.groups=[kind]", "predictions=answers.jsonl", "output=out"]
    assert program.run("score", score, argv) == 1  # it waits
    with ChatServer(completion("well"), completion("0.5")) as server:
        assert program.run("score", score, [*argv, *judged(server)]) == 0
    summary = summary_of(tmp_path, "custom")
    assert summary["metrics"] == {"score": 0.5}
    assert summary["breakdowns"]["kind"]["pets"] == {"score": 0.5, "num_questions": 1}
    assert summary["definition"] == "custom_gpt-4o-mini/1"
    assert [asked["temperature"] for asked in server.requests] == [0.0, 0.5]
    assert "Right answer: a cat\n\nGiven answer: A tom.\n" in server.prompts[0]
