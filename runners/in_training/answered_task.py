"""A benchmark that a model in memory was asked in one go: the answers, and what they come to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from evals.records import Failure, Sample
from runners.evaluation.identity import ModelIdentity
from runners.evaluation.progress import Progress
from runners.evaluation.prompts import PromptRenderer
from runners.evaluation.provenance import Environment, Timing
from runners.evaluation.questions import AskedTask
from runners.evaluation.resuming import TaskRun
from runners.evaluation.work import Work
from runners.in_training.ranks import Ranks
from runners.storage.answer_lines import count_replays, is_failure
from runners.storage.asked import TOKENS_OF_AN_IMAGE, shard_samples
from runners.storage.files import sha256_of_lines
from runners.storage.summary import SummaryFile
from runners.workers.interface import Engine, Result, from_engine


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredTask:
    """What became of every question that a benchmark was to be asked; the results are by key."""

    asked: AskedTask
    results: Mapping[str, Result]
    timing: Timing

    def summarize(self) -> SummaryFile:
        """Returns what `summary.json` would hold."""
        lines, traces = {}, []
        for sample in self.asked.samples:
            given = self.results[sample.key]
            lines[sample.key], trace = self.asked.render(sample, given.result, worker=given.worker)
            traces.append(trace)
        summary, _ = self.asked.summarize(
            lines,
            {key for key, line in lines.items() if is_failure(line)},
            limit=self.asked.limit,
            batch_check=count_replays((each["replayed"], each["flipped"]) for each in traces),
            answers_hash=sha256_of_lines(lines.values()),
            timing=self.timing.to_json(),
        )
        return summary

    def store(self, task_run: TaskRun, model: ModelIdentity, environment: Environment) -> None:
        """Writes the answers of a stored run into the folder that `task_run` has locked.

        Raises:
            StoreError: the disk does not take it, or somebody removed the lock meanwhile.
        """
        task_run.open()
        task_run.begin(model, environment)
        for sample in task_run.pending():
            given = self.results[sample.key]
            task_run.record(sample, given.result, given.worker)


def samples_of_rank(asked: AskedTask, ranks: Ranks) -> list[Sample]:
    """Returns the questions that this process is to answer."""
    return shard_samples(asked.answerable, ranks.index + 1, ranks.count)


def answer_task(
    asked: AskedTask,
    engine: Engine,
    renderer: PromptRenderer,
    ranks: Ranks,
    progress: Progress | None = None,
) -> AnsweredTask:
    """Returns all answers to a benchmark. Every rank has to call it, and gives its part of them.

    `progress` counts this rank's part; None counts nothing.
    """
    started = time.monotonic()
    samples = samples_of_rank(asked, ranks)
    if progress is not None:
        progress.enter_task(asked.name, len(samples))
    work = Work(
        samples=samples,
        renderer=renderer,
        generation=asked.generation,
        num_image_tokens=TOKENS_OF_AN_IMAGE,
        pack_tokens=engine.max_tokens,
    )
    mine: dict[str, Result] = {}
    for requests in work.items():
        for result in map(from_engine, engine.run(requests)):
            mine[result.key] = Result(result=result, worker=f"rank {ranks.index}")
            if progress is not None:
                progress.update(failed=isinstance(result, Failure))
                progress.tick(ranks.count)
    unasked = [*asked.images.missing.values(), *work.take_failures()]
    mine |= {failure.key: Result(result=failure, worker=None) for failure in unasked}
    parts = ranks.gather((mine, time.monotonic() - started))
    results = {key: result for part, _ in parts for key, result in part.items()}
    timing = Timing(num_asked=len(results), wall_s=max(seconds for _, seconds in parts))
    return AnsweredTask(asked=asked, results=results, timing=timing)
