"""Ctrl-C and SIGTERM: once lets what is being computed end and be stored, twice stops now."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Interruption:
    """Handles SIGINT and SIGTERM while it is entered.

    Outside of `patience` a signal raises KeyboardInterrupt at once. Inside, the first one only sets
    `requested`, and the second one raises.

    Attributes:
        requested: Whether a signal has come.
        exit_code: What the program is to exit with: 130 after SIGINT, 143 after SIGTERM.
        is_urgent: Whether the first signal was SIGTERM, after which a machine is soon gone.
    """

    def __init__(self) -> None:
        self.requested = False
        self.exit_code = _EXIT_CODES[signal.SIGINT]
        self.is_urgent = False
        self._patient = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        for signum in _EXIT_CODES:
            self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @contextmanager
    def patience(self) -> Iterator[None]:
        """While it is entered, the first signal does not interrupt."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        first = not self.requested
        if first:
            self.requested = True
            self.exit_code = _EXIT_CODES[signal.Signals(signum)]
            self.is_urgent = signum == signal.SIGTERM
        if not (first and self._patient):
            raise KeyboardInterrupt
        logger.warning(
            "Interrupted: what is being computed is finished and stored; once more stops at once."
        )
