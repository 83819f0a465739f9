"""One worker process on this machine, and the parent's end of it. Imports no torch."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from runners.environment import num_cores
from runners.errors import ConfigError, WorkerError
from runners.workers.messages import (
    BadInput,
    FromWorker,
    HashWeights,
    LoadModel,
    Logged,
    ModelLoaded,
    Ready,
    ToWorker,
    WeightsHashed,
)
from runners.workers.process import serve

M = TypeVar("M", Ready, WeightsHashed, ModelLoaded)

_POLL_S = 0.2


class LocalWorker:
    """A spawned process with one model.

    `start` returns at once, so that the worker's imports overlap with what the parent does next.

    Args:
        num_threads: Threads of torch; None for all cores.
    """

    def __init__(self, *, num_threads: int | None = None) -> None:
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"`num_threads` must be at least 1, but is {num_threads}.")
        self._num_threads = num_threads or num_cores()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._ready: Ready | None = None

    def start(self, device: str | None) -> None:
        """Starts the process unless it runs already."""
        if self._process is not None:
            return
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, device, self._num_threads), name="worker-0"
        )
        # A Ctrl-C reaches every process of the terminal, also one that has only just begun. What is
        # blocked here stays blocked there; the tracker must run before, as starting it unblocks.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()  # so that the pipe ends when the worker does

    def wait_until_ready(self) -> Ready:
        """Returns what the worker found once its imports are done.

        Raises:
            ConfigError: the device does not exist.
            WorkerError: the process died.
        """
        if self._ready is None:
            self._ready = self._expect(Ready)
        return self._ready

    def hash_weights(self, files: Mapping[str, Sequence[Path]]) -> Mapping[str, str]:
        """Has the worker hash weight files, before it builds a model; returns hashes by role.

        Raises:
            ConfigError: a file cannot be read.
            WorkerError: the process died.
        """
        self.wait_until_ready()
        self.send(HashWeights(files={role: tuple(paths) for role, paths in files.items()}))
        return self._expect(WeightsHashed).hashes

    def load(self, order: LoadModel) -> ModelLoaded:
        """Has the worker build the model and returns what was loaded.

        Raises:
            ConfigError: the checkpoint cannot be loaded.
            WorkerError: the process died.
        """
        self.wait_until_ready()
        self.send(order)
        return self._expect(ModelLoaded)

    def send(self, message: ToWorker) -> None:
        """Sends a message; never waits for the worker.

        Raises:
            WorkerError: the process died.
        """
        try:
            self._pipe.send(message)
        except OSError as error:
            raise self._died() from error

    def receive(self, timeout_s: float) -> FromWorker | None:
        """Returns the next message, or None if none came in time.

        Raises:
            WorkerError: the process died.
        """
        try:
            if not self._pipe.poll(timeout_s):
                return None
            message: FromWorker = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if isinstance(message, Logged):
            _log(message)
            return None
        return message

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        if self._process is None:
            return
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self._process = self._connection = self._ready = None

    def __enter__(self) -> LocalWorker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _pipe(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("The worker must be started first. Call `start`.")
        return self._connection

    def _expect(self, kind: type[M]) -> M:
        while True:
            message = self.receive(_POLL_S)
            if isinstance(message, BadInput):
                raise ConfigError(message.message)
            if isinstance(message, kind):
                return message

    def _died(self) -> WorkerError:
        if self._process is None:
            return WorkerError("The worker process is gone.")
        self._process.join(timeout=5)
        code = self._process.exitcode
        cause = "killed, often for want of memory" if code == -9 else f"exit code {code}"
        return WorkerError(
            f"The worker process died ({cause}). What it had answered is stored; the same command "
            "goes on from there."
        )


def _log(line: Logged) -> None:
    record = logging.LogRecord(line.name, line.level, "", 0, line.message, None, None)
    record.exc_text = line.traceback
    logging.getLogger(line.name).handle(record)
