"""A run that is interrupted or killed, and goes on to the same bytes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from runners.storage.stored import StoredTask
from tests.faults.engines import held
from tests.runners.conftest import (
    TIMEOUT_S,
    Finished,
    Shell,
    Start,
    promised_bytes,
    read_lines,
)


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for_answers(program: subprocess.Popen[str], predictions: Path, number: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not predictions.exists() or predictions.read_bytes().count(b"\n") < number:
        assert program.poll() is None, program.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def end_of(program: subprocess.Popen[str]) -> str:
    """Waits until a program has ended, kills it if it does not, and returns what it said."""
    try:
        return program.communicate(timeout=TIMEOUT_S)[1]
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        raise


def interrupt(program: subprocess.Popen[str], predictions: Path, after: int, signum: int) -> str:
    """Sends a signal once that many answers are stored, and returns what was said on stderr."""
    wait_for_answers(program, predictions, after)
    workers = children_of(program.pid)
    if signum == signal.SIGKILL:
        os.kill(program.pid, signum)
    else:
        os.killpg(program.pid, signum)  # as a terminal does: to every process of the group
    said = end_of(program)
    deadline = time.monotonic() + TIMEOUT_S
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    return said


@pytest.mark.slow
def test_interrupted_run_goes_on_to_the_same_bytes(
    shell: Shell, start: Start, demo_run: Finished, demo_options: str, tmp_path: Path
) -> None:
    command = f"python -m runners.eval {demo_options} run=demo"
    results = tmp_path / "results" / "demo"
    points = [
        ("gqa", 1, signal.SIGKILL, -9),
        ("gqa", 12, signal.SIGINT, 130),
        ("vqav2", 5, signal.SIGKILL, -9),
        ("vqav2", 10, signal.SIGTERM, 143),
    ]
    stored = 0
    for task, num_answers, signum, code in points:
        program = start(command, tmp_path)
        said = interrupt(program, results / task / "predictions.jsonl", num_answers, signum)
        assert program.returncode == code, said
        if signum != signal.SIGKILL:
            assert "To go on: python -m runners.eval" in said
            assert "Traceback" not in said
        now = sum(len(path.read_bytes()) for path in results.glob("*/predictions.jsonl"))
        assert now > stored
        stored = now
        assert not (results / task / "summary.json").exists()
    finished = shell(command, tmp_path)
    assert finished.code == 0
    assert re.search(r"vqav2: \d+ of \d+ answers are there", finished.stderr)
    assert finished.stdout == demo_run.stdout
    assert promised_bytes(tmp_path / "results/demo") == promised_bytes(
        demo_run.workspace / "results/demo"
    )
    history = json.loads((results / "gqa" / "manifest.json").read_text())["history"]
    assert [line["num_stored"] for line in history] == sorted(
        line["num_stored"] for line in history
    )
    assert len(history) == 2  # the second session ended with the last item of this task


@pytest.mark.slow
def test_packed_run_killed_and_resumed_ends_in_the_sequential_bytes(
    shell: Shell, start: Start, demo_run: Finished, demo_options: str, tmp_path: Path
) -> None:
    options = demo_options.replace("engine=sequential", "engine=packed")
    command = f"python -m runners.eval {options} run=demo"
    results = tmp_path / "results" / "demo"
    program = start(command, tmp_path)
    interrupt(program, results / "gqa" / "predictions.jsonl", 1, signal.SIGKILL)
    finished = shell(command, tmp_path)
    assert finished.code == 0
    for task in ("gqa", "vqav2"):
        for name in ("predictions.jsonl", "scores.jsonl"):
            expected = demo_run.workspace / "results" / "demo" / task / name
            assert (results / task / name).read_bytes() == expected.read_bytes()
    summary = json.loads((results / "gqa" / "summary.json").read_text())
    assert summary["batch_check"]["flipped"] == 0


@pytest.mark.slow
def test_interrupt_while_the_worker_starts_is_quiet(
    start: Start, demo_options: str, tmp_path: Path
) -> None:
    program = start(f"python -m runners.eval {demo_options} ++overwrite=true", tmp_path)
    while not children_of(program.pid):
        assert program.poll() is None
        time.sleep(0.005)
    time.sleep(0.2)
    os.killpg(program.pid, signal.SIGINT)
    said = program.communicate(timeout=TIMEOUT_S)[1]
    assert program.returncode == 130
    assert "Traceback" not in said
    assert "To go on: python -m runners.eval" in said
    has_begun = any((tmp_path / "results").rglob("*.lock"))
    assert has_begun or "++overwrite=true" in said.partition("To go on: ")[2]


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_item_in_flight_is_finished_and_stored_and_no_other_is_begun(
    signum: int, code: int, start: Start, demo_run: Finished, demo_options: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    answers = tmp_path / "results/demo/gqa/predictions.jsonl"
    options = f"{demo_options} run=demo ++overwrite=true runner.grace_s={TIMEOUT_S}"
    options = options.replace("engine=sequential", held(go, num_before=2))
    program = start(f"python -m tests.faults.eval {options}", tmp_path)
    wait_for_answers(program, answers, 2)
    os.killpg(program.pid, signum)
    while "what is being computed is finished" not in (line := program.stderr.readline()):
        assert line, "it has ended without a word"
    time.sleep(1)
    assert program.poll() is None
    assert len(read_lines(answers)) == 2
    go.touch()
    said = end_of(program)
    assert program.returncode == code, said
    assert "To go on: python -m runners.eval" in said
    assert "overwrite" not in said.partition("To go on: ")[2]  # it would set these answers aside
    log, number = (tmp_path / "results/demo/run.log").read_text(), len(read_lines(answers))
    both = re.search(rf"Stopped. {number} of (\d+) answers are stored. To go on: ", said)
    assert both
    assert both[0] in log
    listed = StoredTask(answers.parent).manifest
    assert listed is not None
    assert number <= (listed.num_questions or 0) < int(both[1])
    expected = read_lines(demo_run.workspace / "results/demo/gqa/predictions.jsonl")
    keys = [line["metadata"]["key"] for line in read_lines(answers)]
    assert sorted(keys) == sorted(line["metadata"]["key"] for line in expected)
    assert not (tmp_path / "results/demo/vqav2").exists()


@pytest.mark.slow
def test_sigterm_waits_no_longer_than_its_grace_for_what_does_not_end(
    start: Start, demo_options: str, tmp_path: Path
) -> None:
    never = tmp_path / "never"
    answers = tmp_path / "results/demo/gqa/predictions.jsonl"
    options = f"{demo_options} run=demo runner.grace_s=1"
    options = options.replace("engine=sequential", held(never, num_before=2))
    program = start(f"python -m tests.faults.eval {options}", tmp_path)
    said = interrupt(program, answers, 2, signal.SIGTERM)
    assert program.returncode == 143, said
    assert "To go on: python -m runners.eval" in said
    assert "Traceback" not in said
    assert len(read_lines(answers)) == 2
