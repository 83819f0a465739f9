"""The questions of a task go to the workers, and what comes back is stored."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from evals.records import Failure, Sample
from llava.generation.request import GenerationConfig, Request
from runners.environment import process_age_s
from runners.evaluation.pieces import cut_into_pieces, estimate_piece, item_tokens
from runners.evaluation.progress import Progress
from runners.evaluation.prompts import PromptRenderer
from runners.evaluation.task_run import TaskRun
from runners.signals import Interruption
from runners.workers.interface import Result, Workers

logger = logging.getLogger(__name__)


class Asker:
    """Keeps the workers busy with the questions of one task after the other.

    Args:
        workers: Have their model, or are loading it.
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
        workers: Workers,
        renderer: PromptRenderer,
        num_image_tokens: int,
        interruption: Interruption,
        progress: Progress,
        since_s: float,
    ) -> None:
        self._workers = workers
        self._renderer = renderer
        self._num_image_tokens = num_image_tokens
        self._interruption = interruption
        self._progress = progress
        self._since_s = since_s
        self._stop_by: float | None = None
        self.first_answer_s: float | None = None

    def ask(self, task_run: TaskRun, generation: GenerationConfig) -> bool:
        """Has the pending questions of a task answered; returns whether it was through with them.

        Raises:
            WorkerError: no worker is left; what they had answered is stored.
        """
        self._progress.enter_task(task_run.name)
        samples = {sample.key: sample for sample in task_run.pending()}
        items = self._build_items(task_run, list(samples.values()), generation)
        for result in self._workers.answer(items):
            if result is not None:
                self._store(task_run, samples[result.result.key], result)
            else:
                task_run.sync()
                self._progress.tick(self._workers.num_alive)
            if self._interruption.requested and not self._may_go_on():
                break
        return not self._interruption.requested

    def _may_go_on(self) -> bool:
        """Stops the workers the first time; returns whether there is time left for them to end."""
        if self._stop_by is None:
            self._workers.stop()
            grace_s = self._workers.grace_s if self._interruption.is_urgent else float("inf")
            self._stop_by = time.monotonic() + grace_s
        return time.monotonic() < self._stop_by

    def _build_items(
        self, task_run: TaskRun, samples: list[Sample], generation: GenerationConfig
    ) -> Iterator[tuple[Request, ...]]:
        """Heaviest first, so that no worker is left alone with a large one; made when needed."""
        total = estimate_piece(samples, self._num_image_tokens)
        size = item_tokens(total, self._workers.num_alive)
        pieces = list(cut_into_pieces(samples, self._num_image_tokens, size))
        pieces.sort(key=lambda piece: -estimate_piece(piece, self._num_image_tokens))
        for piece in pieces:
            requests: list[Request] = []
            for sample in piece:
                request = self._renderer.build_request(sample, generation)
                if isinstance(request, Failure):
                    task_run.record(sample, request, worker=None)
                    self._progress.update(failed=True)
                else:
                    requests.append(request)
            if requests:
                yield tuple(requests)

    def _store(self, task_run: TaskRun, sample: Sample, result: Result) -> None:
        task_run.record(sample, result.result, worker=result.worker)
        if self.first_answer_s is None:
            self.first_answer_s = process_age_s() - self._since_s
            event = "the job's" if self._since_s else "process"
            logger.info("first answer %.1f s after %s start", self.first_answer_s, event)
        self._progress.update(failed=isinstance(result.result, Failure))
