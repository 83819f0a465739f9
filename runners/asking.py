"""The questions of a task go to the worker, an item ahead, and what comes back is stored."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from evals.records import Failure, Sample
from llava.generation.request import GenerationConfig, Request, RequestFailure
from runners.environment import process_age_s
from runners.predict import PromptRenderer
from runners.progress import Progress
from runners.shard import cut_into_pieces
from runners.signals import Interruption
from runners.task_run import TaskRun
from runners.workers.interface import Worker
from runners.workers.messages import Answered, ItemDone, Stop, WorkItem

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_ITEMS_AHEAD = 2
_WORKER_NAME = "local-0"


class Asker:
    """Keeps one worker busy with the questions of one task after the other.

    Args:
        worker: Has its model loaded.
        renderer: Makes prompts of questions.
        num_image_tokens: What an image costs, for cutting the work.
        interruption: Where a request to stop is seen.
        progress: Counts questions.
        since_s: Age of this process when the run began, 0 if the process began with it.

    Attributes:
        first_answer_s: Seconds from the beginning to the first answer; None before it.
    """

    def __init__(
        self,
        worker: Worker,
        renderer: PromptRenderer,
        num_image_tokens: int,
        interruption: Interruption,
        progress: Progress,
        since_s: float,
    ) -> None:
        self._worker = worker
        self._renderer = renderer
        self._num_image_tokens = num_image_tokens
        self._interruption = interruption
        self._progress = progress
        self._since_s = since_s
        self._num_items = 0
        self.first_answer_s: float | None = None

    def ask(self, task_run: TaskRun, generation: GenerationConfig) -> bool:
        """Has the pending questions of a task answered; returns whether it was through with them.

        Raises:
            WorkerError: the worker died; what it had answered is stored.
        """
        self._progress.enter_task(task_run.name)
        samples = {sample.key: sample for sample in task_run.pending()}
        items = self._build_items(task_run, list(samples.values()), generation)
        num_outstanding, told_to_stop = 0, False
        while True:
            while num_outstanding < _ITEMS_AHEAD and (item := next(items, None)) is not None:
                self._worker.send(item)
                num_outstanding += 1
            if num_outstanding == 0:
                return True
            if self._interruption.requested and not told_to_stop:
                self._worker.send(Stop())
                told_to_stop = True
            message = self._worker.receive(_POLL_S)
            if isinstance(message, Answered):
                self._store(task_run, samples[message.result.key], message)
            elif isinstance(message, ItemDone):
                num_outstanding -= 1
                if message.stopped:
                    return False

    def _build_items(
        self, task_run: TaskRun, samples: list[Sample], generation: GenerationConfig
    ) -> Iterator[WorkItem]:
        for piece in cut_into_pieces(samples, self._num_image_tokens):
            requests: list[Request] = []
            for sample in piece:
                request = self._renderer.build_request(sample, generation)
                if isinstance(request, Failure):
                    task_run.record(sample, request, worker=None)
                    self._progress.update(failed=True)
                else:
                    requests.append(request)
            if requests:
                self._num_items += 1
                yield WorkItem(number=self._num_items, requests=tuple(requests))

    def _store(self, task_run: TaskRun, sample: Sample, message: Answered) -> None:
        task_run.record(sample, message.result, worker=_WORKER_NAME)
        if self.first_answer_s is None:
            self.first_answer_s = process_age_s() - self._since_s
            event = "the job's" if self._since_s else "process"
            logger.info("first answer %.1f s after %s start", self.first_answer_s, event)
        self._progress.update(failed=isinstance(message.result, RequestFailure))
