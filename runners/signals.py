"""Ctrl-C and SIGTERM: once lets what is being computed end and be stored, twice stops now.

Once more after that does nothing: what is left to do is to close files and workers, takes seconds,
and must not be torn apart.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from runners.errors import INTERRUPTED, TERMINATED

logger = logging.getLogger(__name__)

_EXIT_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
_TO_CLOSE_S = 15.0
"""For so long nothing interrupts what closes files and workers."""


class Stop:
    """Raises KeyboardInterrupt; not again while a program that was stopped by it is closing."""

    def __init__(self) -> None:
        self._raised: float | None = None

    def now(self, *_: object) -> None:
        """Stops what runs, unless it did a short time ago; fit to handle a signal."""
        if self._raised is None or time.monotonic() - self._raised >= _TO_CLOSE_S:
            self.begin_closing()
            raise KeyboardInterrupt

    def begin_closing(self) -> None:
        """Has the next signals do nothing for a while."""
        self._raised = time.monotonic()


def stop_once() -> None:
    """From now on one Ctrl-C stops the program, and a few more in a row do not tear it apart."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in a script's background
        signal.signal(signal.SIGINT, Stop().now)


def ignore_interrupts() -> None:
    """From now on Ctrl-C does nothing: the program is about to end, with a code that is known."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Interruption:
    """Handles SIGINT and SIGTERM, or only the signals that are given, while it is entered.

    Outside of `patience` a signal raises KeyboardInterrupt at once. Inside, the first one only sets
    `requested`, and the second one raises. Those that follow soon do nothing. If there was any, the
    signals stay handled after it is left, since the program is about to end. While `run` waits for
    a command, all signals go to that command instead.

    Attributes:
        requested: Whether a signal has come.
        exit_code: What the program is to exit with: 130 after SIGINT, 143 after SIGTERM.
        is_urgent: Whether the first signal was SIGTERM, after which a machine is soon gone.
    """

    def __init__(self, *signums: signal.Signals) -> None:
        self.requested = False
        self.exit_code = _EXIT_CODES[signal.SIGINT]
        self.is_urgent = False
        self._patience: str | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._pending: signal.Signals | None = None  # for a command that is about to start
        self._stop = Stop()
        self._signums = signums or tuple(_EXIT_CODES)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        for signum in self._signums:
            self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self.requested:
            return
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @contextmanager
    def patience(
        self, what_goes_on: str = "what is being computed is finished and stored"
    ) -> Iterator[None]:
        """While it is entered, the first signal does not interrupt, but says what goes on."""
        self._patience = what_goes_on
        try:
            yield
        finally:
            self._patience = None
            if self.requested:  # what was being computed is through
                self._stop.begin_closing()

    def run(self, command: Sequence[str]) -> int:
        """Returns the exit code of a command, which gets the signals that come meanwhile."""
        # In a session of its own, a Ctrl-C reaches it through here and not from the terminal too.
        self._child = child = subprocess.Popen(command, start_new_session=True)
        if self._pending is not None:
            child.send_signal(self._pending)
        code = child.wait()
        self._child = None
        return code

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        first = not self.requested
        if first:
            self.requested = True
            self.exit_code = _EXIT_CODES[signal.Signals(signum)]
            self.is_urgent = signum == signal.SIGTERM
        if self._child is not None:
            self._child.send_signal(signum)
        elif first and self._patience is not None:
            self._pending = signal.Signals(signum)
            logger.warning("Interrupted: %s; once more stops at once.", self._patience)
        else:
            self._stop.now()
