"""Replies on disk: asked for once, whatever happens in between."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.errors import ConfigError, StoreError
from runners.options import program
from runners.score import score
from runners.scoring.replies import ReplyStore, run_path
from runners.storage.lock import FolderLock
from tests.evals.small_data import put_lines
from tests.runners.chat_server import Answer, ChatServer, completion, failure
from tests.runners.conftest import Start
from tests.runners.scoring.conftest import judged, options, summary_of


def test_stored_replies_are_never_asked_for_again(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer() as server:
        argv = options("mmvet", mmvet, *judged(server))
        assert program.run("score", score, argv) == 0
        first = (tmp_path / "out/mmvet/summary.json").read_bytes()
        assert program.run("score", score, argv) == 0
        assert len(server.requests) == 2
    assert "all 2 replies" in capsys.readouterr().err
    assert program.run("score", score, argv) == 0  # the endpoint is gone by now
    assert (tmp_path / "out/mmvet/summary.json").read_bytes() == first
    assert program.run("score", score, options("mmvet", mmvet)) == 0  # nor need it be named
    assert (tmp_path / "out/mmvet/summary.json").read_bytes() == first


def test_only_a_changed_answer_is_asked_about_again(mmvet: Path, tmp_path: Path) -> None:
    with ChatServer() as server:
        argv = options("mmvet", mmvet, *judged(server))
        assert program.run("score", score, argv) == 0
        answers = [{"question_id": "0", "text": "New."}, {"question_id": "1", "text": "Answer 1."}]
        put_lines(tmp_path / "answers.jsonl", answers)
        assert program.run("score", score, argv) == 0
    assert len(server.requests) == 3
    assert "New." in server.prompts[2]


def test_unreadable_grade_is_asked_for_again_and_found_again(mmvet: Path, tmp_path: Path) -> None:
    with ChatServer(completion("I think"), completion("well"), completion("0.5")) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.num_workers=1"))
        assert program.run("score", score, argv) == 0
        assert program.run("score", score, argv) == 0
    assert [r["temperature"] for r in server.requests] == [0.0, 0.5, 1.0, 0.0]
    assert summary_of(tmp_path)["metrics"]["score"] == 0.75


def test_judge_that_never_grades_gives_no_score_and_is_left_alone(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(otherwise=lambda _: completion("no")) as server:
        argv = options("mmvet", mmvet, *judged(server))
        assert program.run("score", score, argv) == 1
        assert program.run("score", score, argv) == 1
        assert len(server.requests) == 10
        assert program.run("score", score, [*argv, "judge.retry_failed=true"]) == 1
        assert len(server.requests) == 20
    summary = summary_of(tmp_path)
    assert (summary["metrics"]["score"], summary["num_unparsed"]) == (None, 2)
    assert summary["num_failed"] == {"judge_unread": 2}
    assert "could not be read" in capsys.readouterr().err


def refusal(finish_reason: str = "stop", **message: object) -> Answer:
    """A reply without a text."""
    status, body, headers = completion(None)
    content = json.loads(body)
    content["choices"][0]["finish_reason"] = finish_reason
    content["choices"][0]["message"].update(message)
    return status, json.dumps(content), headers


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    ("answer", "num_calls"),
    [
        (refusal("content_filter"), 1),
        (refusal("length"), 1),
        (refusal(refusal="I must not."), 1),
        (failure(400, "content_policy_violation"), 1),
        (failure(413), 1),
        (failure(422), 1),
        (refusal(), 2),
        ((200, '{"choices": []}', {}), 2),
        ((200, '{"choices": [{"message": null}]}', {}), 2),
    ],
)
def test_what_the_judge_refuses_is_a_failure_of_one_question_and_final(
    answer: Answer,
    num_calls: int,
    mmvet: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def reply(request: dict[str, Any]) -> Answer:
        is_odd = "Answer 0." in request["messages"][-1]["content"]
        return answer if is_odd else completion("1.0")

    with ChatServer(otherwise=reply) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.max_retries=1"))
        for _ in range(2):
            assert program.run("score", score, argv) == 1
            summary = summary_of(tmp_path)
            assert summary["num_failed"] == {"judge_refused": 1}
            assert (summary["num_answered"], summary["metrics"]["score"]) == (1, 0.5)
            assert summary["metrics_answered"]["score"] == 1.0
            assert "question v1_0" in capsys.readouterr().err
        assert len(server.requests) == num_calls + 1
        assert program.run("score", score, [*argv, "judge.retry_failed=true"]) == 1
        assert len(server.requests) == 2 * num_calls + 1
    assert program.run("score", score, options("mmvet", mmvet)) == 1  # nobody is asked
    assert summary_of(tmp_path)["num_failed"] == {"judge_refused": 1}


def test_endpoint_that_fails_for_one_question_is_asked_again(mmvet: Path, tmp_path: Path) -> None:
    fails = True

    def reply(request: dict[str, Any]) -> Answer:
        is_odd = "Answer 0." in request["messages"][-1]["content"]
        return failure(500) if is_odd and fails else completion("1.0")

    with ChatServer(otherwise=reply) as server:
        argv = options("mmvet", mmvet, *judged(server, "judge.max_retries=1"))
        assert program.run("score", score, argv) == 1
        assert summary_of(tmp_path)["num_failed"] == {"judge_silent": 1}
        fails = False
        assert program.run("score", score, argv) == 0
        assert len(server.requests) == 4
    assert summary_of(tmp_path)["metrics"]["score"] == 1.0


def test_stored_failure_of_an_unknown_cause_is_asked_again(mmvet: Path, tmp_path: Path) -> None:
    def reply(request: dict[str, Any]) -> Answer:
        is_odd = "Answer 0." in request["messages"][-1]["content"]
        return (
            refusal("content_filter") if is_odd and len(server.requests) < 3 else completion("1.0")
        )

    with ChatServer(otherwise=reply) as server:
        argv = options("mmvet", mmvet, *judged(server))
        assert program.run("score", score, argv) == 1
        [path] = (tmp_path / "out/mmvet").glob("judge-*/run-0.jsonl")
        path.write_text(path.read_text().replace("judge_refused", "somebody's own"))
        server.requests.extend([{}] * 3)
        assert program.run("score", score, argv) == 0
    assert summary_of(tmp_path)["num_failed"] == {}


def test_judge_without_any_text_gives_no_figure(
    mmvet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(otherwise=lambda _: refusal("content_filter")) as server:
        argv = options("mmvet", mmvet, *judged(server))
        for _ in range(2):
            assert program.run("score", score, argv) == 1
            assert "judge.retry_failed=true" in capsys.readouterr().err
        assert len(server.requests) == 2
    assert not (tmp_path / "out/mmvet/scores.jsonl").exists()


def wait_for(condition: Callable[[], object], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def slow_server() -> Iterator[ChatServer]:
    with ChatServer(delay_s=0.15) as server:
        yield server


@pytest.mark.slow
def test_two_processes_cannot_ask_the_same_judge(
    mmvet: Path, tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(delay_s=3) as server:
        argv = options("mmvet", mmvet, *judged(server))
        process = start(f"python -m runners.score {' '.join(argv)}", tmp_path)
        wait_for(lambda: server.requests)
        assert program.run("score", score, argv) == 2
        assert "another process" in capsys.readouterr().err
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert len(server.requests) == 2


def test_disk_without_locks_is_refused(
    mmvet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with ChatServer() as server:
        assert program.run("score", score, options("mmvet", mmvet, *judged(server))) == 2
    said = capsys.readouterr().err
    assert "without locks" in said
    assert "output=DIR" in said
    assert server.requests == []


@pytest.mark.parametrize(
    "signum", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
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
    assert program.run("score", score, argv) == 0
    assert len(slow_server.requests) - asked_before == 10 - stored
    assert summary_of(tmp_path)["metrics"]["score"] == 1.0


def num_stored(folder: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in folder.rglob("run-*.jsonl"))


@pytest.fixture
def begin(mmvet: Path, tmp_path: Path, start: Start) -> Iterator[Callable[..., Any]]:
    """Starts asking a server about ten replies, two at a time; the program ends with the test."""
    programs = []

    def run(server: ChatServer) -> subprocess.Popen[str]:
        argv = options("mmvet", mmvet, *judged(server, "judge.num_runs=5", "judge.num_workers=2"))
        programs.append(start(f"python -m runners.score {' '.join(argv)}", tmp_path))
        wait_for(lambda: len(server.requests) >= 2)
        return programs[-1]

    yield run
    for started in programs:
        started.kill()
        started.communicate()


@pytest.mark.slow
def test_first_interrupt_stores_what_is_paid_for(begin: Callable[..., Any], tmp_path: Path) -> None:
    with ChatServer(delay_s=3) as server:
        program = begin(server)
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=60)
        assert program.returncode == 130, said
    assert 2 <= num_stored(tmp_path) == len(server.requests) < 10
    assert said.count("Interrupted") == 1
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("num_more", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_second_interrupt_waits_for_no_reply(
    num_more: int, begin: Callable[..., Any], tmp_path: Path
) -> None:
    with ChatServer(delay_s=60) as server:
        program = begin(server)
        program.send_signal(signal.SIGINT)
        while "Interrupted" not in (line := program.stderr.readline()):
            assert line, "it has ended"
        time.sleep(1)
        assert program.poll() is None
        began = time.monotonic()
        for _ in range(num_more):
            program.send_signal(signal.SIGINT)
            time.sleep(0.1)
        _, said = program.communicate(timeout=120)
        assert time.monotonic() - began < 20  # a second or two unless the machine is busy
        assert program.returncode == 130, said
        assert len(server.requests) == 2
    assert num_stored(tmp_path) == 0
    assert not list(tmp_path.rglob("judge.json"))
    assert "Traceback" not in said


def test_reply_that_comes_too_late_is_not_written(tmp_path: Path) -> None:
    place = tmp_path / "judge"
    with FolderLock(place) as lock:
        store = ReplyStore(place, 0, "m", lock)
        store.add("1", "a", "in time")
        store.close()
        before = run_path(place, 0).read_bytes()
        with pytest.raises(ValueError, match="too late"):
            store.add("2", "b", "late")
    assert store.find("2", "b") is None
    assert run_path(place, 0).read_bytes() == before


def test_reply_after_the_lock_was_removed_is_not_written(tmp_path: Path) -> None:
    """Another process may have the folder by then."""
    place = tmp_path / "judge"
    with FolderLock(place) as lock:
        store = ReplyStore(place, 0, "m", lock)
        store.add("1", "a", "in time")
        (tmp_path / ".judge.lock").unlink()
        with pytest.raises(StoreError, match=r"\.judge\.lock was removed"):
            store.add("2", "b", "late")
    assert len(run_path(place, 0).read_text().splitlines()) == 1


def test_replies_are_written_through_no_link(tmp_path: Path) -> None:
    place = tmp_path / "judge"
    place.mkdir()
    (tmp_path / "mine").write_text("")
    run_path(place, 0).symlink_to(tmp_path / "mine")
    with FolderLock(place) as lock, pytest.raises(ConfigError, match="is a link to"):
        ReplyStore(place, 0, "m", lock).add("1", "a", "0.5")
    assert not (tmp_path / "mine").read_text()
