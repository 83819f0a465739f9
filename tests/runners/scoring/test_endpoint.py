"""Calls of a judge: repeated, paced, paid for, given up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.reading.replies import JudgeRequest
from runners.options import program
from runners.score import score
from runners.scoring.endpoint import Budget, JudgeError, Price, estimate_prompt_tokens
from tests.runners.chat_server import Answer, ChatServer, completion, failure
from tests.runners.conftest import read_lines
from tests.runners.scoring.conftest import judged, options, summary_of

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


@pytest.mark.few_cases(3)
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


@pytest.mark.parametrize(
    ("answer", "more", "num_asked", "named"),
    [
        (failure(500), ["judge.max_retries=2"], 3, "no reply in 3 attempts"),
        ((200, "{not", {}), ["judge.max_retries=1"], 2, "malformed"),
        (failure(401), [], 1, "refuses"),
        (failure(404), [], 1, "judge.model"),
        (failure(429, "insufficient_quota"), [], 1, "refuses"),
    ],
)
def test_judge_that_gives_no_reply_leaves_it_incomplete(
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
    assert times[-1] - times[0] >= 0.45  # six calls, five gaps of a tenth of a second


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
