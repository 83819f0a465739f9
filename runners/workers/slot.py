"""The place of one worker of this machine, whatever process is in it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from llava.generation.request import EngineReport
from runners.workers.local import LocalWorker
from runners.workers.messages import FromWorker, ToWorker
from runners.workers.process import Seat

START_LIMIT_S = 120.0
"""A worker says that it lives while it starts and loads; so long it may be silent at least."""

MAX_DEATHS_IN_A_ROW = 32
"""A worker that dies so often without an answer or a failure in between is not replaced any more;
nor, while others go on, one that does so without an answer. Half of them find the questions about
an image that ends workers."""

MAX_FAILED_LOADS = 3
"""Nor is one that so often came to no model."""

_SECONDS_TO_END = 5.0


@dataclass(slots=True)
class Slot:
    """One place; the process in it may be replaced.

    Attributes:
        seat: Devices and threads.
        process: What runs there; None once it is given up.
        is_loaded: Whether it has its model.
        items: Numbers of the items that it has: the one that it computes, and the one after it, of
            which it prepares the images.
        heard: When it said something, or was given work, by the monotonic clock.
        deaths_in_a_row: Processes that died here since the last answer, or the last question that
            was found to end them.
        deaths_since_answer: Processes that died here since the last answer.
        failed_loads: Of these, those that came to no model.
        report: What the engine in the process has done.
    """

    seat: Seat
    process: LocalWorker | None
    is_loaded: bool = False
    items: deque[int] = field(default_factory=deque)
    heard: float = field(default_factory=time.monotonic)
    deaths_in_a_row: int = 0
    deaths_since_answer: int = 0
    failed_loads: int = 0
    report: EngineReport = field(default_factory=EngineReport)

    def note_answer(self) -> None:
        """Notes that the process has answered something."""
        self.deaths_in_a_row = self.deaths_since_answer = 0

    def note_death(self, *, was_loaded: bool, found_culprit: bool) -> None:
        """Notes that the process died, and whether that told which question does it."""
        self.deaths_since_answer += 1
        self.deaths_in_a_row = 0 if found_culprit else self.deaths_in_a_row + 1
        self.failed_loads += not was_loaded

    def is_hopeless(self, *, alone: bool) -> bool:
        """Whether no other process is put into it.

        Args:
            alone: Whether no other worker is left, which could answer what this one cannot.
        """
        died = self.deaths_in_a_row if alone else self.deaths_since_answer
        return died > MAX_DEATHS_IN_A_ROW or self.failed_loads >= MAX_FAILED_LOADS

    @property
    def is_silent(self) -> bool:
        """Whether it has been silent for longer than a process that starts or loads ever is."""
        return time.monotonic() - self.heard > START_LIMIT_S

    def send(self, message: ToWorker) -> None:
        """Sends the process something to do, and begins to wait for what it says."""
        if self.process is not None:
            self.process.send(message)
            self.heard = time.monotonic()

    def end(self, *, at_once: bool) -> str:
        """Ends the process, at once or after a moment to end by itself; says how it ended."""
        after_s = 0.0 if at_once else _SECONDS_TO_END
        code = self.process.kill(after_s=after_s) if self.process is not None else None
        self.process, self.is_loaded = None, False
        return describe_exit(code)

    def hear(self, wait_s: float, silent_limit_s: float) -> FromWorker | None:
        """Returns what the process says; None if that is nothing for now or went into the log.

        Args:
            wait_s: So long it is waited for.
            silent_limit_s: So long the process may have been silent, the start of it at least.

        Raises:
            EOFError: it is dead, or silent for too long.
        """
        if self.process is None:
            raise EOFError("There is no process.")
        if self.process.connection.poll(wait_s):
            self.heard = time.monotonic()
            return self.process.receive()
        if time.monotonic() - self.heard > max(silent_limit_s, START_LIMIT_S):
            raise EOFError("The worker process says nothing.")
        return None

    def is_hung(self, hang_s: float) -> bool:
        """Whether it has something to do and has been silent for too long.

        Args:
            hang_s: So long it may be silent over work, and `START_LIMIT_S` before, if that is more.
        """
        if self.process is None or (self.is_loaded and not self.items):
            return False
        limit = hang_s if self.is_loaded else max(hang_s, START_LIMIT_S)
        return time.monotonic() - self.heard > limit


def describe_exit(code: int | None) -> str:
    """Says how a process ended.

    >>> describe_exit(7), describe_exit(-9)
    ('ended with exit code 7', 'was ended by signal 9, often because memory ran out')
    """
    if code is not None and code < 0:
        hint = ", often because memory ran out" if code == -9 else ""
        return f"was ended by signal {-code}{hint}"
    return f"ended with exit code {code}"
