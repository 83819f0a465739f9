"""How far a run is: a bar in a terminal, a line a minute elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

_REPORT_EVERY_S = 60.0


class Progress:
    """Counts questions, with questions/s and the time that is left.

    Args:
        total: Questions of the run.
        num_done: Those that were answered before this session.
    """

    def __init__(self, total: int, num_done: int) -> None:
        self._total = total
        self._before = num_done
        self._done = num_done
        self._num_failed = 0
        self._started = time.monotonic()
        self._reported = self._started
        self._bar: tqdm[Any] | None = None
        if sys.stderr.isatty():
            bar: tqdm[Any] = tqdm(total=total, initial=num_done, unit=" questions")
            self._bar = bar

    def enter_task(self, name: str) -> None:
        """Names the task whose questions are counted from now on."""
        if self._bar is not None:
            self._bar.set_description(name)

    def update(self, *, failed: bool) -> None:
        """Counts one question."""
        self._done += 1
        self._num_failed += failed
        if self._bar is not None:
            if failed:
                self._bar.set_postfix(failed=self._num_failed, refresh=False)
            self._bar.update()
        elif time.monotonic() - self._reported >= _REPORT_EVERY_S:
            self._reported = time.monotonic()
            logger.info("%s", self.describe())

    def describe(self) -> str:
        """Returns one line: done, total, rate, time left, failures."""
        rate = self.questions_per_s
        left = f"{(self._total - self._done) / rate:.0f} s left" if rate else "rate unknown"
        failed = f", {self._num_failed} failed" if self._num_failed else ""
        return f"{self._done:,}/{self._total:,} questions, {rate:.2f} questions/s, {left}{failed}"

    @property
    def questions_per_s(self) -> float:
        """The rate of this session."""
        elapsed = time.monotonic() - self._started
        return (self._done - self._before) / elapsed if elapsed > 0 else 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
