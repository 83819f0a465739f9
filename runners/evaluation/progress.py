"""How far a run is: a bar in a terminal, a line a minute elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

_REPORT_EVERY_S = 60.0


class Progress:
    """Counts questions, `num_done` of them answered before; with their rate and the time left."""

    def __init__(self, total: int, num_done: int) -> None:
        self._total = total
        self._before = self._done = num_done
        self._num_failed = 0
        self._num_workers = 1
        self._shown = (0, 1)
        self._started = self._reported = time.monotonic()
        self._bar: tqdm[Any] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=num_done, unit=" questions")

    def enter_task(self, name: str) -> None:
        """Names the task whose questions are counted from now on."""
        if self._bar is not None:
            self._bar.set_description(name)

    def update(self, *, failed: bool) -> None:
        """Counts one question."""
        self._done += 1
        self._num_failed += failed
        if self._bar is not None:
            self._show_postfix()
            self._bar.update()

    def tick(self, num_workers: int) -> None:
        """Reports how many workers are alive; where there is no terminal, once a minute."""
        self._num_workers = num_workers
        if self._bar is not None:
            self._show_postfix()
        elif time.monotonic() - self._reported >= _REPORT_EVERY_S:
            self._reported = time.monotonic()
            logger.info("%s", self._describe())

    def _show_postfix(self) -> None:
        shown = (self._num_failed, self._num_workers)
        if self._bar is not None and shown != self._shown:
            self._shown = shown
            self._bar.set_postfix(failed=self._num_failed, workers=self._num_workers)

    def _describe(self) -> str:
        """One line: done, total, rate of this session, time left, failures, workers."""
        elapsed = time.monotonic() - self._started
        rate = (self._done - self._before) / elapsed if elapsed > 0 else 0.0
        left = f"{(self._total - self._done) / rate:.0f} s left" if rate else "rate unknown"
        failed = f", {self._num_failed} failed" if self._num_failed else ""
        workers = f"{self._num_workers} worker{'s' * (self._num_workers != 1)}"
        done = f"{self._done:,}/{self._total:,} questions, {rate:.2f} questions/s, {left}"
        return f"{done}{failed}, {workers}"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
