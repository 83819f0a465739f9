"""The page's remedies for data, scoring and the gate, each followed to its end by the program."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.options import program
from runners.regress import regress
from runners.score import score
from runners.submit import submit
from tests.evals.small_data import (
    put_json,
    put_lines,
    seed_records,
    vizwiz_records,
    write_mmvet,
    write_seedbench,
    write_vizwiz,
)
from tests.runners.chat_server import ChatServer, completion, failure
from tests.runners.gated_runs import store
from tests.runners.scoring.conftest import judged

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs" / "troubleshooting.md"
PROGRAMS: dict[str, Any] = {"score": score, "submit": submit, "regress": regress}

Case = Callable[[], Iterator[str]]
"""Gives the command that says the message, and then each that a remedy makes of it."""

CASES: dict[str, Case] = {}
VIZWIZ = "task=vizwiz tasks.vizwiz.data_dir=vizwiz predictions=answers.jsonl"
FOLLOWED_ELSEWHERE = {
    "must have the published": "evals/reading/test_releases.py",
    "questions have images that are not there": "runners/test_eval.py",
    "tasks.seedbench.split=v1_image": "evals/tasks/test_seedbench.py",
    "names the file": "evals/reading/test_hub.py",
    "The data set ... cannot be read": "evals/reading/test_hub.py",
    "The parquet files of ... cannot be read": "evals/reading/test_hub.py",
    "rows are numbered over all of them": "evals/reading/test_hub.py",
    "The parts of ... cannot be joined": "runners/storage/test_merging.py",
    "scored with data other than it was asked with": "runners/test_score_import.py",
}
"""Rows about a model, a mirror or the parts of a run: where tests meet both message and remedy."""


def case(message: str) -> Callable[[Case], Case]:
    """Says which row of the page a function follows, by its message."""

    def remember(follow: Case) -> Case:
        CASES[message] = follow
        return follow

    return remember


def seedbench() -> str:
    """Writes three questions and right answers; returns the options that score them."""
    write_seedbench(Path("seedbench"))
    answer()
    return "task=seedbench tasks.seedbench.data_dir=seedbench predictions=answers.jsonl"


def answer(**fields: Any) -> None:
    lines = [{"question_id": r["question_id"], "text": r["answer"]} for r in seed_records()]
    put_lines(Path("answers.jsonl"), [line | fields for line in lines])


def vizwiz_answers() -> list[dict[str, Any]]:
    numbers = [int(re.findall(r"\d+", record["image"])[0]) for record in vizwiz_records()]
    return [{"question_id": number, "text": "Soup"} for number in numbers]


@case("does not exist, nor does")
def layout() -> Iterator[str]:
    words = seedbench()
    yield "score task=seedbench predictions=answers.jsonl output=out"
    yield f"score {words} output=out"


@case("no regular file")
def pipe_for_a_file() -> Iterator[str]:
    words = seedbench()
    Path("answers.jsonl").rename("file.jsonl")
    os.mkfifo("answers.jsonl")
    yield f"score {words} output=out"
    Path("file.jsonl").rename("answers.jsonl")
    yield f"score {words} output=out"


@case("The files must be of one split and release")
def two_releases() -> Iterator[str]:
    about = {"question_id": 420, "image_id": 42}
    put_json(
        Path("vqav2/v2_OpenEnded_mscoco_val2014_questions.json"),
        {"questions": [about | {"question": "What is it?"}]},
    )
    given = {"question_type": "what", "answer_type": "other", "answers": [{"answer": "cat"}] * 10}
    annotation = about | given | {"multiple_choice_answer": "cat"}
    path = Path("vqav2/v2_mscoco_val2014_annotations.json")
    put_json(path, {"annotations": [annotation | {"question_id": 421}]})
    put_lines(Path("answers.jsonl"), [{"question_id": 420, "text": "Cat"}])
    words = "score task=vqav2 tasks.vqav2.data_dir=vqav2 tasks.vqav2.split=val output=out "
    words += "predictions=answers.jsonl"
    yield words
    put_json(path, {"annotations": [annotation]})
    yield words


@case("has no public annotations")
def split_of_a_server() -> Iterator[str]:
    records = [{"image": r["image"], "question": r["question"]} for r in vizwiz_records()]
    put_json(Path("vizwiz/test.json"), records)
    put_lines(Path("answers.jsonl"), vizwiz_answers())
    words = f"{VIZWIZ} tasks.vizwiz.split=test"
    yield f"score {words} output=out"
    yield f"submit {words} output=upload.json"
    put_json(Path("vizwiz/test.json"), vizwiz_records())
    yield f"score {words} output=out"


@case("question ids of the answers are not in")
def other_split() -> Iterator[str]:
    words = seedbench()
    put_lines(Path("answers.jsonl"), [{"question_id": n, "text": "A"} for n in range(3)])
    yield f"submit {words} output=upload.jsonl"
    answer()
    yield f"submit {words} output=upload.jsonl"


@case("carry the prompt of another question")
def other_numbering() -> Iterator[str]:
    words = seedbench()
    questions = [record["question"] for record in seed_records()]
    lines = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    for turn in (1, 0):
        turned = [*questions[turn:], *questions[:turn]]
        asked = [line | {"prompt": q} for line, q in zip(lines, turned, strict=True)]
        put_lines(Path("answers.jsonl"), asked)
        yield f"score {words} output=out"
    answer()
    yield f"score {words} output=out"


@case("must hold one JSON object a line")
def training_data() -> Iterator[str]:
    conversation = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "This."}]
    put_json(Path("questions.jsonl"), [{"id": "1", "conversations": conversation}])
    put_lines(Path("answers.jsonl"), [{"question_id": 1, "text": "This."}])
    words = "score task=custom tasks.custom.questions=questions.jsonl tasks.custom.scorer=exact "
    words += "predictions=answers.jsonl output=out"
    yield words
    put_lines(Path("questions.jsonl"), [{"question_id": 1, "text": "What?", "answer": "This."}])
    yield words


@case("is not JSON")
def cut_file() -> Iterator[str]:
    words = seedbench()
    path = Path("seedbench/SEED-Bench.json")
    content = path.read_text()
    path.write_text(content[:-9])
    yield f"score {words} output=out"
    path.write_text(content)
    yield f"score {words} output=out"


@case("holds no complete run")
def unfinished() -> Iterator[str]:
    store("one", "gqa", [1.0, 0.0] * 10)
    shutil.copytree("results/one", "results/two")
    Path("results/two/gqa/summary.json").unlink()
    yield "regress baseline=results/one candidate=results/two"
    shutil.copy("results/one/gqa/summary.json", "results/two/gqa")
    yield "regress baseline=results/one candidate=results/two max_drop=0.5"


@case("has changed since it was scored")
def scored_before() -> Iterator[str]:
    words = seedbench()
    for run in ("one", "two"):
        assert call(f"score {words} run={run}") == 0
    path = Path("results/two/seedbench/predictions.jsonl")
    first, rest = path.read_text().split("\n", 1)
    path.write_text(json.dumps(json.loads(first) | {"text": "C"}) + "\n" + rest)
    yield "regress baseline=results/one candidate=results/two max_drop=0.5"
    yield f"score {words} run=two overwrite=true"
    yield "regress baseline=results/one candidate=results/two max_drop=0.5"


@case("cannot be compared with")
def other_data() -> Iterator[str]:
    words = seedbench()
    assert call(f"score {words} run=one") == 0
    path = Path("seedbench/SEED-Bench.json")
    content = path.read_text()
    path.write_text(content.replace("d thing", "other thing"))
    assert call(f"score {words} run=two") == 0
    yield "regress baseline=results/one candidate=results/two max_drop=0.5"
    path.write_text(content)
    yield f"score {words} run=two overwrite=true"
    yield "regress baseline=results/one candidate=results/two max_drop=0.5"


@case("undecided, because")
def few_to_tell() -> Iterator[str]:
    scores = [1.0, 0.0] * 10
    store("one", "gqa", scores)
    store("two", "gqa", scores[::-1])
    words = "regress baseline=results/one candidate=results/two"
    yield f"{words} max_drop=0.001"
    yield f"{words} max_drop=0.5"


def mmvet() -> str:
    """Two questions of MM-Vet with an answer to each, and the command that has them judged."""
    write_mmvet(Path("mmvet"))
    put_lines(Path("answers.jsonl"), [{"question_id": f"v1_{n}", "text": "It is."} for n in (0, 1)])
    return "score task=mmvet tasks.mmvet.data_dir=mmvet predictions=answers.jsonl output=out "


@case("more than judge.max_cost")
def dear_judge() -> Iterator[str]:
    words = mmvet()
    with ChatServer() as server:
        price = "judge.price=[30,60]"
        words = " ".join([words, *judged(server), price])
        yield f"{words} judge.max_cost=0.000001"
        assert server.requests == []
        yield f"{words} judge.max_cost=5"


@case("gave no text about any of")
def judge_that_refuses() -> Iterator[str]:
    words = mmvet()
    with ChatServer(failure(400), failure(400)) as server:
        words = " ".join([words, *judged(server)])
        yield words
        yield f"{words} judge.retry_failed=true"


@case("are not judged")
def judge_without_grade() -> Iterator[str]:
    words = mmvet()
    unread = [completion("No grade.")] * 10
    with ChatServer(*unread) as server:
        words = " ".join([words, *judged(server)])
        yield words
        yield f"{words} judge.retry_failed=true"


@case("must hold the key of")
def no_key() -> Iterator[str]:
    words = mmvet()
    yield f"{words} judge=openai"
    with ChatServer() as server:
        yield " ".join([words, *judged(server)])


@case("are not complete")
def half_an_upload() -> Iterator[str]:
    write_vizwiz(Path("vizwiz"))
    put_lines(Path("answers.jsonl"), vizwiz_answers()[:1])
    words = f"submit {VIZWIZ} tasks.vizwiz.split=val output=upload.json"
    yield words
    yield f"{words} allow_missing=true"
    put_lines(Path("answers.jsonl"), vizwiz_answers())
    yield f"{words} overwrite=true"


def call(command: str) -> int:
    """Runs a program in this process; its exit code."""
    name, *words = command.split()
    return program.run(name, PROGRAMS[name], words)


def rows() -> list[str]:
    """The messages of the page's tables of data and of scoring."""
    page = PAGE.read_text(encoding="utf-8")
    tables = page.split("\n## Data\n")[1].split("\n## Disks")[0]
    return re.findall(r"^\| ``(.+?)``", tables, re.MULTILINE)


def test_every_remedy_for_data_and_scoring_is_followed() -> None:
    assert set(rows()) == CASES.keys() | FOLLOWED_ELSEWHERE.keys()
    assert all((CHECKOUT / "tests" / file).is_file() for file in FOLLOWED_ELSEWHERE.values())


@pytest.mark.few_cases(3)
@pytest.mark.parametrize("message", CASES)
def test_program_is_content_once_the_remedy_is_followed(
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HYDRA_FULL_ERROR", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    commands = CASES[message]()
    faulty = next(commands)
    capsys.readouterr()
    assert call(faulty) != 0
    said = "".join(capsys.readouterr())
    assert re.search(re.escape(message).replace(re.escape("..."), ".*"), said), said
    number = 0
    for command in commands:
        assert call(command) == 0, "".join(capsys.readouterr())
        number += 1
    assert number
