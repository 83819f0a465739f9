"""The course of an evaluation: check everything, load once, ask, store, score."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from evals.errors import DataError
from llava.errors import CheckpointError, ConversationError
from llava.generation.calibration import Calibration
from runners.environment import (
    command,
    describe_environment,
    process_age_s,
    resume_command,
    source_hash,
)
from runners.errors import COMPLETE, INCOMPLETE, ConfigError
from runners.evaluation.asker import Asker
from runners.evaluation.canary import check_canary
from runners.evaluation.checkpoint import Subject, inspect_subject
from runners.evaluation.dry_run import describe_run
from runners.evaluation.identity import ModelIdentity, identify_checkpoint
from runners.evaluation.progress import Progress
from runners.evaluation.provenance import Environment, Timing
from runners.evaluation.questions import AskedTask
from runners.evaluation.rerun import repeatable_options
from runners.evaluation.resuming import TaskRun
from runners.evaluation.work import most_image_tokens
from runners.logs import RunLog, doing, stdout_columns
from runners.options.eval import EvalConfig
from runners.options.names import run_name
from runners.options.program import is_later_job, is_swept_job
from runners.options.sweep_jobs import note_figures
from runners.options.task_spec import TaskSpec
from runners.signals import Interruption
from runners.storage.identity import UNKNOWN
from runners.storage.run_table import render_summaries, summary_rows, write_tables
from runners.storage.stored import StoredTask
from runners.workers.interface import build_workers
from runners.workers.loaded_files import (
    FileStates,
    describe_other_files,
    read_states,
    require_unchanged,
)
from runners.workers.messages import ModelLoaded

logger = logging.getLogger(__name__)

PROGRAM = "runners.eval"


class Problems:
    """Keeps what is wrong before a run begins, until everything has been looked at."""

    def __init__(self) -> None:
        self._found: list[Exception] = []

    @contextmanager
    def kept(self, *kinds: type[Exception]) -> Iterator[None]:
        """While it is entered, an error of these kinds is kept instead of raised."""
        try:
            yield
        except kinds as error:
            self._found.append(error)

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_all(self) -> None:
        """Raises what was kept, if anything was: a single error as it is, several as one."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise ConfigError("\n".join(map(str, self._found))) from self._found[0]


def run_course(settings: EvalConfig, specs: Mapping[str, TaskSpec]) -> int:
    """Runs an evaluation of the benchmarks, by their key in `tasks`; returns the exit code."""
    run_log = RunLog(quiet=settings.quiet, form=settings.log)
    with run_log as log, Interruption() as interruption:
        course = None
        try:
            with ExitStack() as resources:
                course = Course(
                    settings=settings,
                    specs=specs,
                    log=log,
                    interruption=interruption,
                    resources=resources,
                    since_s=process_age_s() if is_later_job() else 0.0,
                )
                return course.run()
        except KeyboardInterrupt:
            logger.warning("%s", _stopped([] if course is None else course.task_runs))
            return interruption.exit_code


@dataclass(kw_only=True)
class Course:
    """One run: a model, some tasks, the workers of the runner.

    Attributes:
        specs: The benchmarks by their key in `tasks`.
        resources: What is closed when the run is over, the tasks' folders and the workers.
        since_s: Age of this process when the run began, 0 if the process began with it.
        task_runs: The benchmarks on disk, as far as they have been looked at.
    """

    settings: EvalConfig
    specs: Mapping[str, TaskSpec]
    log: RunLog
    interruption: Interruption
    resources: ExitStack
    since_s: float

    def __post_init__(self) -> None:
        self._run_dir = Path(self.settings.results_dir) / run_name(self.settings)
        self._workers = build_workers(self.settings.runner)
        self.task_runs: list[TaskRun] = []
        self._states: FileStates = {}
        self._source = source_hash()  # of what is imported here, before it can be changed
        self.resources.callback(self._workers.close)

    def run(self) -> int:
        """Returns the exit code: 0, 1 with failures, 130 or 143 if interrupted."""
        if self.settings.dry_run:
            subject = self._inspect()
            tasks = [task_run.asked for task_run in self.task_runs]
            told = f"conversation template {subject.template}: {subject.template_reason}"
            print(f"{self._run_dir.name}\n{told}\n{describe_run(subject, tasks, self.settings)}")
            return COMPLETE
        stored = (StoredTask(self._run_dir / name) for name in self.specs)
        if self.settings.overwrite or not all(task.has_figures for task in stored):
            # The worker's imports take seconds, in which the data can be read.
            self._workers.start(self.settings.device)
        subject = self._inspect()
        self._states = read_states(subject.checkpoint)  # before the hashes
        with doing("hashing the checkpoint"):
            model = identify_checkpoint(subject, self.settings, self._hash_weights)
        with doing("reading stored answers"):
            self._open(subject, model)
        timings: dict[str, Timing] = {}
        if any(task_run.pending() for task_run in self.task_runs):
            timings = self._ask(subject, *self._load(subject, model))
        else:
            logger.info("every question has been asked before; no model is loaded")
        if self.interruption.requested:
            logger.warning("%s", _stopped(self.task_runs))
            return self.interruption.exit_code
        return self._conclude(timings)

    def _inspect(self) -> Subject:
        """Looks at checkpoint and questions; all that is wrong with them comes in one message."""
        settings, problems = self.settings, Problems()
        if settings.generation.top_p is not None and settings.generation.temperature == 0:
            logger.warning("generation.top_p has no effect, as generation.temperature is 0: greedy")
        with problems.kept(CheckpointError, ConversationError):
            subject = inspect_subject(settings)
        for key, spec in self.specs.items():
            reading = doing(f"reading the questions of {key}")
            with problems.kept(ConfigError, DataError), reading:
                task_run = TaskRun(
                    AskedTask(spec.build(), settings, spec),
                    self._run_dir,
                    overwrite=settings.overwrite,
                    retry_failed=settings.retry_failed,
                )
                if not task_run.asked.samples:
                    logger.info("%s has no questions for this part and is left out", task_run.name)
                    continue
                if not settings.dry_run:
                    task_run.require_images()
                self.task_runs.append(task_run)
        problems.raise_all()
        if not self.task_runs:
            raise DataError(
                f"{', '.join(self.specs)}: no questions for runner.shard={settings.runner.shard}, "
                "as there are more parts than images. Use fewer."
            )
        for task_run in self.task_runs:
            with problems.kept(CheckpointError, ConfigError):
                subject.require_vision(task_run.name, task_run.asked.samples)
                subject.require_choices(task_run.asked.samples)
        problems.raise_all()
        return subject

    def _hash_weights(self, files: Mapping[str, Sequence[Path]]) -> Mapping[str, str]:
        self._workers.start(self.settings.device)
        return self._workers.hash_weights(files)

    def _open(self, subject: Subject, model: ModelIdentity) -> None:
        """Takes the tasks' folders, and reads what lies there if this run may go on with it."""
        for task_run in self.task_runs:
            self.resources.enter_context(task_run)
            task_run.lock()
        self._check(model)
        self.log.attach(self._run_dir)
        logger.info("%s", command(PROGRAM))
        logger.info("conversation template %s: %s", subject.template, subject.template_reason)
        for task_run in self.task_runs:
            task_run.open()
            total = len(task_run.asked.samples)
            if stored := total - task_run.num_unanswered():
                logger.info("%s: %d of %d answers are there", task_run.name, stored, total)

    def _check(self, model: ModelIdentity) -> None:
        """Checks that every task may go on; what is in the way comes in one message."""
        problems = Problems()
        for task_run in self.task_runs:
            with problems.kept(ConfigError):
                task_run.check(model)
        problems.raise_all()

    def _load(
        self, subject: Subject, model: ModelIdentity
    ) -> tuple[ModelIdentity, Environment, ModelLoaded]:
        """Has the workers load the model; returns what it is now, where, and what they loaded.

        Raises:
            ConfigError: it cannot be loaded, or is not the one that the run goes on with.
        """
        self._workers.start(self.settings.device)
        with doing("starting the workers"):
            ready = self._workers.wait_until_ready()
        if model.dtype == UNKNOWN:
            model = replace(model, dtype=ready.default_dtype)
        self._check(model)
        order = subject.load_order(
            self.settings, dtype=model.dtype, engine=self.settings.engine, source=self._source
        )
        with doing("loading the model"):
            loaded = self._workers.load(order)
        device = ready.hardware.device
        logger.info("model loaded in %.1f s (%s, %s)", loaded.load_s, device, model.dtype)
        if other := describe_other_files(model.files, loaded.files):
            raise ConfigError(
                f"The files of {subject.name} were written to while this run began, or lie "
                f"otherwise where they were loaded: {other}. Start it again once they are complete."
            )
        environment = Environment(
            command=command(PROGRAM),
            machine=describe_environment(),
            hardware=ready.hardware,
            num_workers=self._workers.num_alive,
            attention=loaded.attention,
            marks_images=subject.marks_images,
            engine=self.settings.engine.to_json(),
            details={
                "runner": self.settings.runner.to_json(),
                "options": asdict(repeatable_options(self.settings)),
                "load_report": dict(loaded.report),
                "template": {
                    "reason": subject.template_reason,
                    "conversation": subject.model_template,
                },
            },
        )
        return model, environment, loaded

    def _ask(
        self,
        subject: Subject,
        model: ModelIdentity,
        environment: Environment,
        loaded: ModelLoaded,
    ) -> dict[str, Timing]:
        """Has the pending questions answered; returns the timings of the tasks that have any."""
        renderer = subject.build_renderer()
        require_unchanged(subject.checkpoint, self._states)  # what was read here, too
        timings: dict[str, Timing] = {}
        if self.settings.canary == "on":
            with doing("asking a few questions with and without their image"):
                check_canary(self._workers, renderer, self.task_runs)
        measured = (task_run.measured_before(environment) for task_run in self.task_runs)
        known = next((calibration for calibration in measured if calibration is not None), None)
        known = known or Calibration()
        total = sum(len(task_run.asked.samples) for task_run in self.task_runs)
        num_pending = sum(len(task_run.pending()) for task_run in self.task_runs)
        self._workers.brief(total, known)  # the bound is the whole run's, not each session's
        with Progress(total, total - num_pending) as progress, self.interruption.patience():
            asker = Asker(
                workers=self._workers,
                renderer=renderer,
                num_image_tokens=most_image_tokens(subject.checkpoint),
                pack_tokens=loaded.max_tokens,
                interruption=self.interruption,
                progress=progress,
                load_s=loaded.load_s,
                since_s=self.since_s,
            )
            for task_run in self.task_runs:
                if not task_run.pending() or self.interruption.requested:
                    continue
                task_run.begin(model, environment)
                timings[task_run.name] = timing = asker.ask(task_run)
                calibration = known.merged(timing.after.calibration)
                task_run.amend(replace(timing.after, calibration=calibration))
        return timings

    def _conclude(self, timings: Mapping[str, Timing]) -> int:
        """Scores the tasks, prints and writes the tables; returns the exit code.

        Raises:
            DataError: one of them cannot be scored; all others are.
        """
        scored, problems = [], Problems()
        for task_run in self.task_runs:
            with problems.kept(DataError), doing(f"scoring {task_run.name}"):
                scored.append((task_run, task_run.finish(timings.get(task_run.name))))
        summaries = [summary for _, summary in scored]
        write_tables(self._run_dir)
        if summaries:
            print(f"{self._run_dir.name}\n{render_summaries(summaries, stdout_columns())}\n")
        note_figures({"run": self._run_dir.name})
        note_figures({row["task"]: row["score"] for row in summary_rows(summaries)})
        if problems:
            logger.warning(
                "All answers are stored: the same command%s scores them without a model.",
                self._with(),
            )
            problems.raise_all()
        for task_run, summary in scored:
            if not task_run.asked.task.has_annotations and summary.judge is None:
                _say_who_scores(task_run)
        logger.info("results in %s", self._run_dir)
        max_failures = self.settings.max_failures
        too_many = [
            f"{task_run.name} {number:,}"
            for task_run in self.task_runs
            if (number := task_run.num_unanswered()) > max_failures
        ]
        if not too_many:
            return COMPLETE
        logger.error(
            "Incomplete: questions without an answer, more than max_failures=%d: %s. The same "
            "command%s asks them again.",
            max_failures,
            ", ".join(too_many),
            self._with(*(() if self.settings.retry_failed else ("retry_failed=true",))),
        )
        return INCOMPLETE

    def _with(self, *options: str) -> str:
        """Behind "the same command": what it needs to go on, beside what is given here."""
        needed = [*(["overwrite=false"] if self.settings.overwrite else []), *options]
        return f" with {' '.join(needed)}" if needed else ""


def _stopped(task_runs: Sequence[TaskRun]) -> str:
    """What is said of a run that was interrupted: how much is stored, and how to go on."""
    is_begun = bool(task_runs) and all(task_run.is_open for task_run in task_runs)
    told = ""
    if is_begun:
        total = sum(len(task_run.asked.samples) for task_run in task_runs)
        stored = total - sum(task_run.num_unanswered() for task_run in task_runs)
        told = f" {stored:,} of {total:,} answers are stored."
    command_line = resume_command(PROGRAM, is_begun=is_begun, is_swept=is_swept_job())
    return f"Stopped.{told} To go on: {command_line}"


def _say_who_scores(task_run: TaskRun) -> None:
    """Says what becomes of answers that cannot be scored here."""
    task = task_run.asked.task
    logger.info("%s %s The answers are in %s.", task.title, task.lack, task_run.folder)
