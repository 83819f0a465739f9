"""`runners.eval`, with the parent's processor time by part: what `parent_cost` starts.

    python -m tests.benchmarks.measured_eval REPORT OPTIONS

Times are processor times of the thread that does the work; where one part calls another, the time
is the inner one's. What no part counts is the start-up.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from tests.benchmarks.instant_engine import register


class Meter:
    """Processor time by part."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._parts = ["start-up"]
        self._since = time.thread_time()
        self.pending: dict[str, float] = {}

    def count(self, owner: type, name: str, part: str) -> None:
        """Has the time in a method count for a part."""
        method = getattr(owner, name)

        @wraps(method)
        def counted(*given: Any, **named: Any) -> Any:
            with self.within(part):
                return method(*given, **named)

        setattr(owner, name, counted)

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """While it is entered, time counts for a part."""
        self._switch()
        self._parts.append(part)
        try:
            yield
        finally:
            self._switch()
            self._parts.pop()

    def count_thread(self, owner: type, name: str, part: str) -> None:
        """Has all time of a thread that runs a method count for a part."""
        method = getattr(owner, name)

        @wraps(method)
        def counted(*given: Any) -> None:
            try:
                method(*given)
            finally:
                self.seconds[part] += time.thread_time()

        setattr(owner, name, counted)

    def after(self, owner: type, name: str, note: Callable[[], None]) -> None:
        """Has something called once a method has returned for the first time."""
        method = getattr(owner, name)

        @wraps(method)
        def noted(*given: Any, **named: Any) -> Any:
            setattr(owner, name, method)
            result = method(*given, **named)
            note()
            return result

        setattr(owner, name, noted)

    def _switch(self) -> None:
        now = time.thread_time()
        self.seconds[self._parts[-1]] += now - self._since
        self._since = now

    def note_pending(self) -> None:
        """Notes what it took until the program knew what is to be asked."""
        self._switch()
        self.pending = {"cpu_s": time.process_time(), "peak_bytes": peak_bytes()}

    def report(self) -> dict[str, Any]:
        """Returns all that was counted."""
        self._switch()
        return {
            "parts": dict(self.seconds),
            "cpu_s": time.process_time(),
            "peak_bytes": peak_bytes(),
            "until_pending": self.pending,
        }


def peak_bytes() -> int:
    """The largest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def install(meter: Meter) -> None:
    """Puts the meter into the program, whose modules are imported for that."""
    from runners.evaluation import questions
    from runners.evaluation.asker import Asker
    from runners.evaluation.course import Course
    from runners.evaluation.prompts import PromptRenderer
    from runners.evaluation.questions import AskedTask
    from runners.evaluation.resuming import TaskRun
    from runners.workers.dealing import Dealer
    from runners.workers.local import LocalWorker
    from runners.workers.pool import LocalWorkers

    for owner, names, part in (
        (AskedTask, ("__init__", "identity"), "read"),
        (TaskRun, ("open", "pending"), "open"),
        (PromptRenderer, ("build_request",), "render"),
        (Dealer, ("take", "prepare"), "deal"),
        (LocalWorkers, ("_deal",), "deal"),
        (LocalWorker, ("receive",), "receive"),
        (Asker, ("ask",), "receive"),
        (TaskRun, ("record", "sync"), "store"),
        (Course, ("_conclude",), "summary"),
    ):
        for name in names:
            meter.count(owner, name, part)
    scoring = meter.within("score")
    questions.score_asked = scoring(questions.score_asked)  # type: ignore[attr-defined]
    meter.count_thread(LocalWorker, "_send_all", "deal")
    meter.after(TaskRun, "pending", meter.note_pending)


def main() -> int:
    """Runs the program and writes the report."""
    path, *options = sys.argv[1:]
    sys.argv[1:] = options
    from runners.eval import evaluate
    from runners.options.program import run

    register()
    meter = Meter()

    def measured(config: Any) -> int:
        install(meter)
        return evaluate(config)

    code = run("eval", measured, options)
    Path(path).write_text(json.dumps(meter.report()), encoding="utf-8")
    return code


# A worker process imports this module under another name.
if __name__ == "__main__":
    sys.exit(main())
