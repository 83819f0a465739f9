"""What a worker process does: it imports torch, as its parent never does, and holds one model."""

from __future__ import annotations

import copy
import gc
import logging
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from tqdm import tqdm

from evals.reading.files import collection_paused
from evals.records import Failure
from llava.errors import CheckpointError
from llava.generation.calibration import Briefing
from llava.generation.request import Completion, Request
from runners.environment import num_cores, prepare_torch
from runners.errors import ConfigError
from runners.options.include import find_modules
from runners.workers.interface import Engine, from_engine
from runners.workers.messages import (
    Answered,
    BadInput,
    Beat,
    FromWorker,
    Hardware,
    HashWeights,
    ImagesProbed,
    ItemDone,
    LoadModel,
    Ready,
    ToWorker,
    WeightsHashed,
    WorkItem,
)

logger = logging.getLogger(__name__)

_BEAT_EVERY_S = 1.0
_ANSWERS_EVERY_S = 0.05
_SHARED_MEMORY = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What a worker process is told when it starts.

    Attributes:
        name: Of the worker.
        number: Counts the workers of a machine from 0.
        num_workers: How many there are on it.
        device: Where the model goes; None or `cuda` for this worker's share of the CUDA devices,
            or the CPU where there are none.
        num_devices: CUDA devices that hold the model together.
        num_threads: Threads of torch; None for this worker's share of the cores.
        include: Folders with modules that classes of images may be in.
    """

    name: str
    number: int = 0
    num_workers: int = 1
    device: str | None = None
    num_devices: int = 1
    num_threads: int | None = None
    include: Sequence[Path] = ()


def serve(connection: Connection, seat: Seat) -> None:
    """Answers what comes through the connection until the parent closes its end."""
    # The parent decides when to stop; a Ctrl-C reaches every process of the terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    find_modules(seat.include)  # before anything comes that is of a class in them
    inbox, outbox = _Inbox(connection), _Outbox(connection)
    logging.getLogger("llava").addHandler(_Forwarder(outbox))
    logging.getLogger("llava").setLevel(logging.INFO)
    try:
        ready = prepare_process(seat)
        outbox.send(ready)
        with outbox.beating():
            engine = _load(inbox, outbox, ready.devices)
        inbox.announce = engine.prepare
        _work(inbox, outbox, engine)
    except (CheckpointError, ConfigError) as error:
        trace = "".join(traceback.format_exception(error))
        outbox.send(BadInput(message=str(error), traceback=trace))


def _work(inbox: _Inbox, outbox: _Outbox, engine: Engine) -> None:
    """Does what comes, without an end of its own."""
    while True:
        message = inbox.get()
        if isinstance(message, Briefing):
            engine.brief(message)
        elif isinstance(message, Request):
            outbox.send(ImagesProbed(probe=from_engine(engine.probe(message))))
        elif isinstance(message, WorkItem):
            for result in engine.run(message.requests):
                outbox.answer(from_engine(result))
            outbox.send(ItemDone(number=message.number, report=engine.report()))


def _load(inbox: _Inbox, outbox: _Outbox, devices: Sequence[str]) -> Engine:
    """Hashes weights as often as that is asked for, then builds the model."""
    from llava.content_hash import hash_weight_files
    from runners.workers.loading import load_engine

    while True:
        order = inbox.get()
        if isinstance(order, HashWeights):
            hashes = {role: hash_weight_files(files) for role, files in order.files.items()}
            outbox.send(WeightsHashed(hashes=hashes))
        elif isinstance(order, LoadModel):
            engine, loaded = load_engine(order, devices, outbox.beat)
            outbox.send(loaded)
            return engine


class _Inbox:
    """Messages taken off the pipe as they come, so that the parent never waits on a busy worker.

    What near ties are decided by goes before work, and of several such messages the newest counts.

    Attributes:
        announce: Told of the requests of each item when it comes, maybe long before its turn.
    """

    def __init__(self, connection: Connection) -> None:
        self.announce: Callable[[Sequence[Request]], None] | None = None
        self._connection = connection
        self._waiting: deque[ToWorker | ConfigError] = deque()
        self._is_there = threading.Condition()
        threading.Thread(target=self._receive, daemon=True).start()

    def get(self) -> ToWorker:
        """Returns the next message, waiting for it.

        Raises:
            ConfigError: it did not come through.
        """
        with self._is_there:
            self._is_there.wait_for(lambda: self._waiting)
            message = self._waiting.popleft()
        if isinstance(message, ConfigError):
            raise message
        return message

    def _receive(self) -> None:
        while True:
            try:
                content = self._connection.recv_bytes()
            except (EOFError, OSError):  # the parent closed its end, or died
                os._exit(0)
            try:
                message = ForkingPickler.loads(content)
            except Exception as error:  # noqa: BLE001 - any, of classes that are not the project's
                message = not_passed_on(error)
            if isinstance(message, WorkItem) and self.announce is not None:
                try:
                    self.announce(message.requests)
                except Exception:  # its turn meets it again, at the question
                    logger.debug("images were not prepared ahead", exc_info=True)
            with self._is_there:
                if isinstance(message, Briefing):
                    while self._waiting and isinstance(self._waiting[0], Briefing):
                        self._waiting.popleft()
                    self._waiting.appendleft(message)
                else:
                    self._waiting.append(message)
                self._is_there.notify()


def not_passed_on(error: Exception) -> ConfigError:
    """Returns what a worker ends with that could not be sent its work."""
    return ConfigError(
        f"What a worker is asked cannot be passed on to it: {type(error).__name__}: {error}. A "
        "benchmark's own class of images must be one that pickle can copy, at the top of a module."
    )


class _Outbox:
    """Sends messages; log lines may come from any thread.

    Answers go together, as many as came within a moment: each message costs the parent time.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._sent = 0.0
        self._answers: list[Completion | Failure] = []
        self._has_answers = threading.Event()
        threading.Thread(target=self._flush_soon, daemon=True).start()

    def answer(self, result: Completion | Failure) -> None:
        """Sends a result, a moment later at most."""
        with self._lock:
            self._answers.append(result)
        self._has_answers.set()

    def send(self, message: FromWorker | logging.LogRecord) -> None:
        """Sends a message, behind all answers that came before it."""
        self._sent = time.monotonic()
        with self._lock:
            self._flush()
            self._connection.send(message)

    def _flush(self) -> None:
        if self._answers:
            self._connection.send(Answered(results=tuple(self._answers)))
            self._answers.clear()

    def _flush_soon(self) -> None:
        while self._has_answers.wait():
            time.sleep(_ANSWERS_EVERY_S)
            with self._lock:
                self._has_answers.clear()
                self._flush()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Says now and then that the process lives, while no layer can say it."""
        is_over = threading.Event()

        def beat_until_over() -> None:
            while not is_over.wait(_BEAT_EVERY_S):
                self.beat()

        threading.Thread(target=beat_until_over, daemon=True).start()
        try:
            yield
        finally:
            is_over.set()

    def beat(self) -> None:
        """Says that the model is computing, unless something was said a moment ago."""
        if time.monotonic() - self._sent >= _BEAT_EVERY_S:
            self.send(Beat())


class _Forwarder(logging.Handler):
    """Sends what the model package says to the parent, which owns the log."""

    def __init__(self, outbox: _Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one line, its message and traceback as text."""
        line = copy.copy(record)
        line.msg, line.args, line.exc_info = record.getMessage(), None, None
        if record.exc_info:
            line.exc_text = logging.Formatter().formatException(record.exc_info)
        self._outbox.send(line)


def prepare_process(seat: Seat) -> Ready:
    """Imports torch, sets it up for one worker and returns what is there.

    Raises:
        ConfigError: a device does not exist.
    """
    prepare_torch()
    with collection_paused():  # thousands of modules come, and none of them goes again
        import torch

        import runners.workers.loading  # noqa: F401 - imported now, while the parent reads the data
        from llava.model import kinds
    gc.freeze()

    # the parent has looked at the checkpoint too, and said what is odd about it
    kinds.logger.setLevel(logging.ERROR)
    # The default lock of tqdm is a semaphore, which a killed process would leave behind.
    tqdm.set_lock(threading.RLock())
    num_visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = choose_devices(seat, num_visible)
    on_cuda = devices != ("cpu",)
    beside = max(1, num_visible // seat.num_devices) if on_cuda else 1
    num_threads = seat.num_threads or max(1, num_cores() // beside)
    torch.set_num_threads(num_threads)
    if on_cuda:
        torch.cuda.set_device(devices[0])  # what names no device must not go to another's
        for device in devices:
            torch.cuda.set_per_process_memory_fraction(memory_share(seat, num_visible), device)
    names = [torch.cuda.get_device_name(device) for device in devices] if on_cuda else ["cpu"]
    return Ready(
        devices=devices,
        num_visible=num_visible,
        default_dtype="float16" if on_cuda else "float32",
        hardware=Hardware(
            device=",".join(devices),
            device_name=", ".join(dict.fromkeys(names)),
            cuda=torch.version.cuda if on_cuda else None,
            num_threads=num_threads,
        ),
    )


def choose_devices(seat: Seat, num_visible: int) -> tuple[str, ...]:
    """Returns what a worker's model goes on.

    Several workers take the devices in turn, so that more workers than devices share them.

    Raises:
        ConfigError: a device does not exist, or there are fewer than one model needs.

    >>> choose_devices(Seat(name="a", number=1, num_devices=2), 4)
    ('cuda:2', 'cuda:3')
    >>> choose_devices(Seat(name="a"), 0)
    ('cpu',)
    """
    kind, _, index = (seat.device or ("cuda" if num_visible else "cpu")).partition(":")
    if kind == "cpu":
        if seat.num_devices > 1:
            raise ConfigError(
                f"runner.devices_per_worker={seat.num_devices} is for CUDA devices, but the model "
                "goes on the CPU. Leave it out."
            )
        return ("cpu",)
    first = int(index) if index else 0
    first += (seat.number % _num_groups(seat, num_visible)) * seat.num_devices
    if first + seat.num_devices > num_visible:
        wanted = seat.device or f"runner.devices_per_worker={seat.num_devices}"
        raise ConfigError(
            f"{wanted} needs CUDA devices up to cuda:{first + seat.num_devices - 1}, but torch "
            f"sees {num_visible} of them. Choose others, or device=cpu."
        )
    return tuple(f"cuda:{first + i}" for i in range(seat.num_devices))


def memory_share(seat: Seat, num_visible: int) -> float:
    """Returns the share of the memory of its devices that is a worker's: what it computes at once.

    Workers that share devices share their memory evenly, and leave a little for what a process has
    on a device beside tensors.

    >>> [memory_share(Seat(name="a", number=n, num_workers=3), 2) for n in range(3)]
    [0.45, 1.0, 0.45]
    """
    num_groups = _num_groups(seat, num_visible)
    num_sharing = len(range(seat.number % num_groups, seat.num_workers, num_groups))
    return 1.0 if num_sharing == 1 else _SHARED_MEMORY / num_sharing


def _num_groups(seat: Seat, num_visible: int) -> int:
    """How many workers can have devices of their own."""
    is_one = ":" in (seat.device or "")
    return 1 if is_one else max(1, num_visible // seat.num_devices)
