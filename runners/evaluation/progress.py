"""How far a run is: a bar in a terminal, a line a minute elsewhere."""

from __future__ import annotations

import logging
import time
from typing import Any

from tqdm import tqdm

from runners.logs import NUMBERS, is_drawn, terminal_size

logger = logging.getLogger(__name__)

_REPORT_EVERY_S = 60.0


class Progress:
    """Counts questions, `num_done` of them answered before; with their rate and the time left.

    A bar counts the questions of one task; where a run has more than one, all of them are told
    beside it.
    """

    def __init__(self, total: int, num_done: int) -> None:
        self._total = total
        self._before = self._done = num_done
        self._num_failed = 0
        self._num_workers = 1
        self._started = self._reported = time.monotonic()
        self._task = ""
        self._num_of_task = total
        self._bar: tqdm[Any] | None = None

    def enter_task(self, name: str, total: int, num_done: int = 0) -> None:
        """Names the task whose questions are counted from now on, and says how many it has."""
        self._close_bar()
        self._task, self._num_of_task = name, total
        if is_drawn():
            columns, lines = terminal_size()
            self._bar = tqdm(
                desc=name,
                total=total,
                initial=num_done,
                unit=" q",
                postfix=self._beside() or None,
                ncols=columns,
                nrows=lines,
            )

    def update(self, *, failed: bool) -> None:
        """Counts one question."""
        self._done += 1
        self._num_failed += failed
        if self._bar is not None:
            self._bar.set_postfix_str(self._beside(), refresh=False)
            self._bar.update()

    def tick(self, num_workers: int) -> None:
        """Reports how many workers are alive; where there is no terminal, once a minute."""
        self._num_workers = num_workers
        now = time.monotonic()
        if self._bar is not None:
            if now - self._reported >= 1:  # its clock goes on where no answer comes
                self._reported = now
                self._bar.set_postfix_str(self._beside())
        elif now - self._reported >= _REPORT_EVERY_S:
            self._reported = now
            logger.info("%s", self._describe(), extra={NUMBERS: self._numbers()})

    def _beside(self) -> str:
        """What a bar does not say by itself, where there is something to say."""
        told = []
        if self._total > self._num_of_task:
            told.append(f"all tasks {self._done:,}/{self._total:,}")
        if self._num_failed:
            told.append(f"{self._num_failed:,} failed")
        if self._num_workers != 1:
            told.append(f"{self._num_workers} workers")
        return ", ".join(told)

    def _describe(self) -> str:
        """One line: task, done, total, rate of this session, time left, failures, workers."""
        elapsed = time.monotonic() - self._started
        rate = (self._done - self._before) / elapsed if elapsed > 0 else 0.0
        left = f"{(self._total - self._done) / rate:.0f} s left" if rate else "rate unknown"
        failed = f", {self._num_failed} failed" if self._num_failed else ""
        workers = f"{self._num_workers} worker{'s' * (self._num_workers != 1)}"
        of_all = " of all tasks" if self._total > self._num_of_task else ""
        done = f"{self._done:,}/{self._total:,} questions{of_all}, {rate:.2f} questions/s, {left}"
        return f"{self._task}: {done}{failed}, {workers}"

    def _numbers(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "task": self._task,
            "num_done": self._done,
            "num_questions": self._total,
            "num_failed": self._num_failed,
            "num_workers": self._num_workers,
        }

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_bar()
