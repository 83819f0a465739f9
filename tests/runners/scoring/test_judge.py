"""Judged scores: from the judge's replies to the summary, its options, and what is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from runners.options import program
from runners.score import score
from tests.evals.small_data import put_lines
from tests.runners.chat_server import ChatServer, completion
from tests.runners.conftest import read_lines
from tests.runners.scoring.conftest import judged, options, summary_of


def test_answers_are_graded_and_the_judge_is_recorded(mmvet: Path, tmp_path: Path) -> None:
    with ChatServer(completion("0.5"), completion("1.0")) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.num_workers=1"))
        assert program.run("score", score, argv) == 0
    summary = summary_of(tmp_path)
    assert summary["metrics"]["score"] == 0.75
    assert summary["definition"] == "mmvet_gpt-4-0613/1"
    judge = summary["judge"]
    assert (judge["model"], judge["base_url"], judge["num_runs"]) == (
        "gpt-4-0613",
        server.base_url,
        1,
    )
    assert [r["score"] for r in read_lines(tmp_path / "out/mmvet/scores.jsonl")] == [0.5, 1.0]
    assert [(r["model"], r["temperature"], r["max_tokens"]) for r in server.requests] == [
        ("gpt-4-0613", 0.0, 3)
    ] * 2
    assert "Answer 0." in server.prompts[0]


def test_review_has_a_system_message_and_is_compared(bench: Path, tmp_path: Path) -> None:
    with ChatServer(otherwise=lambda _: completion("8 4\nFine.")) as server:
        assert program.run("score", score, options("llavabench", bench, *judged(server))) == 0
    assert summary_of(tmp_path, "llavabench")["metrics"]["score"] == 0.5
    roles = [message["role"] for message in server.requests[0]["messages"]]
    assert roles == ["system", "user"]
    assert (server.requests[0]["temperature"], server.requests[0]["max_tokens"]) == (0.2, 1024)


def test_runs_of_a_judge_are_averaged_and_can_be_added(mmvet: Path, tmp_path: Path) -> None:
    grades = iter(["0.0", "0.0", "1.0", "1.0"])
    with ChatServer(otherwise=lambda _: completion(next(grades))) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.num_workers=1"))
        assert program.run("score", score, argv) == 0
        assert summary_of(tmp_path)["metrics"] == {"score": 0.0, "score_deviation": 0.0}
        assert program.run("score", score, [*argv, "judge.num_runs=2"]) == 0
        assert summary_of(tmp_path)["metrics"] == {"score": 0.5, "score_deviation": 0.5}
        assert program.run("score", score, argv) == 0  # the first run alone
        assert summary_of(tmp_path)["metrics"]["score"] == 0.0
    assert len(server.requests) == 4


def test_run_that_was_not_asked_again_does_not_count(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(otherwise=lambda _: completion("0.5")) as server:
        argv = options("mmvet", mmvet, *judged(server))
        assert program.run("score", score, [*argv, "judge.num_runs=2"]) == 0
        answers = [{"question_id": f"v1_{n}", "text": f"New answer {n}."} for n in range(2)]
        put_lines(tmp_path / "answers.jsonl", answers)
        assert program.run("score", score, argv) == 0
    first, second = sorted((tmp_path / "out/mmvet").glob("judge-*/run-*.jsonl"))
    assert program.run("score", score, options("mmvet", mmvet)) == 0  # as it lies there
    named = options("mmvet", mmvet, f"tasks.mmvet.replies=[{first},{second}]")
    assert program.run("score", score, named) == 2
    assert "2 of 4 replies of the judge gpt-4-0613 are missing" in capsys.readouterr().err


def test_judges_are_kept_apart(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(completion("0.0"), completion("0.0")) as server:
        found = []
        for model in ("judge.model=first", "judge.model=second"):
            argv = options("mmvet", mmvet, *judged(server, model))
            assert program.run("score", score, argv) == 0
            found.append(summary_of(tmp_path))
    assert [s["metrics"]["score"] for s in found] == [0.0, 1.0]
    assert [s["definition"] for s in found] == ["mmvet_first/1", "mmvet_second/1"]
    assert found[0]["hashes"]["scorer"] != found[1]["hashes"]["scorer"]
    assert program.run("score", score, options("mmvet", mmvet)) == 2
    assert "several judges" in capsys.readouterr().err
    assert program.run("score", score, options("mmvet", mmvet, "judge.model=first")) == 0
    assert summary_of(tmp_path)["metrics"]["score"] == 0.0
    assert program.run("score", score, options("mmvet", mmvet, "judge.model=third")) == 2
    assert re.search(r"No replies of third .*, but of (first|second)", capsys.readouterr().err)


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("again", ["/", ""])
def test_endpoint_is_the_same_with_a_slash_behind_it(
    again: str, mmvet: Path, tmp_path: Path
) -> None:
    with ChatServer(otherwise=lambda _: completion("1.0")) as server:
        for slash in ("", again, "//"):
            argv = options("mmvet", mmvet, *judged(server), f"judge.base_url={server.base_url}")
            assert program.run("score", score, [*argv[:-1], argv[-1] + slash]) == 0
    assert len(server.requests) == 2
    assert program.run("score", score, options("mmvet", mmvet)) == 0
    assert summary_of(tmp_path)["judge"]["base_url"] == server.base_url


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("judge.base_url=http://here/v1", "`judge.base_url` is given, but no judge is asked"),
        ("judge.retry_failed=true", "`judge.retry_failed` is given, but no judge is asked"),
    ],
)
def test_judge_that_is_described_must_be_asked(
    more: str, said: str, mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run("score", score, options("mmvet", mmvet, more)) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_replies_are_not_of_a_judge_that_is_named_beside_them(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"tasks.mmvet.replies={mmvet}/grades.json", "tasks.mmvet.judge=j"]
    assert program.run("score", score, options("mmvet", mmvet, *given, "judge.model=k")) == 2
    assert (
        "`judge.model` is k, but replies are given of j, as `tasks.mmvet.judge` says"
        in capsys.readouterr().err
    )
    assert program.run("score", score, options("mmvet", mmvet, *given, "judge.model=j")) == 0


def test_one_name_at_two_endpoints_is_two_judges(mmvet: Path, tmp_path: Path) -> None:
    hashes = []
    for text in ("0.0", "1.0"):
        with ChatServer(otherwise=lambda _, text=text: completion(text)) as server:
            assert program.run("score", score, options("mmvet", mmvet, *judged(server))) == 0
        hashes.append(summary_of(tmp_path)["hashes"]["scorer"])
        assert summary_of(tmp_path)["metrics"]["score"] == float(text)
    assert len(set(hashes)) == 2


def test_cost_is_estimated_first_and_stops_before_anything_is_spent(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer() as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.max_cost=0.01"))
        assert program.run("score", score, argv) == 2
        said = capsys.readouterr().err
        assert server.requests == []
        assert "2 calls of gpt-4-0613" in said
        assert "judge.max_cost=0.01" in said
        assert not list((tmp_path / "out").rglob("judge-*"))
        assert program.run("score", score, [*argv, "judge.max_cost=1"]) == 0
    assert "$0.0062" in capsys.readouterr().err  # 200 tokens at 30 and 4 at 60 a million


def test_announced_maximum_is_that_of_replies_of_which_none_can_be_read(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = "judge.price=[0,1e5]"  # so that the longest reply is what costs
    with ChatServer(otherwise=lambda _: completion("no grade")) as server:
        assert program.run("score", score, options("mmvet", mmvet, *judged(server, prices))) == 1
    said = capsys.readouterr().err
    costs = re.findall(r"about \$([\d.]+)", said)
    expected, most = map(float, costs)
    assert f"up to 5 times as much (about ${costs[1]}) if none can" in said
    assert most == 5 * expected
    longest = sum(request["max_tokens"] for request in server.requests)
    assert len(server.requests) == 10
    assert longest * 0.1 == pytest.approx(most)


@pytest.mark.few_cases(4)
@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["judge=openai"], "OPENAI_API_KEY"),
        (["judge=openai", "judge.base_url=x", "judge.model=m", "judge.max_cost=1"], "judge.price"),
        (["judge=openai", "judge.num_runs=0"], "judge.num_runs"),
        (["judge=openai", "judge.requests_per_minute=0"], "judge.requests_per_minute"),
        (["judge=openai", "judge.max_cost=-1"], "judge.max_cost"),
        (["judge=openai", "judge.max_cost=nan"], "judge.max_cost"),
        (["judge=openai", "judge.timeout_s=inf"], "judge.timeout_s"),
        (["judge=openai", "judge.price=[1]"], "judge.price"),
        (["judge=openai", "judge.modell=x"], "judge.modell"),
        (["judge=cheapest"], "judge=cheapest"),
        (["judge=openai", "tasks.mmvet.replies=r.json"], "replies"),
        (["tasks.mmvet.replies=missing.json"], "missing.json does not exist"),
    ],
)
def test_wrong_option_is_one_paragraph_that_names_it(
    more: list[str], named: str, mmvet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run("score", score, options("mmvet", mmvet, *more)) == 2
    said = capsys.readouterr().err
    assert named in said
    assert "Traceback" not in said


def test_judge_for_a_task_without_one_is_refused(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_lines(tmp_path / "q.jsonl", [{"question_id": 1, "text": "a", "answer": "b"}])
    argv = ["task=custom", "tasks.custom.questions=q.jsonl", "tasks.custom.scorer=exact"]
    argv += ["predictions=answers.jsonl", "output=out", "judge=openai"]
    assert program.run("score", score, argv) == 2
    assert "no judge grades custom" in capsys.readouterr().err


def test_without_a_judge_the_answers_count_and_what_is_missing_is_said(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run("score", score, options("mmvet", mmvet)) == 1
    said = capsys.readouterr().err
    assert "judge=openai" in said
    assert "tasks.mmvet.replies=FILE" in said
    summary = summary_of(tmp_path)
    assert (summary["metrics"], summary["judge"], summary["num_answered"]) == ({}, None, 2)


def test_given_replies_score_offline(mmvet: Path, tmp_path: Path) -> None:
    argv = options("mmvet", mmvet, f"tasks.mmvet.replies={mmvet}/grades.json")
    assert program.run("score", score, [*argv, "tasks.mmvet.judge=j"]) == 0
    summary = summary_of(tmp_path)
    assert (summary["metrics"]["score"], summary["judge"]["model"]) == (1.0, "j")


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("is_numbered", [True, False])
def test_reviews_of_other_answers_are_not_those_of_a_stored_run(
    is_numbered: bool, bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LLaVA's script for reviews writes the id of the answer, not its text."""
    for name in "ab":
        own = {"model_id": name}
        lines = [{"question_id": n, "text": f"{name} {n}", **own} for n in range(3)]
        if is_numbered:
            lines = [{**line, "answer_id": f"{name}{line['question_id']}"} for line in lines]
        put_lines(tmp_path / f"{name}.jsonl", lines)
    data = ["task=llavabench", f"tasks.llavabench.data_dir={bench}"]
    for name in "ab":
        argv = [*data, f"predictions={name}.jsonl", f"run={name}"]
        assert program.run("score", score, argv) == 1  # it waits for a judge
    stored = read_lines(tmp_path / "results/a/llavabench/predictions.jsonl")
    ids = {"here": [line["answer_id"] for line in stored]}
    if is_numbered:
        ids["there"] = [f"a{n}" for n in range(3)]
    for where, named in ids.items():
        reviews = [
            {"question_id": n, "answer2_id": name, "content": "8 4"} for n, name in enumerate(named)
        ]
        put_lines(tmp_path / f"{where}.jsonl", reviews)
        argv = [*data, f"tasks.llavabench.replies={where}.jsonl"]
        assert program.run("score", score, [*argv, "run=a"]) == 0
        capsys.readouterr()
        assert program.run("score", score, [*argv, "run=b"]) == (2 if is_numbered else 0)
        assert ("another model's answers" in capsys.readouterr().err) == is_numbered


def test_given_replies_that_grade_nothing_are_to_be_mended(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"question_id": f"v1_{n}", "model": "j", "content": None} for n in range(2)]
    put_lines(tmp_path / "replies.jsonl", lines)
    argv = options("mmvet", mmvet, "tasks.mmvet.replies=replies.jsonl", "tasks.mmvet.judge=j")
    assert program.run("score", score, argv) == 1
    assert (
        "replies.jsonl:1 holds no reply). Mend the file with the replies.\n"
        in capsys.readouterr().err
    )


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    "record",
    [
        *("{", "[]", '{"model": "j"}', '{"model": {"_target_": "os.system"}, "num_runs": 1}'),
        '{"model": "j", "num_runs": 1000000000000}',
        '{"model": "j", "num_runs": -1}',
    ],
)
def test_spoiled_record_of_a_judge_is_bad_input(
    record: str, mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out/mmvet/judge-x/judge.json"
    path.parent.mkdir(parents=True)
    path.write_text(record)
    assert program.run("score", score, options("mmvet", mmvet)) == 2
    assert "judge-x/judge.json" in capsys.readouterr().err


def test_pipe_in_the_place_of_a_judges_record_holds_nobody_up(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out/mmvet/judge-x/judge.json"
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert program.run("score", score, options("mmvet", mmvet)) == 2
    assert "judge.json is no regular file" in capsys.readouterr().err
