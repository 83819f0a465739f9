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
from llava.generation.calibration import MAX_EXPECTED_FLIPS, Briefing
from llava.generation.request import Completion, GenerationConfig, Request
from runners.errors import ConfigError
from runners.options.engine import EngineOptions, PackedOptions, SequentialOptions
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
from runners.workers.process import Seat, choose_devices, memory_share
from tests.runners.workers.processes import send_signal

DEADLINE_S = 60
ENGINE = SequentialOptions()


@pytest.fixture
def worker() -> Iterator[LocalWorker]:
    started = LocalWorker(Seat(name="local-0", device="cpu", num_threads=1))
    yield started
    started.kill()


def order(checkpoint: Path, engine: EngineOptions = ENGINE, dtype: str = "float32") -> LoadModel:
    return LoadModel(
        path=str(checkpoint), base=None, name=checkpoint.name, dtype=dtype, engine=engine
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


def answers(worker: LocalWorker) -> tuple[list[Completion | Failure], ItemDone]:
    """What comes of one item, in however many messages, and the word that it is through."""
    results: list[Completion | Failure] = []
    while isinstance(message := next_message(worker), Answered):
        results += message.results
    assert isinstance(message, ItemDone)
    return results, message


@pytest.mark.slow
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
    (first, second), done = answers(worker)
    assert isinstance(first, Completion)
    assert isinstance(second, Failure)
    assert (first.key, second.key) == ("a", "broken")
    assert done.number == 1
    assert done.report.busy_s > 0
    (third,), done = answers(worker)
    assert (third.key, done.number) == ("c", 2)


@pytest.mark.slow
def test_newest_briefing_decides_whichever_waited(
    worker: LocalWorker, tiny_checkpoint: Path
) -> None:
    assert isinstance(next_message(worker), Ready)
    worker.send(order(tiny_checkpoint, PackedOptions(), "bfloat16"))
    assert isinstance(next_message(worker), ModelLoaded)
    worker.send(item(1, *map(str, range(20)), max_new_tokens=40))
    for num_questions in (10, 10**9):  # both come while the first item is computed
        worker.send(Briefing(num_questions=num_questions, num_to_measure=0))
    worker.send(item(2, "e"))
    answers(worker)
    _, done = answers(worker)
    seen = done.report.calibration
    older, newer = (seen.threshold(number, MAX_EXPECTED_FLIPS, prior=1.0) for number in (10, 10**9))
    assert older < newer
    assert done.report.threshold == newer


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
    ("num_workers", "device", "num_devices", "num_visible", "expected"),
    [
        (1, None, 1, 8, [1.0]),
        (8, None, 1, 8, [1.0] * 8),
        (3, "cuda", 1, 2, [0.45, 1.0, 0.45]),
        (4, "cuda:5", 1, 8, [0.225] * 4),
        (2, None, 4, 8, [1.0] * 2),
        (3, None, 4, 8, [0.45, 1.0, 0.45]),
    ],
)
def test_workers_on_one_device_share_its_memory(
    num_workers: int,
    device: str | None,
    num_devices: int,
    num_visible: int,
    expected: list[float],
) -> None:
    shares = [
        memory_share(
            Seat(
                name="w",
                number=number,
                num_workers=num_workers,
                device=device,
                num_devices=num_devices,
            ),
            num_visible,
        )
        for number in range(num_workers)
    ]
    assert shares == expected


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
