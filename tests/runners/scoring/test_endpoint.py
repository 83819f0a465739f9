"""Calls of a judge: repeated, paced, paid for, given up."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from evals.reading.replies import JudgeRequest
from runners.errors import JudgeError
from runners.options import program
from runners.score import score
from runners.scoring.endpoint import Budget, Price, estimate_prompt_tokens
from runners.scoring.judge import _folder_name
from tests.runners.chat_server import Answer, ChatServer, completion, failure
from tests.runners.conftest import read_lines
from tests.runners.scoring.conftest import QUICK, judged, options, summary_of

PASSING: dict[str, Answer] = {
    "429": failure(429, "rate_limit_exceeded"),
    "500": failure(500),
    "503": failure(503),
    "408": failure(408),
    "no JSON": (200, "{not", {}),
    "no JSON type": (200, "<html>", {"Content-Type": "text/html"}),
    "a list": (200, "[]", {}),
    "no choices": (200, json.dumps({"id": "x"}), {}),
    "empty choices": (200, json.dumps({"choices": []}), {}),
    "no text": completion(None),
    "empty body": (200, "", {}),
}


def replies_of(folder: Path, task: str = "mmvet", run: int = 0) -> list[dict[str, Any]]:
    [path] = (folder / "out" / task).glob(f"judge-*/run-{run}.jsonl")
    return read_lines(path)


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("name", PASSING)
def test_call_that_fails_in_passing_is_repeated(name: str, mmvet: Path, tmp_path: Path) -> None:
    with ChatServer(PASSING[name], PASSING[name]) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.num_workers=1"))
        assert program.run("score", score, argv) == 0
    assert len(server.requests) == 4
    assert summary_of(tmp_path)["metrics"]["score"] == 1.0


def test_waits_double_and_heed_the_endpoint(mmvet: Path) -> None:
    answers = [failure(500), failure(500), failure(429, Retry_After="0.3")]
    with ChatServer(*answers) as server:
        more = ["judge.num_workers=1", "judge.backoff_s=0.05"]
        argv = options("mmvet", mmvet, *judged(server, *more))
        assert program.run("score", score, argv) == 0
    waits = [b - a for a, b in zip(server.times, server.times[1:], strict=False)][:3]
    assert waits[0] >= 0.05
    assert waits[1] >= 0.1
    assert waits[2] >= 0.3


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("answer", "more", "num_asked", "named"),
    [
        (failure(401), [], 1, "refuses"),
        (failure(402), [], 1, "refuses"),
        (failure(400, "billing_hard_limit_reached"), [], 1, "refuses"),
        (failure(404), [], 1, "judge.model"),
        (failure(429, "insufficient_quota"), [], 1, "refuses"),
    ],
)
def test_endpoint_that_takes_no_calls_leaves_it_incomplete(
    answer: Answer,
    more: list[str],
    num_asked: int,
    named: str,
    mmvet: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ChatServer(completion("0.5"), otherwise=lambda _: answer) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.num_workers=1", *more))
        assert program.run("score", score, argv) == 1
        said = capsys.readouterr().err
        assert named in said
        assert "Traceback" not in said
    assert len(server.requests) == 1 + num_asked
    assert not (tmp_path / "out/mmvet/scores.jsonl").exists()
    assert [r["content"] for r in replies_of(tmp_path)] == ["0.5"]  # what was paid for is kept


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    ("answer", "named"),
    [(failure(500), "no reply in 2 attempts"), ((200, "{not", {}), "malformed")],
)
def test_endpoint_that_breaks_down_stops_the_asking(
    answer: Answer, named: str, mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(completion("0.5"), otherwise=lambda _: answer) as server:
        more = ["judge.num_workers=1", "judge.max_retries=1", "judge.num_runs=4"]
        argv = options("mmvet", mmvet, *judged(server, *more))
        assert program.run("score", score, argv) == 1
        assert named in capsys.readouterr().err
    # three answers of seven in a row; the next call may have begun by then
    assert 1 + 3 * 2 <= len(server.requests) <= 1 + 4 * 2 < 1 + 7 * 2
    assert not (tmp_path / "out/mmvet/scores.jsonl").exists()
    assert replies_of(tmp_path)[0]["content"] == "0.5"  # what was paid for is kept


def test_endpoint_that_is_not_there_is_said(
    mmvet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer() as server:
        pass
    argv = options("mmvet", mmvet, *judged(server, "judge.max_retries=1"))
    assert program.run("score", score, argv) == 1
    assert "no reply in 2 attempts" in capsys.readouterr().err


def test_rate_is_kept(mmvet: Path) -> None:
    with ChatServer() as server:
        more = ["judge.requests_per_minute=600", "judge.num_runs=3", "judge.num_workers=6"]
        assert program.run("score", score, options("mmvet", mmvet, *judged(server, *more))) == 0
    times = sorted(server.times)
    assert times[-1] - times[0] >= 0.3  # five gaps of a tenth of a second; the first may come late


def test_spending_stops_at_the_limit_and_goes_on_with_a_larger_one(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(completion("0.5", usage=(10**6, 0))) as server:
        more = ["judge.num_workers=1", "judge.price=[30,60]", "judge.max_cost=1"]
        argv = options("mmvet", mmvet, *judged(server, *more))
        assert program.run("score", score, argv) == 1
        assert "$30.0000 is spent" in capsys.readouterr().err
        assert len(server.requests) == 1
        assert program.run("score", score, argv) == 0  # what is stored costs nothing
    assert len(server.requests) == 2
    assert summary_of(tmp_path)["metrics"]["score"] == 0.75


def test_spent_budget_says_how_replies_are_not_paid_for_again(
    mmvet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(completion("0.5", usage=(10**6, 0))) as server:
        more = ["judge.num_workers=1", "judge.price=[30,60]", "judge.max_cost=1", "run=mine"]
        argv = options("mmvet", mmvet, *judged(server, *more))
        argv.remove(f"output={mmvet.parent}/out")
        assert program.run("score", score, [*argv, "overwrite=true"]) == 1
        said = capsys.readouterr().err
        assert "same command with a larger judge.max_cost goes on" in said
        assert "With overwrite=true the same command begins anew. Once the old" in said
        assert program.run("score", score, [*argv, "overwrite=false"]) == 0
    assert len(server.requests) == 2
    assert "overwrite" not in capsys.readouterr().err


def test_budget_counts_what_is_in_flight() -> None:
    request = JudgeRequest(prompt="x" * 400, temperature=0.0, max_tokens=0)
    tokens = estimate_prompt_tokens(request)
    assert tokens == 104
    budget = Budget(Price(asked=1e6, replied=0), max_cost=2.5 * tokens)
    first, second = budget.reserve(request), budget.reserve(request)
    with pytest.raises(JudgeError, match="max_cost"):
        budget.reserve(request)
    budget.release(first)
    budget.settle(second, (10, 0))
    assert budget.spent == 10
    assert budget.reserve(request) == tokens


def test_call_ends_after_its_time_though_bytes_keep_coming(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(drip_s=0.05) as server:
        more = ["judge.timeout_s=0.4", "judge.max_retries=0"]
        began = time.monotonic()
        assert program.run("score", score, options("mmvet", mmvet, *judged(server, *more))) == 1
        assert time.monotonic() - began < 15  # a second or two unless the machine is busy
    assert "judge.timeout_s" in capsys.readouterr().err
    assert not (tmp_path / "out/mmvet/scores.jsonl").exists()


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    "answer",
    [
        completion("1" * 5_000_000),
        (500, "x" * 5_000_000, {}),
        (200, '{"choices": ' + "[" * 100_000, {}),
        (200, '{"usage": {"prompt_tokens": ' + "9" * 5000 + "}}", {}),
        (200, gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"}),
        (200, "packed", {"Content-Encoding": "br"}),
        (200, "no gzip", {"Content-Encoding": "gzip"}),
    ],
    ids=["reply", "error", "nested", "number", "packed", "packing", "spoiled"],
)
def test_reply_without_bound_is_a_failure_of_its_question(
    answer: Answer, mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(request: dict[str, Any]) -> Answer:
        return answer if "Answer 0." in str(request["messages"]) else completion("1.0")

    with ChatServer(otherwise=reply) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.max_retries=0"))
        assert program.run("score", score, argv) == 1
    assert summary_of(tmp_path)["num_failed"] == {"judge_silent": 1}
    assert "Traceback" not in capsys.readouterr().err
    assert all(path.stat().st_size < 100_000 for path in tmp_path.rglob("run-*.jsonl"))


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (failure(403), "judge_silent"),
        ((400, json.dumps({"error": {"message": "x" * 3_000_000}}), {}), "judge_refused"),
        ((200, json.dumps({"choices": {}}), {}), "judge_refused"),
        ((200, json.dumps({"choices": {"0": {}}}), {}), "judge_refused"),
    ],
    ids=["forbidden", "long refusal", "no choice", "named choice"],
)
def test_refusal_of_one_answer_leaves_the_others_judged(
    answer: Answer,
    cause: str,
    mmvet: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def reply(request: dict[str, Any]) -> Answer:
        return answer if "Answer 0." in str(request["messages"]) else completion("1.0")

    with ChatServer(otherwise=reply) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.max_retries=0"))
        assert program.run("score", score, argv) == 1
        assert program.run("score", score, argv) == 1  # not for ever
    assert summary_of(tmp_path)["num_failed"] == {cause: 1}
    assert len(capsys.readouterr().err) < 5_000


def test_answer_that_cannot_be_sent_is_a_failure_of_its_question(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(path.read_text().replace("Answer 0.", "Answer \\ud83d."))
    with ChatServer(otherwise=lambda _: completion("1.0")) as server:
        assert program.run("score", score, options("mmvet", mmvet, *judged(server))) == 1
    assert summary_of(tmp_path)["num_failed"] == {"judge_refused": 1}
    assert "gave no reply" not in capsys.readouterr().err


def test_endpoint_that_forbids_every_call_is_soon_left_alone(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(otherwise=lambda _: failure(403)) as server:
        more = ["judge.num_workers=1", "judge.num_runs=9"]
        argv = options("llavabench", bench, *judged(server, *more))
        assert program.run("score", score, argv) == 1
        assert 3 <= len(server.requests) < 9  # of 27 calls
    assert "the key" in capsys.readouterr().err
    assert not (tmp_path / "out/llavabench/scores.jsonl").exists()


def test_packed_reply_is_read(mmvet: Path, tmp_path: Path) -> None:
    packed = gzip.compress(completion("0.5")[1].encode())
    with ChatServer(otherwise=lambda _: (200, packed, {"Content-Encoding": "gzip"})) as server:
        assert program.run("score", score, options("mmvet", mmvet, *judged(server))) == 0
    assert summary_of(tmp_path)["metrics"]["score"] == 0.5


def with_user(base_url: str) -> str:
    return base_url.replace("://", "://someone:hunter2@")


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("failing", [False, True])
def test_password_in_the_address_is_sent_and_never_stored(
    failing: bool,
    mmvet: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    echo = failure(400, "c")
    echo = (400, echo[1].replace("failed", "someone:hunter2 failed"), {})
    answers = [echo] if failing else []
    with ChatServer(*answers) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", with_user(server.base_url))
        argv = options("mmvet", mmvet, "judge=openai", *QUICK, "judge.max_retries=0")
        assert program.run("score", score, argv) == int(failing)
        said = capsys.readouterr()
        assert {key.split()[0] for key in server.keys if key} == {"Basic"}
        plain = options("mmvet", mmvet, *judged(server))  # the same judge: nothing is asked
        assert program.run("score", score, plain) == int(failing)
        assert len(server.requests) == 2
        assert summary_of(tmp_path)["judge"]["base_url"] == server.base_url
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
    assert "hunter2" not in said.err + said.out


def test_replies_that_were_kept_under_the_password_are_found(mmvet: Path, tmp_path: Path) -> None:
    with ChatServer() as server:
        argv = options("mmvet", mmvet, *judged(server))
        assert program.run("score", score, argv) == 0
        [place] = (tmp_path / "out/mmvet").glob("judge-*")
        secret = with_user(server.base_url)
        place.rename(place.with_name(_folder_name("gpt-4-0613", secret)))
        argv = options("mmvet", mmvet, "judge=openai", *QUICK, f"judge.base_url={secret}")
        assert program.run("score", score, argv) == 0
        assert len(server.requests) == 2
    assert place.is_dir()


@pytest.mark.parametrize("address", ["localhost:8000/v1", "ftp://host/v1", "http://h:port/v1"])
def test_address_that_is_none_is_bad_input(
    address: str, mmvet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = options("mmvet", mmvet, "judge=openai", f"judge.base_url={address}")
    assert program.run("score", score, argv) == 2
    assert "judge.base_url" in capsys.readouterr().err


def test_key_is_sent_and_never_stored(
    mmvet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-private")
    with ChatServer() as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.api_key_env=MY_KEY"))
        assert program.run("score", score, argv) == 0
    assert server.keys == ["Bearer sk-private"] * 2
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in files if b"sk-private" in path.read_bytes()]


def test_key_that_an_endpoint_says_again_is_not_stored(
    mmvet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-private")
    message = {"role": "assistant", "content": None, "refusal": "no, sk-private"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    refusal = {"id": "c", "object": "chat.completion", "created": 0, "model": "j"}
    answers = [(200, json.dumps({**refusal, "choices": [choice]}), {})]
    answers.append((200, json.dumps({"oops": "sk-private"}), {}))
    with ChatServer(*answers) as server:
        words = ("judge.api_key_env=MY_KEY", "judge.max_retries=0")
        argv = options("mmvet", mmvet, *judged(server, *words))
        assert program.run("score", score, argv) == 1
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in files if b"sk-private" in path.read_bytes()]
    assert "sk-private" not in capsys.readouterr().err
