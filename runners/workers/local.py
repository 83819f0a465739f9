"""One worker process on this machine, seen from the parent. Imports no torch."""

from __future__ import annotations

import logging
import multiprocessing
import queue
import signal
import threading
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler

from runners.workers.messages import FromWorker, ToWorker
from runners.workers.process import Seat, not_passed_on, serve


class LocalWorker:
    """A spawned process with one model; it runs from construction on.

    Nothing here waits for the worker but `receive`: what is sent goes through a thread, so that a
    worker that has stopped reading does not stop its parent.

    Attributes:
        connection: Readable when a message has come or the worker has died.
    """

    def __init__(self, seat: Seat) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, seat), name=seat.name)
        # A Ctrl-C reaches every process of the terminal, also one that has only just begun. What is
        # blocked here stays blocked there; the tracker must run before, as starting it unblocks.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()  # so that the pipe ends when the worker does
        self._outgoing: queue.SimpleQueue[ToWorker | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send_all, name=f"to-{seat.name}", daemon=True)
        self._sender.start()

    def send(self, message: ToWorker) -> None:
        """Sends a message, or loses it if the worker is dead: `receive` tells that."""
        self._outgoing.put(message)

    def receive(self) -> FromWorker | None:
        """Returns the next message, waiting for it; None for one that went into the log.

        Raises:
            EOFError: the worker is dead and all that it had said is read.
        """
        try:
            message: FromWorker | logging.LogRecord = self.connection.recv()
        except OSError as error:
            raise EOFError("The worker process is dead.") from error
        if isinstance(message, logging.LogRecord):
            logging.getLogger(message.name).handle(message)
            return None
        return message

    def kill(self, *, after_s: float = 0.0) -> int | None:
        """Ends the process, whatever it is doing; returns its exit code, negative for a signal.

        Args:
            after_s: How long it may take to end by itself, with an exit code of its own.
        """
        self._process.join(timeout=after_s)
        self._process.kill()
        self._process.join()
        self._outgoing.put(None)
        self._sender.join()
        self.connection.close()
        return self._process.exitcode

    def _send_all(self) -> None:
        while (message := self._outgoing.get()) is not None:
            try:
                content = ForkingPickler.dumps(message)
            except Exception as error:  # noqa: BLE001 - any, of classes that are not the project's
                content = ForkingPickler.dumps(not_passed_on(error))
            try:
                self.connection.send_bytes(content)
            except OSError:  # it died, which the parent learns from `receive`
                return
