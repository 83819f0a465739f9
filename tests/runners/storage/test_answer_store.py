from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from evals.records import Cause, Failure, Sample
from llava.generation.request import Completion
from runners.errors import StoreError
from runners.storage.answer_lines import (
    answer_id,
    answer_line,
    failure_line,
    is_failure,
    read_failure,
    read_prediction,
    trace_line,
)
from runners.storage.answer_store import PREDICTIONS_FILE, TRACE_FILE, AnswerStore
from tests.runners.conftest import CHECKOUT, read_lines

KEYS = ["a", "b", "c"]


def sample(key: str) -> Sample:
    return Sample(key=key, question_id=key.upper(), text=f"What is {key}?", prompt=f"{key}?")


def completion(key: str, text: str = "yes", latency_s: float = 0.1) -> Completion:
    return Completion(
        key=key,
        token_ids=(5, 2),
        text=text,
        finish_reason="stop",
        num_prompt_tokens=7,
        min_margin=0.25,
        latency_s=latency_s,
        image_sha256=("00ff",),
    )


def add_answer(store: AnswerStore, key: str, *, text: str = "yes", latency_s: float = 0.1) -> None:
    done = completion(key, text, latency_s)
    attempts = store.num_attempts(key) + 1
    store.add(
        answer_line(sample(key), done, "model"),
        trace_line(done, worker="w", attempts=attempts),
    )


def add_failure(store: AnswerStore, key: str) -> None:
    failure = Failure(key=key, cause="image_missing", message="gone")
    attempts = store.num_attempts(key) + 1
    store.add(
        failure_line(sample(key), failure, "model"),
        trace_line(failure, worker=None, attempts=attempts),
    )


def test_answers_are_on_disk_as_soon_as_they_are_added(tmp_path: Path) -> None:
    with AnswerStore(tmp_path) as store:
        for number, key in enumerate(["b", "a"], start=1):
            add_answer(store, key)
            assert len(read_lines(tmp_path / PREDICTIONS_FILE)) == number
    assert [line["metadata"]["key"] for line in read_lines(tmp_path / PREDICTIONS_FILE)] == [
        "b",
        "a",
    ]


def test_finished_files_are_in_the_order_of_the_benchmark(tmp_path: Path) -> None:
    with AnswerStore(tmp_path) as store:
        for key in ("c", "a", "b"):
            add_answer(store, key)
        store.finish(KEYS)
    assert [line["metadata"]["key"] for line in read_lines(tmp_path / PREDICTIONS_FILE)] == KEYS
    assert [line["key"] for line in read_lines(tmp_path / TRACE_FILE)] == KEYS


def test_later_answer_replaces_a_failure(tmp_path: Path) -> None:
    with AnswerStore(tmp_path) as store:
        add_failure(store, "a")
        assert store.failed() == {"a"}
    with AnswerStore(tmp_path) as store:
        assert store.failed() == {"a"}
        add_answer(store, "a")
        assert store.failed() == set()
        store.finish(KEYS)
    [line] = read_lines(tmp_path / PREDICTIONS_FILE)
    assert line["text"] == "yes"
    [trace] = read_lines(tmp_path / TRACE_FILE)
    assert trace["attempts"] == 2


@pytest.mark.parametrize("num_bytes_lost", [1, 2, 40, 150])
def test_torn_last_line_is_asked_again_and_the_bytes_are_the_same(
    tmp_path: Path, num_bytes_lost: int
) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for folder in (whole, torn):
        folder.mkdir()
        with AnswerStore(folder) as store:
            for key in KEYS:
                add_answer(store, key)
    with AnswerStore(whole) as store:
        store.finish(KEYS)
    path = torn / PREDICTIONS_FILE
    path.write_bytes(path.read_bytes()[:-num_bytes_lost])
    with AnswerStore(torn) as store:
        assert store.num_torn == 1
        assert list(store.lines) == ["a", "b"]
        add_answer(store, "c", latency_s=9.0)
        store.finish(KEYS)
    assert path.read_bytes() == (whole / PREDICTIONS_FILE).read_bytes()


def test_killed_writer_loses_no_answer_that_it_had_added(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from tests.runners.storage.test_answer_store import AnswerStore, add_answer\n"
        f"store = AnswerStore(Path({str(tmp_path)!r}))\n"
        "for number in range(10**9):\n"
        "    add_answer(store, str(number)); print(number, flush=True)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) == 200:
            os.kill(writer.pid, signal.SIGKILL)
            break
    told = [200, *(int(line) for line in writer.stdout if line.endswith("\n"))]
    writer.wait()
    writer.stdout.close()
    with AnswerStore(tmp_path) as store:
        assert {str(number) for number in range(max(told) + 1)} <= set(store.lines)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time, which stands still unless a test moves it."""
    now = [1000.0]
    monkeypatch.setattr("runners.storage.answer_store.time.monotonic", lambda: now[0])
    yield now
    monkeypatch.undo()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is put on the disk, as it happens."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to name open files")
    names: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return names


def test_answers_are_on_the_disk_within_two_seconds(
    tmp_path: Path, clock: list[float], synced: list[str]
) -> None:
    with AnswerStore(tmp_path) as store:
        add_answer(store, "a")
        assert synced == [tmp_path.name] * 2  # the new names
        synced.clear()
        for passed in (0.5, 0.5, 0.9):
            clock[0] += passed
            store.sync()
            add_answer(store, "b")
        assert synced == []
        clock[0] += 0.2
        store.sync()  # as while waiting for a worker
        assert synced == [TRACE_FILE, PREDICTIONS_FILE]
        clock[0] += 100.0
        store.sync()
        assert len(synced) == 2  # nothing has come since
        add_answer(store, "c")
        clock[0] += 2.0
        add_answer(store, "a")  # as while answers come one after the other
        assert synced[2:] == [TRACE_FILE, PREDICTIONS_FILE]
        add_answer(store, "b")
    assert synced[4:] == [TRACE_FILE, PREDICTIONS_FILE]  # on closing


def test_rewritten_file_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, scratch = Path.replace, list[str]()

    def note(path: Path, target: Path) -> Path:
        scratch.append(path.name)
        synced.append("rename")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", note)
    with AnswerStore(tmp_path) as store:
        for key in ("b", "a"):
            add_answer(store, key)
        store.close()
        synced.clear()
        store.finish(KEYS)
    assert [name.rsplit(".", 2)[0] for name in scratch] == [
        f".{PREDICTIONS_FILE}",
        f".{TRACE_FILE}",
    ]
    folder = tmp_path.name
    assert synced == [scratch[0], "rename", folder, scratch[1], "rename", folder]


def test_line_that_does_not_fit_is_not_written_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SmallDisk(FileIO):
        def write(self, data: Any) -> int:
            left = 700 - os.fstat(self.fileno()).st_size
            if left <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(bytes(data)[:left])  # as a disk does on its last bytes

    monkeypatch.setattr("runners.storage.line_file.FileIO", SmallDisk)
    store = AnswerStore(tmp_path)
    added: list[str] = []

    def fill_disk() -> None:
        for key in ("a", "b", "c", "d"):
            add_answer(store, key)
            added.append(key)

    with pytest.raises(OSError, match="No space left"):
        fill_disk()
    store.close()
    content = (tmp_path / TRACE_FILE).read_bytes()
    assert content.endswith(b"}\n")
    assert len(content) < 700
    monkeypatch.undo()
    with AnswerStore(tmp_path) as store:
        assert list(store.lines) == added
        assert (store.num_torn, store.num_spoiled) == (0, 0)


def test_nothing_in_a_prediction_depends_on_how_it_was_computed() -> None:
    lines = [answer_line(sample("a"), completion("a", latency_s=s), "model") for s in (0.1, 5.0)]
    assert lines[0] == lines[1]
    assert set(lines[0]["metadata"]) == {
        "key",
        "finish_reason",
        "num_prompt_tokens",
        "num_new_tokens",
    }


def test_answer_line_is_that_of_llava() -> None:
    line = answer_line(sample("a"), completion("a"), "model")
    assert list(line) == ["question_id", "prompt", "text", "answer_id", "model_id", "metadata"]
    assert (line["question_id"], line["prompt"], line["model_id"]) == ("A", "a?", "model")


def test_answer_id_depends_on_key_text_and_model() -> None:
    ids = {
        answer_id(*parts)
        for parts in [("a", "b", "c"), ("ab", "", "c"), ("a", "bc", ""), ("a", "b", "d")]
    }
    assert len(ids) == 4
    assert all(len(value) == 22 and int(value, 16) >= 0 for value in ids)


@pytest.mark.parametrize("cause", [Cause.IMAGE_COUNT, "a cause of another version"])
def test_failures_are_read_as_they_were_stored(cause: str) -> None:
    failure = Failure(key="b", cause=cause, message="why")
    failed = json.loads(json.dumps(failure_line(sample("b"), failure, "model")))
    assert is_failure(failed)
    assert failed["text"] == ""
    assert read_failure(failed) == failure


def test_lines_give_back_what_was_stored() -> None:
    answered = json.loads(json.dumps(answer_line(sample("a"), completion("a"), "model")))
    assert not is_failure(answered)
    prediction = read_prediction(answered)
    assert (prediction.key, prediction.question_id, prediction.text) == ("a", "A", "yes")


def test_line_in_another_form_counts_and_is_written_as_the_others(tmp_path: Path) -> None:
    with AnswerStore(tmp_path) as store:
        for key in KEYS:
            add_answer(store, key)
        store.finish(KEYS)
    path = tmp_path / PREDICTIONS_FILE
    written = path.read_bytes()
    path.write_bytes(written.replace(b'"text": "yes"', b'"text":  "yes"', 1))
    with AnswerStore(tmp_path) as store:
        assert list(store.lines) == KEYS
        assert store.num_unconfirmed == 0
        store.finish(KEYS)
    assert path.read_bytes() == written


def test_lines_are_those_of_the_disk(tmp_path: Path) -> None:
    with AnswerStore(tmp_path) as store:
        add_answer(store, "b", text='"quoted"')
        add_failure(store, "a")
        for _ in range(2):
            lines = dict(store.lines)
            assert list(lines) == ["b", "a"]
            assert (lines["b"]["text"], is_failure(lines["a"])) == ('"quoted"', True)
            assert "c" not in store.lines
            assert [store.has_answer(key) for key in ("a", "b", "c")] == [False, True, False]
            store.finish(KEYS)
        with pytest.raises(KeyError):
            store.lines["c"]


def test_answer_edited_during_a_run_stops_it_and_alone_is_asked_again(tmp_path: Path) -> None:
    answers = tmp_path / PREDICTIONS_FILE
    with AnswerStore(tmp_path) as store:
        for key in KEYS:
            add_answer(store, key)
        edited = answers.read_bytes().replace(b'"text": "yes"', b'"text": "nay"', 1)
        with answers.open("r+b") as file:  # in place
            file.write(edited)
        with pytest.raises(StoreError, match="The same command keeps what is intact"):
            store.finish(KEYS[::-1])
    with AnswerStore(tmp_path) as store:
        assert sorted(store.lines) == ["b", "c"]
        assert store.num_spoiled == 1  # its id is that of another text
        add_answer(store, "a")
        store.finish(KEYS)
    assert [line["text"] for line in read_lines(answers)] == ["yes"] * 3
