"""The questions of a task go to the workers, and what comes back is stored."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from evals.records import Failure
from runners.environment import process_age_s
from runners.evaluation.progress import Progress
from runners.evaluation.prompts import PromptRenderer
from runners.evaluation.provenance import SessionTiming
from runners.evaluation.resuming import TaskRun
from runners.evaluation.work import Work
from runners.signals import Interruption
from runners.workers.interface import Result, Workers

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Asker:
    """Keeps the workers busy with the questions of one task after the other.

    Attributes:
        workers: Have their model, or are loading it.
        num_image_tokens: What an image costs, for cutting the work.
        pack_tokens: Cache slots of a worker's pack, likewise; None where that is not known.
        load_s: Seconds in which the model was loaded.
        since_s: Age of this process when the run began, 0 if the process began with it.
        first_answer_s: Seconds from the beginning to the first answer; None before it.
    """

    workers: Workers
    renderer: PromptRenderer
    num_image_tokens: int
    pack_tokens: int | None
    interruption: Interruption
    progress: Progress
    load_s: float
    since_s: float
    first_answer_s: float | None = field(default=None, init=False)
    _stop_by: float | None = field(default=None, init=False)

    def ask(self, task_run: TaskRun) -> SessionTiming:
        """Has a task's pending questions answered, or as many as an interruption leaves.

        Returns how long it took.

        Raises:
            StoreError: an answer cannot be written.
            WorkerError: no worker is left; what they had answered is stored.
        """
        before, started = self.workers.report(), time.monotonic()
        samples = {sample.key: sample for sample in task_run.pending()}
        number = len(task_run.asked.samples)
        self.progress.enter_task(task_run.name, number, number - len(samples))
        work = Work(
            samples=list(samples.values()),
            renderer=self.renderer,
            generation=task_run.asked.generation,
            num_image_tokens=self.num_image_tokens,
            num_workers=self.workers.num_alive,
            pack_tokens=self.pack_tokens,
            failed_before=task_run.failed_before(),
        )
        for result in self._results(work):
            if result is None:
                task_run.sync()
                self.progress.tick(self.workers.num_alive)
            else:
                task_run.record(samples[result.result.key], result.result, result.worker)
                self._note(result)
            if self.interruption.requested and not self._may_go_on():
                break
        return SessionTiming(
            num_asked=len(samples),
            wall_s=time.monotonic() - started,
            before=before,
            after=self.workers.report(),
            load_s=self.load_s,
            first_answer_s=self.first_answer_s,
        )

    def _results(self, work: Work) -> Iterator[Result | None]:
        """What becomes of each question, and None now and then while there is nothing."""
        for result in self.workers.answer(work.items()):
            yield from _unasked(work)
            yield result
        yield from _unasked(work)

    def _note(self, result: Result) -> None:
        self.progress.update(failed=isinstance(result.result, Failure))
        if self.first_answer_s is None and result.worker is not None:
            self.first_answer_s = process_age_s() - self.since_s
            event = "the job's" if self.since_s else "process"
            logger.info("first answer %.1f s after %s start", self.first_answer_s, event)

    def _may_go_on(self) -> bool:
        """Stops the workers the first time; returns whether there is time left for them to end."""
        if self._stop_by is None:
            self.workers.stop()
            grace_s = self.workers.grace_s if self.interruption.is_urgent else float("inf")
            self._stop_by = time.monotonic() + grace_s
        return time.monotonic() < self._stop_by


def _unasked(work: Work) -> Iterator[Result]:
    """What became of questions that nobody could be asked."""
    return (Result(result=failure, worker=None) for failure in work.take_failures())
