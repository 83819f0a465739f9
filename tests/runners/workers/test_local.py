from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from evals.records import Failure
from llava.generation.request import Completion, GenerationConfig, Request
from runners.errors import ConfigError
from runners.options.engine import SequentialOptions
from runners.workers.local import LocalWorker
from runners.workers.messages import (
    Answered,
    BadInput,
    Beat,
    FromWorker,
    ItemDone,
    LoadModel,
    ModelLoaded,
    Ready,
    WorkItem,
)
from runners.workers.process import Seat, choose_devices
from tests.runners.workers.processes import send_signal

DEADLINE_S = 60
ENGINE = SequentialOptions()


@pytest.fixture
def worker() -> Iterator[LocalWorker]:
    started = LocalWorker(Seat(name="local-0", device="cpu", num_threads=1))
    yield started
    started.kill()


def order(checkpoint: Path) -> LoadModel:
    return LoadModel(
        path=str(checkpoint), base=None, name=checkpoint.name, dtype="float32", engine=ENGINE
    )


def item(number: int, *keys: str, max_new_tokens: int = 2) -> WorkItem:
    generation = GenerationConfig(max_new_tokens=max_new_tokens)
    ids = np.array([1, 300, 301, 302], dtype=np.int32)
    requests = tuple(Request(key=key, prompt_ids=ids, generation=generation) for key in keys)
    return WorkItem(number=number, requests=requests)


def next_message(worker: LocalWorker) -> FromWorker:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        assert time.monotonic() < deadline
        if worker.connection.poll(0.5):
            message = worker.receive()
            if message is not None and not isinstance(message, Beat):
                return message


def test_items_are_answered_in_turn(worker: LocalWorker, tiny_checkpoint: Path) -> None:
    ready = next_message(worker)
    assert isinstance(ready, Ready)
    assert (ready.devices, ready.default_dtype) == (("cpu",), "float32")
    assert ready.hardware.num_threads == 1
    worker.send(order(tiny_checkpoint))
    loaded = next_message(worker)
    assert isinstance(loaded, ModelLoaded)
    assert loaded.load_s > 0
    assert loaded.report["content_hash"]

    broken = Request(key="broken", prompt_ids=np.array([1, -200], dtype=np.int32))
    worker.send(WorkItem(number=1, requests=(*item(1, "a").requests, broken)))
    worker.send(item(2, "c"))
    results, done = [], next_message(worker)
    while isinstance(done, Answered):  # as many together as came within a moment
        results += done.results
        done = next_message(worker)
    assert [(type(one), one.key) for one in results] == [(Completion, "a"), (Failure, "broken")]
    assert isinstance(done, ItemDone)
    assert done.number == 1
    assert done.report is not None
    assert done.report.busy_s > 0
    assert isinstance(next_message(worker), Answered)
    assert isinstance(next_message(worker), ItemDone)


@pytest.mark.slow
def test_broken_checkpoint_is_told_and_ends_the_worker(worker: LocalWorker, tmp_path: Path) -> None:
    worker.send(order(tmp_path))
    assert isinstance(next_message(worker), Ready)
    message = next_message(worker)
    assert isinstance(message, BadInput)
    assert "config.json" in message.message
    with pytest.raises(EOFError):
        next_message(worker)
    assert worker.kill(after_s=DEADLINE_S) == 0


def test_killed_worker_is_noticed(worker: LocalWorker) -> None:
    send_signal(worker, signal.SIGKILL)
    with pytest.raises(EOFError):
        next_message(worker)
    assert worker.kill(after_s=DEADLINE_S) == -signal.SIGKILL


@pytest.mark.slow
def test_worker_that_reads_nothing_does_not_hold_up_its_parent(worker: LocalWorker) -> None:
    assert isinstance(next_message(worker), Ready)
    send_signal(worker, signal.SIGSTOP)
    for number in range(300):  # far more than a pipe holds
        worker.send(item(number, *map(str, range(50))))
    assert worker.kill() == -signal.SIGKILL


@pytest.mark.slow
def test_device_that_is_not_there_is_named() -> None:
    worker = LocalWorker(Seat(name="local-0", device="cuda:99", num_threads=1))
    try:
        message = next_message(worker)
    finally:
        worker.kill()
    assert isinstance(message, BadInput)
    assert "cuda:99" in message.message


@pytest.mark.parametrize(
    ("number", "device", "num_devices", "num_visible", "expected"),
    [
        (0, None, 1, 0, ("cpu",)),
        (3, "cpu", 1, 8, ("cpu",)),
        (0, None, 1, 8, ("cuda:0",)),
        (7, "cuda", 1, 8, ("cuda:7",)),
        (2, None, 1, 2, ("cuda:0",)),  # three workers on two devices
        (1, None, 4, 8, ("cuda:4", "cuda:5", "cuda:6", "cuda:7")),
        (1, "cuda:5", 1, 8, ("cuda:5",)),  # two workers on one device
        (0, "cuda:2", 2, 8, ("cuda:2", "cuda:3")),
    ],
)
def test_workers_take_the_devices_in_turn(
    number: int, device: str | None, num_devices: int, num_visible: int, expected: tuple[str, ...]
) -> None:
    seat = Seat(name="w", number=number, device=device, num_devices=num_devices)
    assert choose_devices(seat, num_visible) == expected


@pytest.mark.parametrize(
    ("device", "num_devices", "num_visible"),
    [(None, 2, 1), (None, 2, 0), ("cpu", 2, 4), ("cuda", 1, 0), ("cuda:4", 1, 4)],
)
def test_too_few_devices_are_bad_input(
    device: str | None, num_devices: int, num_visible: int
) -> None:
    with pytest.raises(ConfigError, match=r"devices_per_worker|cuda|cpu"):
        choose_devices(Seat(name="w", device=device, num_devices=num_devices), num_visible)


def test_model_keeps_its_weights_when_their_files_are_written_to(
    tiny_checkpoint: Path, tmp_path: Path, one_torch_thread: None
) -> None:
    import torch

    from runners.workers.loading import load_engine

    tower = tiny_checkpoint.with_name("clip-tiny-56")
    shutil.copytree(tower, tmp_path / tower.name)
    folder = shutil.copytree(tiny_checkpoint, tmp_path / tiny_checkpoint.name)
    [safe] = folder.glob("*.safetensors")
    tensors = {name: tensor.float() for name, tensor in load_file(safe).items()}
    torch.save(tensors, folder / "pytorch_model.bin")  # in the dtype that they are wanted in
    safe.unlink()
    engine, loaded = load_engine(order(folder), ["cpu"])
    assert set(loaded.files) == {"checkpoint", "tower"}
    request = item(1, "a", max_new_tokens=8).requests
    [before] = engine.run(request)
    for path in (*folder.glob("*.bin"), *(tmp_path / tower.name).glob("*.safetensors")):
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(size // 4)
            file.write(b"\x11" * (size // 2))
    [after] = engine.run(request)
    assert isinstance(before, Completion)
    assert isinstance(after, Completion)
    assert (before.token_ids, before.min_margin) == (after.token_ids, after.min_margin)
