from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llava.generation.request import Completion, GenerationConfig, Request, RequestFailure
from runners.errors import ConfigError, WorkerError
from runners.workers.local import LocalWorker
from runners.workers.messages import (
    Answered,
    FromWorker,
    ItemDone,
    LoadModel,
    ModelLoaded,
    Stop,
    WorkItem,
)

DEADLINE_S = 60
ENGINE = {"_target_": "llava.generation.sequential.SequentialEngine"}


@pytest.fixture
def worker() -> Iterator[LocalWorker]:
    with LocalWorker(num_threads=1) as started:
        started.start("cpu")
        yield started


def load(worker: LocalWorker, checkpoint: Path) -> ModelLoaded:
    order = LoadModel(
        path=str(checkpoint), base=None, name=checkpoint.name, dtype="float32", engine=ENGINE
    )
    return worker.load(order)


def item(number: int, *keys: str, max_new_tokens: int = 2) -> WorkItem:
    generation = GenerationConfig(max_new_tokens=max_new_tokens)
    ids = np.array([1, 300, 301, 302], dtype=np.int32)
    requests = tuple(Request(key=key, prompt_ids=ids, generation=generation) for key in keys)
    return WorkItem(number=number, requests=requests)


def next_message(worker: LocalWorker) -> FromWorker:
    deadline = time.monotonic() + DEADLINE_S
    while (message := worker.receive(0.5)) is None:
        assert time.monotonic() < deadline
    return message


def test_items_are_answered_in_turn_and_the_worker_can_be_stopped(
    worker: LocalWorker, tiny_checkpoint: Path
) -> None:
    ready = worker.wait_until_ready()
    assert (ready.device, ready.default_dtype) == ("cpu", "float32")
    assert ready.environment["num_threads"] == 1
    loaded = load(worker, tiny_checkpoint)
    assert loaded.load_s > 0
    assert loaded.report["content_hash"]

    broken = Request(key="broken", prompt_ids=np.array([1, -200], dtype=np.int32))
    worker.send(WorkItem(number=1, requests=(*item(1, "a").requests, broken)))
    worker.send(item(2, "c"))
    messages = [next_message(worker) for _ in range(3)]
    first, second, done = messages
    assert isinstance(first, Answered)
    assert isinstance(first.result, Completion)
    assert first.result.key == "a"
    assert isinstance(second, Answered)
    assert isinstance(second.result, RequestFailure)
    assert second.result.key == "broken"
    assert done == ItemDone(number=1, stopped=False)
    assert isinstance(next_message(worker), Answered)
    assert next_message(worker) == ItemDone(number=2, stopped=False)

    worker.send(item(3, *map(str, range(500)), max_new_tokens=64))
    assert isinstance(next_message(worker), Answered)
    worker.send(Stop())
    num_more = 0
    while isinstance(message := next_message(worker), Answered):
        num_more += 1
    assert message == ItemDone(number=3, stopped=True)
    assert num_more < 499


def test_broken_checkpoint_is_told_and_ends_the_worker(worker: LocalWorker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        load(worker, tmp_path)


def test_killed_worker_is_noticed(worker: LocalWorker) -> None:
    assert worker._process is not None
    assert worker._process.pid is not None
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="same command"):
        next_message(worker)


def test_device_that_is_not_there_is_named() -> None:
    with LocalWorker(num_threads=1) as worker:
        worker.start("cuda:99")
        with pytest.raises(ConfigError, match="cuda:99"):
            worker.wait_until_ready()


def test_closing_twice_or_unstarted_does_no_harm() -> None:
    worker = LocalWorker()
    worker.close()
    worker.start("cpu")
    worker.close()
    worker.close()


def test_number_of_threads_must_be_positive() -> None:
    with pytest.raises(ValueError, match="num_threads"):
        LocalWorker(num_threads=0)
