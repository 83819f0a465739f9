"""Whatever a crash leaves of a run's files, the run goes on to the bytes of one that had none."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.storing import NUM_QUESTIONS, store_answers, write_questions
from tests.runners.conftest import CHECKOUT, read_lines

PREDICTIONS, TRACE, SCORES = "predictions.jsonl", "trace.jsonl", "scores.jsonl"
PROMISED = (PREDICTIONS, SCORES)
TASK = "run/custom"


def promised(folder: Path) -> dict[str, bytes]:
    return {name: (folder / TASK / name).read_bytes() for name in PROMISED}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("whole")
    write_questions(folder)
    assert store_answers(folder).num_answered == NUM_QUESTIONS
    return folder


def killed(folder: Path, step: str, after: int) -> None:
    """Runs the task in a process that dies at a step."""
    trap = ["--step", step, "--after", str(after), "--"]
    finished = subprocess.run(
        [sys.executable, "-m", "tests.faults.storing", *trap, str(folder)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr or f"{step} was not reached"


STEPS = [
    ("stored line", 5, 5),
    ("trace.jsonl line", 4, 3),
    ("predictions.jsonl line", 9, 9),
    ("torn trace.jsonl line", 3, 2),
    ("torn predictions.jsonl line", 6, 5),
    ("before rename of manifest.json", 1, 0),
    ("after rename of manifest.json", 1, 0),
    ("before fsync", 6, 0),
    ("before rename of predictions.jsonl", 1, 9),
    ("after rename of predictions.jsonl", 1, 9),
    ("before rename of trace.jsonl", 1, 9),
    ("after rename of trace.jsonl", 1, 9),
    ("before rename of scores.jsonl", 1, 9),
    ("before rename of summary.json", 1, 9),
    ("after rename of summary.json", 1, 9),
]


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(("step", "after", "num_stored"), STEPS, ids=[step for step, *_ in STEPS])
def test_kill_at_any_step_of_storing_costs_only_what_was_not_stored(
    step: str, after: int, num_stored: int, whole: Path, tmp_path: Path
) -> None:
    write_questions(tmp_path)
    killed(tmp_path, step, after)
    summary = store_answers(tmp_path)
    assert summary.num_answered == NUM_QUESTIONS
    assert promised(tmp_path) == promised(whole)
    history = json.loads((tmp_path / TASK / "manifest.json").read_text())["history"]
    if num_stored < NUM_QUESTIONS:
        assert history[-1]["num_stored"] == num_stored
    attempts = [line["attempts"] for line in read_lines(tmp_path / TASK / TRACE)]
    assert sum(attempts) <= NUM_QUESTIONS + 1
    # Figures are written without the lock too, so that scratch of theirs may be another's.
    left = {path.name.split(".")[1] for path in (tmp_path / TASK).glob(".*.tmp")}
    assert left <= {"scores", "summary"}


@pytest.mark.slow
def test_run_killed_ten_times_ends_in_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    chance = random.Random(6)
    write_questions(tmp_path)
    for _ in range(10):
        step = chance.choice(["stored line", "trace.jsonl line", "torn predictions.jsonl line"])
        stored = tmp_path / TASK / PREDICTIONS
        if stored.exists() and stored.read_bytes().count(b"\n") >= NUM_QUESTIONS - 1:
            break
        killed(tmp_path, step, 1)
    store_answers(tmp_path)
    assert promised(tmp_path) == promised(whole)


def unfinished(folder: Path, whole: Path) -> Path:
    """All answers as they were appended, in another order than the benchmark's; not finished."""
    write_questions(folder)
    task = folder / TASK
    task.mkdir(parents=True)
    (task / "manifest.json").write_bytes((whole / TASK / "manifest.json").read_bytes())
    for name in (PREDICTIONS, TRACE):
        lines = (whole / TASK / name).read_bytes().splitlines(keepends=True)
        (task / name).write_bytes(b"".join(reversed(lines)))
    return task


@pytest.mark.parametrize("seed", range(40))
def test_power_cut_that_keeps_any_part_of_either_file_loses_nothing_else(
    seed: int, whole: Path, tmp_path: Path
) -> None:
    task = unfinished(tmp_path, whole)
    chance = random.Random(seed)
    whole_lines = {}
    for name in (PREDICTIONS, TRACE):
        content = (task / name).read_bytes()
        place = chance.randrange(len(content))
        zeros = bytes(chance.choice([0, 0, 100]))  # blocks that were given but never written
        (task / name).write_bytes(content[:place] + zeros)
        whole_lines[name] = content[:place].count(b"\n")
    store_answers(tmp_path)
    assert promised(tmp_path) == promised(whole)
    history = json.loads((task / "manifest.json").read_text())["history"]
    assert history[-1]["num_stored"] == min(whole_lines.values())


def flip_in_the_middle(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    lines[4] = lines[4].replace(b"it is", b"it iz")
    return b"".join(lines)


def change_tokens(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"num_new_tokens": 2', b'"num_new_tokens": 7')
    return b"".join(lines)


def zero_a_block(content: bytes) -> bytes:
    return content[:300] + bytes(500) + content[800:]


def cut_a_line_short(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([*lines[:3], lines[3][:40] + b"\n", *lines[4:]])


def join_two_lines(content: bytes) -> bytes:
    return content.replace(b"\n", b"", 1)


def put_foreign_lines(content: bytes) -> bytes:
    foreign = b'notes of mine\n{"question_id": 3, "text": "it is nothing", "metadata": {}}\n[1]\n'
    return foreign[:14] + content + foreign[14:]


def double_every_line(content: bytes) -> bytes:
    return b"".join(line * 2 for line in content.splitlines(keepends=True))


DAMAGES: list[Callable[[bytes], bytes]] = [
    zero_a_block,
    cut_a_line_short,
    join_two_lines,
    put_foreign_lines,
    double_every_line,
]


CASES = [
    *((name, damage) for name in (PREDICTIONS, TRACE) for damage in DAMAGES),
    (PREDICTIONS, flip_in_the_middle),
    (PREDICTIONS, change_tokens),
]
SEEMS_OWN = (change_tokens, double_every_line)


@pytest.mark.parametrize(
    ("name", "damage"), CASES, ids=[f"{name} {damage.__name__}" for name, damage in CASES]
)
def test_damaged_lines_are_asked_again_and_no_others(
    name: str, damage: Callable[[bytes], bytes], whole: Path, tmp_path: Path
) -> None:
    task = unfinished(tmp_path, whole)
    content = (task / name).read_bytes()
    damaged = damage(content)
    assert damaged != content
    (task / name).write_bytes(damaged)
    store_answers(tmp_path)
    assert promised(tmp_path) == promised(whole)
    assert len(read_lines(task / TRACE)) == NUM_QUESTIONS
    again = [line["key"] for line in read_lines(task / TRACE) if line["attempts"] > 1]
    assert len(again) <= 4  # the five hundred zeros lie over as many lines
    spoiled = task / (name + ".spoiled")
    kept = [line for line in damaged.split(b"\n") if line and line not in content.split(b"\n")]
    if damage not in SEEMS_OWN:
        assert spoiled.read_bytes().splitlines() == kept  # set aside, none thrown away


def test_answers_without_any_trace_are_asked_again(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = unfinished(tmp_path, whole)
    (task / TRACE).unlink()
    store_answers(tmp_path)
    assert promised(tmp_path) == promised(whole)
    assert f"{NUM_QUESTIONS} answers without their trace" in caplog.text


def test_answer_that_was_being_replaced_is_not_taken_for_the_new_one(
    whole: Path, tmp_path: Path
) -> None:
    """The trace of a second attempt is there, its answer is not: the first one is stale."""
    task = unfinished(tmp_path, whole)
    newer = json.loads((task / TRACE).read_bytes().splitlines()[0])
    newer |= {"attempts": 2, "line_sha256": "0" * 64, "image_stat": [[1, 1]]}
    with (task / TRACE).open("a") as file:
        file.write(json.dumps(newer) + "\n")
    store_answers(tmp_path)
    assert promised(tmp_path) == promised(whole)
    by_key = {line["key"]: line for line in read_lines(task / TRACE)}
    assert by_key[newer["key"]]["attempts"] == 3
    assert by_key[newer["key"]]["image_stat"] == []


def test_failures_that_were_answered_later_leave_no_line(whole: Path, tmp_path: Path) -> None:
    write_questions(tmp_path)
    store_answers(tmp_path, failing=("2", "5"))
    assert promised(tmp_path) != promised(whole)
    store_answers(tmp_path)
    assert promised(tmp_path) == promised(whole)
    assert not list((tmp_path / TASK).glob("*.spoiled"))
