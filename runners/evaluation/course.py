"""The course of an evaluation: check everything, load once, ask, store, score."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.scorers.judge import Judged
from evals.submission import Submittable
from llava.errors import CheckpointError, ConversationError
from llava.model.content_hash import cached_hash
from runners.environment import command, resume_command
from runners.errors import COMPLETE, INCOMPLETE, ConfigError
from runners.evaluation.checkpoint import Subject, inspect_subject
from runners.evaluation.dry_run import memory_bytes, plan_task, render_plans
from runners.evaluation.session import PROGRAM, Session, Timing
from runners.evaluation.task_run import TaskRun
from runners.logs import RunLog
from runners.options.eval import EvalConfig
from runners.options.names import run_name
from runners.options.task_spec import TaskSpec
from runners.signals import Interruption
from runners.storage.identity import UNKNOWN, engine_identity
from runners.storage.run_table import render_summaries, write_tables
from runners.storage.summary import SUMMARY_FILE
from runners.workers.build import build_workers

logger = logging.getLogger(__name__)


class Evaluation:
    """One run: a model, some tasks, the workers of the runner.

    Args:
        settings: The options.
        specs: The benchmarks by their key in `tasks`.
        log: Where it is told what happens.
        interruption: Where a request to stop is seen.
        since_s: Age of this process when the run began, 0 if the process began with it.
    """

    def __init__(
        self,
        settings: EvalConfig,
        specs: Mapping[str, TaskSpec],
        *,
        log: RunLog,
        interruption: Interruption,
        since_s: float = 0.0,
    ) -> None:
        self._settings = settings
        self._specs = specs
        self._log = log
        self._interruption = interruption
        self._since_s = since_s
        self._run_dir = Path(settings.results_dir) / run_name(settings)
        self._workers = build_workers(settings.runner)
        self._weight_stats: Stats = {}
        self._resources = ExitStack()
        self._resources.callback(self._workers.close)

    def run(self) -> int:
        """Returns the exit code: 0, 1 with failures, 130 or 143 if interrupted."""
        if self._settings.dry_run:
            return self._plan()
        if self._settings.overwrite or not self._looks_complete():
            # The worker's imports take seconds, in which the data can be read.
            self._workers.start(self._settings.device)
        subject, task_runs = self._prepare()
        identity = self._identity(subject)
        for task_run in task_runs:
            self._resources.enter_context(task_run)
            task_run.lock()
        _check_all(task_runs, identity)
        self._log.attach(self._run_dir)
        logger.info("%s", command(PROGRAM))
        logger.info("conversation template %s: %s", subject.template, subject.template_reason)
        for task_run in task_runs:
            task_run.open()
        timings: list[Timing] | None
        if any(task_run.pending() for task_run in task_runs):
            timings = self._answer_all(subject, task_runs, identity)
        else:
            logger.info("every question has been asked before; no model is loaded")
            timings = [None] * len(task_runs)
        if timings is None:
            logger.warning("Stopped. To go on: %s", resume_command(PROGRAM))
            return self._interruption.exit_code
        return self._report(task_runs, timings)

    def _plan(self) -> int:
        """Prints what the run would take; returns the exit code."""
        subject, task_runs = self._prepare()
        renderer = subject.build_renderer()
        plans = [plan_task(run.name, run.samples, renderer, subject) for run in task_runs]
        on_cpu = self._settings.device == "cpu"
        dtype = self._settings.dtype or ("float32" if on_cpu else "float16")
        if dtype == "auto":
            dtype = subject.stored_dtype()
        checkpoint = subject.checkpoint
        memory = memory_bytes(
            checkpoint.config, dtype, self._settings.quantization.name, checkpoint.tower_config
        )
        shown = render_plans(plans, memory, dtype=dtype, device=self._settings.device)
        print(f"{self._run_dir.name}\n{shown}")
        return COMPLETE

    def __enter__(self) -> Evaluation:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _looks_complete(self) -> bool:
        return all((self._run_dir / name / SUMMARY_FILE).is_file() for name in self._specs)

    def _prepare(self) -> tuple[Subject, list[TaskRun]]:
        """Checkpoint and questions; everything that is wrong with them comes in one message."""
        problems: list[Exception] = []
        try:
            subject = inspect_subject(self._settings)
        except (CheckpointError, ConversationError) as error:
            problems.append(error)
        task_runs = []
        for spec in self._specs.values():
            try:
                task_runs.append(TaskRun(spec, self._run_dir, self._settings))
            except DataError as error:
                problems.append(error)
        _raise_together(problems)
        _raise_together(_blind(subject, task_runs))
        return subject, task_runs

    def _identity(self, subject: Subject) -> dict[str, Any]:
        """The part of the identity that all tasks share; the dtype may come from the device."""
        settings = self._settings
        self._weight_stats = _stats(subject)  # before the hashes: what changes later is noticed
        files = {role: dict(hashes) for role, hashes in subject.file_hashes().items()}
        for role, content_hash in self._weight_hashes(subject).items():
            files.setdefault(role, {})["weights"] = content_hash
        dtype = subject.stored_dtype() if settings.dtype == "auto" else settings.dtype
        return {
            "model": subject.name,
            **files,
            "conversation": subject.template,
            "dtype": dtype or UNKNOWN,
            "vision_tower_dtype": settings.model.vision_tower_dtype,
            "quantization": settings.quantization.to_plain(),
            # answers that packing may have changed are kept as they come only without replay
            "engine": engine_identity(settings.engine),
        }

    def _weight_hashes(self, subject: Subject) -> dict[str, str]:
        """Hashes of the tensors by role; what changed since it was hashed is hashed again."""
        files = subject.weight_files()
        hashes = {role: cached_hash(paths) for role, paths in files.items()}
        known = {role: value for role, value in hashes.items() if value is not None}
        unknown = {role: paths for role, paths in files.items() if role not in known}
        if unknown:
            self._workers.start(self._settings.device)
            known |= self._workers.hash_weights(unknown)
        return known

    def _answer_all(
        self, subject: Subject, task_runs: Sequence[TaskRun], identity: dict[str, Any]
    ) -> list[Timing] | None:
        """Has all pending questions answered; returns the tasks' timings, None if interrupted."""
        self._workers.start(self._settings.device)
        ready = self._workers.wait_until_ready()
        if identity["dtype"] == UNKNOWN:
            identity = {**identity, "dtype": ready.default_dtype}
        _check_all(task_runs, identity)
        session = Session(self._settings, subject, self._workers, self._interruption, self._since_s)
        loaded = session.load(ready, identity["dtype"])
        if _stats(subject) != self._weight_stats:
            raise ConfigError(
                f"The weights of {subject.name} were written to while this run began, so it is not "
                "known which ones were loaded. Start it again once they are complete."
            )
        return session.answer_all(task_runs, identity, ready, loaded)

    def _report(self, task_runs: Sequence[TaskRun], timings: Sequence[Timing]) -> int:
        """Scores, prints and writes the tables; returns the exit code."""
        summaries = [
            task_run.finish(timing) for task_run, timing in zip(task_runs, timings, strict=True)
        ]
        write_tables(self._run_dir)
        print(f"{self._run_dir.name}\n{render_summaries(summaries)}\n")
        for task_run in task_runs:
            if not task_run.task.has_annotations:
                way = "it has no scorer"
                if isinstance(task_run.task, Submittable):
                    way = "runners.submit writes the file for the server"
                elif isinstance(task_run.task, Judged):
                    way = (
                        f"a judge scores them: runners.score run={self._run_dir.name} judge=openai"
                    )
                logger.info(
                    "%s %s is not scored here: %s; the answers are in %s",
                    task_run.name,
                    task_run.task.split,
                    way,
                    task_run.folder,
                )
        logger.info("results in %s", self._run_dir)
        too_many = [
            f"{task_run.name} {number:,}"
            for task_run in task_runs
            if (number := task_run.num_unanswered()) > self._settings.max_failures
        ]
        if too_many:
            logger.error(
                "Incomplete: questions without an answer, more than max_failures=%d: %s. The same "
                "command asks them again.",
                self._settings.max_failures,
                ", ".join(too_many),
            )
            return INCOMPLETE
        return COMPLETE


Stats = dict[Path, tuple[int, ...]]


def _stats(subject: Subject) -> Stats:
    """What changes whenever a weight file is written to, also under its old size and time."""
    stats: Stats = {}
    for paths in subject.weight_files().values():
        for path in paths:
            stat = path.stat()
            stats[path] = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return stats


def _blind(subject: Subject, task_runs: Sequence[TaskRun]) -> list[Exception]:
    """What is wrong with asking a model without a vision tower about images."""
    if subject.checkpoint.is_multimodal:
        return []
    return [
        CheckpointError(
            f"{subject.name} is a language model without a vision tower, but {number:,} questions "
            f"of {task_run.name} show images. Give a LLaVA checkpoint, or the adapter or projector "
            "that was trained over this model, with `model.path=`, and this one as `model.base=`."
        )
        for task_run in task_runs
        if (number := sum(bool(sample.images) for sample in task_run.samples))
    ]


def _check_all(task_runs: Sequence[TaskRun], identity: Mapping[str, Any]) -> None:
    """Checks that every task may go on in its folder; what is in the way comes in one message."""
    problems: list[Exception] = []
    for task_run in task_runs:
        try:
            task_run.check(identity)
        except ConfigError as error:
            problems.append(error)
    _raise_together(problems)


def _raise_together(problems: Sequence[Exception]) -> None:
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigError("\n".join(map(str, problems))) from problems[0]
