"""What a worker process does. The only place of the programs that imports torch."""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection

from tqdm import tqdm

from llava.errors import CheckpointError
from runners.errors import ConfigError
from runners.workers.interface import Engine
from runners.workers.messages import (
    Answered,
    BadInput,
    FromWorker,
    HashWeights,
    ItemDone,
    LoadModel,
    Logged,
    ModelLoaded,
    Ready,
    Stop,
    ToWorker,
    WeightsHashed,
    WorkItem,
)


def serve(connection: Connection, device: str | None, num_threads: int) -> None:
    """Answers what comes through the connection until its other end is closed.

    Args:
        connection: The worker's end of the pipe to the parent.
        device: Where the model goes; None for CUDA where there is one, else the CPU.
        num_threads: Threads of torch.
    """
    # The parent decides when to stop; a Ctrl-C reaches every process of the terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Threads that wait by spinning make a small model ten times slower once they have to share
    # the cores with something else. Read by OpenMP when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    inbox, outbox = _Inbox(connection), _Outbox(connection)
    logging.getLogger("llava").addHandler(_Forwarder(outbox))
    logging.getLogger("llava").setLevel(logging.INFO)
    try:
        outbox.send(_prepare(device, num_threads))
        engine = _load(inbox, outbox, device)
    except (CheckpointError, ConfigError) as error:
        outbox.send(BadInput(message=str(error)))
        return
    while True:
        item = inbox.take()
        if isinstance(item, WorkItem):
            for message in _answer(engine, item, inbox.stop):
                outbox.send(message)


def _load(inbox: _Inbox, outbox: _Outbox, device: str | None) -> Engine:
    """Hashes weights as often as that is asked for, then builds the model."""
    from llava.model.content_hash import hash_weight_files
    from runners.workers.loading import default_device, load_engine

    while True:
        order = inbox.take()
        if isinstance(order, HashWeights):
            hashes = {role: hash_weight_files(files) for role, files in order.files.items()}
            outbox.send(WeightsHashed(hashes=hashes))
        elif isinstance(order, LoadModel):
            started = time.perf_counter()
            engine, report = load_engine(order, device or default_device())
            outbox.send(ModelLoaded(load_s=time.perf_counter() - started, report=report))
            return engine


class _Inbox:
    """Takes messages off the pipe as they come, so that the parent never waits on a busy worker."""

    def __init__(self, connection: Connection) -> None:
        self.stop = threading.Event()
        self._messages: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        threading.Thread(target=self._receive, args=(connection,), daemon=True).start()

    def take(self) -> ToWorker:
        """Returns the next message, waiting for it."""
        return self._messages.get()

    def _receive(self, connection: Connection) -> None:
        while True:
            try:
                message: ToWorker = connection.recv()
            except (EOFError, OSError):  # the parent closed its end, or died
                os._exit(0)
            if isinstance(message, Stop):
                self.stop.set()
            else:
                self._messages.put(message)


class _Outbox:
    """Sends messages; log lines may come from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: FromWorker) -> None:
        """Sends one message."""
        with self._lock:
            self._connection.send(message)


class _Forwarder(logging.Handler):
    """Sends what the model package says to the parent, which owns the log."""

    def __init__(self, outbox: _Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one line."""
        trace = None
        if record.exc_info:
            trace = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        self._outbox.send(
            Logged(
                name=record.name,
                level=record.levelno,
                message=record.getMessage(),
                traceback=trace,
            )
        )


def _answer(engine: Engine, item: WorkItem, stop: threading.Event) -> Iterator[FromWorker]:
    results = engine.run(item.requests)
    while not stop.is_set():
        result = next(results, None)
        if result is None:
            yield ItemDone(number=item.number, stopped=False)
            return
        yield Answered(result=result)
    yield ItemDone(number=item.number, stopped=True)


def _prepare(device: str | None, num_threads: int) -> Ready:
    import torch
    from transformers.utils import logging as transformers_logging

    # imported now, while the parent reads the data
    from runners.workers.loading import default_device

    torch.set_num_threads(num_threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it names kernels that it lacks
    # The default lock of tqdm is a semaphore, which a killed process would leave behind.
    tqdm.set_lock(threading.RLock())
    chosen = device or default_device()
    on_cuda = torch.device(chosen).type == "cuda"
    if on_cuda:
        _check_cuda(chosen)
    return Ready(
        device=chosen,
        default_dtype="float16" if on_cuda else "float32",
        environment={
            "device": chosen,
            "device_name": torch.cuda.get_device_name(chosen) if on_cuda else "cpu",
            "cuda": torch.version.cuda if on_cuda else None,
            "num_threads": num_threads,
        },
    )


def _check_cuda(device: str) -> None:
    import torch

    num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (torch.device(device).index or 0) >= num_devices:
        raise ConfigError(
            f"`device` is {device}, but torch sees {num_devices} CUDA devices. Choose one of them, "
            "or device=cpu."
        )
