from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.scorers.judge import JudgeRequest
from runners import cli
from runners.judges.endpoint import Budget, JudgeError, Price, estimate_prompt_tokens
from runners.score import score
from tests.evals.small_data import put_lines, write_llavabench, write_mmvet
from tests.runners.chat_server import Answer, ChatServer, completion, failure
from tests.runners.conftest import Start, read_lines

pytest.importorskip("openai")

QUICK = ["judge.backoff_s=0.01", "judge.requests_per_minute=60000"]


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HYDRA_FULL_ERROR", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def mmvet(tmp_path: Path) -> Path:
    """Two questions of MM-Vet and an answer to each."""
    write_mmvet(tmp_path / "mmvet")
    answers = [{"question_id": f"v1_{n}", "text": f"Answer {n}."} for n in range(2)]
    put_lines(tmp_path / "answers.jsonl", answers)
    return tmp_path / "mmvet"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Three questions of LLaVA-Bench and an answer to each."""
    write_llavabench(tmp_path / "bench")
    answers = [{"question_id": n, "text": f"Answer {n}."} for n in range(3)]
    put_lines(tmp_path / "answers.jsonl", answers)
    return tmp_path / "bench"


def options(task: str, data_dir: Path, *more: str) -> list[str]:
    return [
        f"task={task}",
        f"tasks.{task}.data_dir={data_dir}",
        f"predictions={data_dir.parent}/answers.jsonl",
        f"output={data_dir.parent}/out",
        *more,
    ]


def judged(server: ChatServer, *more: str) -> list[str]:
    return ["judge=openai", f"judge.base_url={server.base_url}", *QUICK, *more]


def summary_of(folder: Path, task: str = "mmvet") -> dict[str, Any]:
    return json.loads((folder / "out" / task / "summary.json").read_text())


def replies_of(folder: Path, task: str = "mmvet", run: int = 0) -> list[dict[str, Any]]:
    [path] = (folder / "out" / task).glob(f"judge-*/run-{run}.jsonl")
    return read_lines(path)


def test_answers_are_graded_and_the_judge_is_recorded(mmvet: Path, tmp_path: Path) -> None:
    with ChatServer(completion("0.5"), completion("1.0")) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.num_workers=1"))
        assert cli.run("score", score, argv) == 0
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
        assert cli.run("score", score, options("llavabench", bench, *judged(server))) == 0
    assert summary_of(tmp_path, "llavabench")["metrics"]["score"] == 0.5
    roles = [message["role"] for message in server.requests[0]["messages"]]
    assert roles == ["system", "user"]
    assert (server.requests[0]["temperature"], server.requests[0]["max_tokens"]) == (0.2, 1024)


def test_stored_replies_are_never_asked_for_again(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer() as server:
        argv = options("mmvet", mmvet, *judged(server))
        assert cli.run("score", score, argv) == 0
        first = (tmp_path / "out/mmvet/summary.json").read_bytes()
        assert cli.run("score", score, argv) == 0
        assert len(server.requests) == 2
    assert "all 2 replies" in capsys.readouterr().err
    assert cli.run("score", score, argv) == 0  # the endpoint is gone by now
    assert (tmp_path / "out/mmvet/summary.json").read_bytes() == first
    assert cli.run("score", score, options("mmvet", mmvet)) == 0  # nor need it be named
    assert (tmp_path / "out/mmvet/summary.json").read_bytes() == first


def test_only_a_changed_answer_is_asked_about_again(mmvet: Path, tmp_path: Path) -> None:
    with ChatServer() as server:
        argv = options("mmvet", mmvet, *judged(server))
        assert cli.run("score", score, argv) == 0
        answers = [{"question_id": "0", "text": "New."}, {"question_id": "1", "text": "Answer 1."}]
        put_lines(tmp_path / "answers.jsonl", answers)
        assert cli.run("score", score, argv) == 0
    assert len(server.requests) == 3
    assert "New." in server.prompts[2]


def test_runs_of_a_judge_are_averaged_and_can_be_added(mmvet: Path, tmp_path: Path) -> None:
    grades = iter(["0.0", "0.0", "1.0", "1.0"])
    with ChatServer(otherwise=lambda _: completion(next(grades))) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.num_workers=1"))
        assert cli.run("score", score, argv) == 0
        assert summary_of(tmp_path)["metrics"] == {"score": 0.0, "score_deviation": 0.0}
        assert cli.run("score", score, [*argv, "judge.num_runs=2"]) == 0
        assert summary_of(tmp_path)["metrics"] == {"score": 0.5, "score_deviation": 0.5}
        assert cli.run("score", score, argv) == 0  # the first run alone
        assert summary_of(tmp_path)["metrics"]["score"] == 0.0
    assert len(server.requests) == 4


def test_judges_are_kept_apart(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(completion("0.0"), completion("0.0")) as server:
        found = []
        for model in ("judge.model=first", "judge.model=second"):
            argv = options("mmvet", mmvet, *judged(server, model))
            assert cli.run("score", score, argv) == 0
            found.append(summary_of(tmp_path))
    assert [s["metrics"]["score"] for s in found] == [0.0, 1.0]
    assert [s["definition"] for s in found] == ["mmvet_first/1", "mmvet_second/1"]
    assert found[0]["hashes"]["scorer"] != found[1]["hashes"]["scorer"]
    assert cli.run("score", score, options("mmvet", mmvet)) == 2
    assert "several judges" in capsys.readouterr().err
    assert cli.run("score", score, options("mmvet", mmvet, "judge.model=first")) == 0
    assert summary_of(tmp_path)["metrics"]["score"] == 0.0


def test_one_name_at_two_endpoints_is_two_judges(mmvet: Path, tmp_path: Path) -> None:
    hashes = []
    for text in ("0.0", "1.0"):
        with ChatServer(otherwise=lambda _, text=text: completion(text)) as server:
            assert cli.run("score", score, options("mmvet", mmvet, *judged(server))) == 0
        hashes.append(summary_of(tmp_path)["hashes"]["scorer"])
        assert summary_of(tmp_path)["metrics"]["score"] == float(text)
    assert len(set(hashes)) == 2


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


@pytest.mark.parametrize("name", PASSING)
def test_call_that_fails_in_passing_is_repeated(name: str, mmvet: Path, tmp_path: Path) -> None:
    with ChatServer(PASSING[name], PASSING[name]) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.num_workers=1"))
        assert cli.run("score", score, argv) == 0
    assert len(server.requests) == 4
    assert summary_of(tmp_path)["metrics"]["score"] == 1.0


def test_waits_double_and_heed_the_endpoint(mmvet: Path) -> None:
    answers = [failure(500), failure(500), failure(429, Retry_After="0.3")]
    with ChatServer(*answers) as server:
        more = ["judge.num_workers=1", "judge.backoff_s=0.05"]
        argv = options("mmvet", mmvet, *judged(server, *more))
        assert cli.run("score", score, argv) == 0
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
        assert cli.run("score", score, argv) == 1
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
    assert cli.run("score", score, argv) == 1
    assert "no reply in 2 attempts" in capsys.readouterr().err


def test_unreadable_grade_is_asked_for_again_and_found_again(mmvet: Path, tmp_path: Path) -> None:
    with ChatServer(completion("I think"), completion("well"), completion("0.5")) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.num_workers=1"))
        assert cli.run("score", score, argv) == 0
        assert cli.run("score", score, argv) == 0
    assert [r["temperature"] for r in server.requests] == [0.0, 0.5, 1.0, 0.0]
    assert summary_of(tmp_path)["metrics"]["score"] == 0.75


def test_judge_that_never_grades_scores_zero_and_is_left_alone(mmvet: Path, tmp_path: Path) -> None:
    with ChatServer(otherwise=lambda _: completion("no")) as server:
        argv = options("mmvet", mmvet, *judged(server))
        assert cli.run("score", score, argv) == 0
        assert cli.run("score", score, argv) == 0
        assert len(server.requests) == 10
    summary = summary_of(tmp_path)
    assert (summary["metrics"]["score"], summary["num_unparsed"]) == (0.0, 2)


def test_rate_is_kept(mmvet: Path) -> None:
    with ChatServer() as server:
        more = ["judge.requests_per_minute=600", "judge.num_runs=3", "judge.num_workers=6"]
        assert cli.run("score", score, options("mmvet", mmvet, *judged(server, *more))) == 0
    times = sorted(server.times)
    assert times[-1] - times[0] >= 0.45  # six calls, five gaps of a tenth of a second


def test_cost_is_estimated_first_and_stops_before_anything_is_spent(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer() as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.max_cost=0.01"))
        assert cli.run("score", score, argv) == 2
        said = capsys.readouterr().err
        assert server.requests == []
        assert "2 calls of gpt-4-0613" in said
        assert "judge.max_cost=0.01" in said
        assert not list((tmp_path / "out").rglob("judge-*"))
        assert cli.run("score", score, [*argv, "judge.max_cost=1"]) == 0
    assert "$0.0062" in capsys.readouterr().err  # 200 tokens at 30 and 4 at 60 a million


def test_spending_stops_at_the_limit_and_goes_on_with_a_larger_one(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(completion("0.5", usage=(10**6, 0))) as server:
        more = ["judge.num_workers=1", "judge.price=[30,60]", "judge.max_cost=1"]
        argv = options("mmvet", mmvet, *judged(server, *more))
        assert cli.run("score", score, argv) == 1
        assert "$30.0000 is spent" in capsys.readouterr().err
        assert len(server.requests) == 1
        assert cli.run("score", score, argv) == 0  # what is stored costs nothing
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
        (["judge=cheapest"], "judge/cheapest"),
        (["judge=openai", "tasks.mmvet.replies=r.json"], "replies"),
    ],
)
def test_wrong_option_is_one_paragraph_that_names_it(
    more: list[str], named: str, mmvet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run("score", score, options("mmvet", mmvet, *more)) == 2
    said = capsys.readouterr().err
    assert named in said
    assert "Traceback" not in said


def test_judge_for_a_task_without_one_is_refused(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_lines(tmp_path / "q.jsonl", [{"question_id": 1, "text": "a", "answer": "b"}])
    argv = ["task=custom", "tasks.custom.questions=q.jsonl", "tasks.custom.scorer=exact"]
    argv += ["predictions=answers.jsonl", "output=out", "judge=openai"]
    assert cli.run("score", score, argv) == 2
    assert "no judge grades custom" in capsys.readouterr().err


def test_without_a_judge_the_answers_count_and_what_is_missing_is_said(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run("score", score, options("mmvet", mmvet)) == 1
    said = capsys.readouterr().err
    assert "judge=openai" in said
    assert "tasks.mmvet.replies=FILE" in said
    summary = summary_of(tmp_path)
    assert (summary["metrics"], summary["judge"], summary["num_answered"]) == ({}, None, 2)


def test_given_replies_score_offline(mmvet: Path, tmp_path: Path) -> None:
    argv = options("mmvet", mmvet, f"tasks.mmvet.replies={mmvet}/grades.json")
    assert cli.run("score", score, [*argv, "tasks.mmvet.judge=j"]) == 0
    summary = summary_of(tmp_path)
    assert (summary["metrics"]["score"], summary["judge"]["model"]) == (1.0, "j")


def test_key_is_sent_and_never_stored(
    mmvet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-private")
    with ChatServer() as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.api_key_env=MY_KEY"))
        assert cli.run("score", score, argv) == 0
    assert server.keys == ["Bearer sk-private"] * 2
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in files if b"sk-private" in path.read_bytes()]


def test_two_processes_cannot_ask_the_same_judge(
    mmvet: Path, tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(delay_s=3) as server:
        argv = options("mmvet", mmvet, *judged(server))
        process = start(f"python -m runners.score {' '.join(argv)}", tmp_path)
        wait_for(lambda: server.requests)
        assert cli.run("score", score, argv) == 2
        assert "another process" in capsys.readouterr().err
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert len(server.requests) == 2


def wait_for(condition: Callable[[], object], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def slow_server() -> Iterator[ChatServer]:
    with ChatServer(delay_s=0.15) as server:
        yield server


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_repeated_it_goes_on_where_it_was(
    signum: signal.Signals, slow_server: ChatServer, mmvet: Path, tmp_path: Path, start: Start
) -> None:
    more = ["judge.num_runs=5", "judge.num_workers=1"]
    argv = options("mmvet", mmvet, *judged(slow_server, *more))
    process = start(f"python -m runners.score {' '.join(argv)}", tmp_path)
    wait_for(lambda: len(slow_server.requests) >= 4)
    os.killpg(process.pid, signum)
    process.communicate(timeout=60)
    assert process.returncode == (130 if signum == signal.SIGINT else -signal.SIGKILL)
    stored = sum(len(p.read_bytes().splitlines()) for p in tmp_path.rglob("run-*.jsonl"))
    assert stored >= 3
    [path] = tmp_path.rglob("run-0.jsonl")
    path.write_bytes(path.read_bytes() + b'{"question_id": "v1_1", "cont')  # a torn line
    asked_before = len(slow_server.requests)
    assert cli.run("score", score, argv) == 0
    assert len(slow_server.requests) - asked_before == 10 - stored
    assert summary_of(tmp_path)["metrics"]["score"] == 1.0


@pytest.mark.parametrize(
    "record", ["{", "[]", '{"model": "j"}', '{"model": {"_target_": "os.system"}, "num_runs": 1}']
)
def test_spoiled_record_of_a_judge_is_bad_input(
    record: str, mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out/mmvet/judge-x/judge.json"
    path.parent.mkdir(parents=True)
    path.write_text(record)
    assert cli.run("score", score, options("mmvet", mmvet)) == 2
    assert "judge-x/judge.json" in capsys.readouterr().err
