"""One task of a run on disk, which a later session goes on with.

What is stored, what is still to be asked, and what comes out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from evals.errors import DataError
from evals.records import Failure, Sample, Score
from llava.generation.calibration import Calibration
from llava.generation.request import Completion, EngineReport
from runners.environment import now
from runners.errors import StoreError
from runners.evaluation.identity import ModelIdentity
from runners.evaluation.images import ImageFiles
from runners.evaluation.provenance import Environment, Timing, near_tie_rule
from runners.evaluation.questions import AskedTask
from runners.scoring.score import included_code
from runners.storage.answer_lines import is_failure
from runners.storage.answer_store import AnswerStore
from runners.storage.files import sha256_of_json
from runners.storage.identity import OTHER_PLACE, check_identity, differences, is_of_data
from runners.storage.lock import (
    FolderLock,
    explaining_disk_errors,
    move_verdicts,
)
from runners.storage.manifest import (
    Manifest,
    amend_environment,
    other_code,
    read_manifest,
    write_manifest,
)
from runners.storage.run_table import render_metric
from runners.storage.stored import State, StoredTask
from runners.storage.summary import SummaryFile, read_summary, write_results

logger = logging.getLogger(__name__)


class TaskRun:
    """The answers of one task in the folder that they are stored in.

    Nothing is read or written before `lock`. With `overwrite`, answers that are there are set aside
    and it starts anew; with `retry_failed`, questions that failed before are asked again.

    Attributes:
        asked: The questions.
        folder: The task's folder, in the run's.
    """

    def __init__(
        self, asked: AskedTask, run_dir: Path, *, overwrite: bool = False, retry_failed: bool = True
    ) -> None:
        self.asked = asked
        self.folder = run_dir / asked.name
        self._overwrite = overwrite
        self._retry_failed = retry_failed
        self._changed: set[str] = set()
        self._has_recorded = False
        self._lock = FolderLock(self.folder)
        self._manifest: Manifest | None = None
        self._store: AnswerStore | None = None

    @property
    def name(self) -> str:
        """The task's name."""
        return self.asked.name

    @property
    def is_open(self) -> bool:
        """Whether stored answers were read, and what `overwrite` sets aside was set aside."""
        return self._store is not None

    def require_images(self) -> None:
        """Checks that there is a question that can be answered, unless answers are stored.

        Raises:
            DataError: there is none, as no image is there.
        """
        if self._overwrite or not StoredTask(self.folder).answers_path.exists():
            self.asked.require_images()

    def lock(self) -> None:
        """Takes the folder for this process.

        Raises:
            ConfigError: another process has it, or what lies there cannot be read and written.
            StoreError: the disk is full.
        """
        self._lock.acquire()

    def check(self, model: ModelIdentity, way_out: str = OTHER_PLACE) -> None:
        """Checks that what lies in the folder is of this run; `way_out` as in `check_identity`.

        Raises:
            ConfigError: it is not.
        """
        if self._overwrite:
            return
        self._manifest = read_manifest(self.folder)
        if self._manifest is not None:
            stored, here = self._manifest.identity, self.asked.identity(model)
            told = self._other_data(self._manifest, here)
            check_identity(self.folder, stored, here, told, way_out)

    def is_done(self, max_failures: int) -> bool:
        """Whether this run would ask nothing and come to the stored figures; after `check`.

        That is not known, so no, where an image file has another state than when it was asked
        about. Nothing is written, and the folder need not be locked.

        Raises:
            DataError: the stored figures cannot be read.
        """
        stored, asked = StoredTask(self.folder), self.asked
        summary = stored.summary
        if summary is None or stored.state is not State.FINISHED:
            return False
        scorer = sha256_of_json(asked.task.definition)
        if summary.judge is None and summary.hashes.scorer != scorer:
            return False
        if summary.hashes.included_code not in (None, included_code(asked.task)):
            return False
        lines, traces = stored.answers.lines, stored.answers.traces
        answered = [s for s in asked.samples if s.key in lines and not is_failure(lines[s.key])]
        is_same = all(
            traces[sample.key]["image_stat"] == asked.images.stats(sample)
            for sample in answered
            if sample.key not in asked.images.missing
        )
        num_questions, num_failed = len(asked.samples), len(asked.samples) - len(answered)
        return is_same and summary.num_questions == num_questions and num_failed <= max_failures

    def _other_data(
        self, manifest: Manifest, here: Mapping[str, object]
    ) -> dict[str, tuple[object, object]]:
        """The options that say which data the stored answers are of, where those are others."""
        before, spec = manifest.environment.get("task"), self.asked.spec
        others = any(map(is_of_data, differences(manifest.identity, here)))
        if not others or spec is None or not isinstance(before, Mapping):
            return {}
        found = differences(before, spec.to_json(), f"tasks.{self.name}.")
        return dict(sorted(found.items(), key=lambda item: not item[0].endswith(".split")))

    def open(self) -> None:
        """Reads the stored answers; with `overwrite`, sets them aside first."""
        with self._writing():
            if self._overwrite:
                self._lock.set_aside()
            self._store = AnswerStore(self.folder)
            self._store.report_repairs()
            self.asked.report_missing({key for key in self.asked.images.missing if self._has(key)})
            self._changed = self.asked.images.find_changed(self.asked.samples, self._store)

    def pending(self) -> list[Sample]:
        """The questions that a worker has to be asked.

        They are not stored, or failed and to be retried, or were asked about an image that has
        changed since.
        """
        lines = self._answers.lines
        retried = self._answers.failed() if self._retry_failed else frozenset()
        return [
            sample
            for sample in self.asked.answerable
            if sample.key not in lines or sample.key in retried or sample.key in self._changed
        ]

    def failed_before(self) -> set[str]:
        """The keys of questions whose last attempt failed."""
        return self._answers.failed()

    def begin(self, model: ModelIdentity, environment: Environment) -> None:
        """Writes the manifest before the first answer of this session, then the missing images."""
        session, spec = environment.to_json(), self.asked.spec
        self._tell_other_code(session)
        begun = {
            "started": now(),
            "num_stored": len(self._answers.lines),
            "num_questions": len(self.asked.samples),
            **session,
        }
        manifest = Manifest(
            identity=self.asked.identity(model),
            environment={**session, "task": None if spec is None else spec.to_json()},
            history=[*(self._manifest.history if self._manifest else ()), begun],
        )
        with self._writing():
            write_manifest(self.folder, manifest)
            if StoredTask(self.folder).has_figures:
                move_verdicts(self.folder)
        self._record_missing_images()

    def measured_before(self, here: Environment) -> Calibration | None:
        """Returns what an earlier session of this run measured that decides near ties here."""
        return here.measured_before(self._manifest.environment) if self._manifest else None

    def amend(self, report: EngineReport) -> None:
        """Adds what was measured since `begin` to the manifest's environment.

        Raises:
            StoreError: it cannot be written, or somebody removed it.
        """
        with self._writing():
            amend_environment(self.folder, {"near_ties": near_tie_rule(report)})

    def record(self, sample: Sample, result: Completion | Failure, worker: str | None) -> None:
        """Stores one answer or failure.

        Raises:
            StoreError: it cannot be written.
        """
        attempts = self._answers.num_attempts(sample.key) + 1
        line, trace = self.asked.render(sample, result, worker=worker, attempts=attempts)
        with self._writing():
            self._answers.add(line, trace)
        self._has_recorded = True
        self._changed.discard(sample.key)

    def sync(self) -> None:
        """Puts answers on the disk that have waited for it; cheap, and to be called all the time.

        Raises:
            StoreError: that is not possible.
        """
        with explaining_disk_errors(self.folder):  # nothing is added: the lock can wait
            self._answers.sync()

    def finish(self, timing: Timing | None) -> SummaryFile:
        """Rewrites the answers in order, scores them and returns the summary.

        Results over more questions than this run's `limit` are kept up to date, not replaced: then
        what is returned is not what is written. Nor are a judge's scores of these very answers
        replaced: they are returned, or no figure where somebody edited them. Without a `timing` of
        this session, that of the last one is kept.

        Raises:
            StoreError: the results cannot be written, or data or images were changed meanwhile.
        """
        self._record_missing_images()
        self.asked.require_same_data()
        self._require_same_images()
        with self._writing():
            self._answers.finish([sample.key for sample in self.asked.all_samples])
        stored = self._read_summary()
        before = [] if stored is None else self.asked.select(stored.origin.limit)
        content, scores = self._summarize(self.asked.limit, stored, timing)
        if stored is not None and stored.judge and stored.hashes.answers == content.hashes.answers:
            return self._judged(stored, content)
        if stored is not None and stored.judge and content.metrics:
            logger.warning(
                "%s was scored by the judge %s, and other answers are there since: the figures are "
                "those of %s now. Have these answers judged too, with the options that had those "
                "judged: python -m runners.score %s",
                *(self.folder, stored.judge.model, content.definition),
                StoredTask(self.folder).run_options,
            )
        self._tell_other_figures(stored, content)
        written = content
        if stored is not None and len(before) > len(self.asked.samples):
            logger.info(
                "%s: the table is over the first %d questions; the results over %d are kept",
                self.folder,
                len(self.asked.samples),
                len(before),
            )
            written, scores = self._summarize(stored.origin.limit, stored, timing)
        with self._writing():
            write_results(self.folder, written, scores)
        return content

    def _judged(self, stored: SummaryFile, unjudged: SummaryFile) -> SummaryFile:
        """What is shown of answers that a judge has scored."""
        task = StoredTask(self.folder)
        if task.state is not State.FINISHED:
            logger.error(
                "%s has changed since a judge scored the answers, and no figure is shown. Score "
                "them again with the options that had them judged: python -m runners.score %s",
                task.changed_files[0],
                task.run_options,
            )
            return replace(unjudged, metrics={}, interval=None)
        if stored.num_questions > len(self.asked.samples):
            logger.info(
                "%s: the table is over the %d questions that a judge has scored, not the first %d",
                self.folder,
                stored.num_questions,
                len(self.asked.samples),
            )
        return stored

    def num_unanswered(self) -> int:
        """How many of the questions that are asked have no answer."""
        has = self._has
        return sum(not has(sample.key) for sample in self.asked.samples)

    def __enter__(self) -> TaskRun:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._store is not None:
                with explaining_disk_errors(self.folder):
                    self._store.close()
        except StoreError:
            self._lock.require_held()  # where that is the reason, it is told
            raise
        finally:
            self._lock.release()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """While it is entered, the folder is written to, if it still is this process's."""
        self._lock.require_held()
        with explaining_disk_errors(self.folder):
            yield

    @property
    def _answers(self) -> AnswerStore:
        if self._store is None:
            raise RuntimeError("The stored answers must be read first. Call `open`.")
        return self._store

    def _tell_other_code(self, session: Mapping[str, object]) -> None:
        """Says that stored answers were given by another version of the code; the history has it.

        What it is known to change is part of the identity, and refused.
        """
        last = self._manifest.history[-1] if self._manifest and self._manifest.history else {}
        told = other_code(last, session)
        if told is not None and self._answers.lines:
            logger.warning(
                "%s: its %d answers were given by another version of the code (%s). They stay, and "
                "the others are given by this one; overwrite=true asks all again.",
                self.folder,
                len(self._answers.lines),
                told,
            )

    def _tell_other_figures(self, stored: SummaryFile | None, content: SummaryFile) -> None:
        """Says that the same answers come to other figures, by another scorer or other code."""
        if stored is None or not stored.metrics or stored.metrics == content.metrics:
            return
        before, after = (
            (each.hashes.answers, each.hashes.data, each.num_questions)
            for each in (stored, content)
        )
        is_other, name = stored.definition != content.definition, content.primary_metric
        if before == after and (is_other or stored.hashes.code not in (None, content.hashes.code)):
            logger.warning(
                "%s was scored by %s: the same answers came to %s %s by it, and come to %s now",
                self.folder,
                stored.definition if is_other else "another version of the scoring code",
                stored.primary_metric,
                render_metric(stored, stored.primary_metric),
                f"{name} {render_metric(content, name)}" if content.metrics else "no figure",
            )

    def _has(self, key: str) -> bool:
        """Whether a question has a stored answer."""
        return self._answers.has_answer(key)

    def _record_missing_images(self) -> None:
        stored = self._answers.lines
        missing = self.asked.images.missing
        for sample in self.asked.samples:
            # An answer that is stored stays, whatever has become of its image.
            if sample.key in missing and sample.key not in stored:
                self.record(sample, missing[sample.key], worker=None)

    def _require_same_images(self) -> None:
        """Checks that what this session asked about is what is there now.

        Raises:
            StoreError: images were replaced while they were asked about.
        """
        if not self._has_recorded:
            return
        with self._writing():
            images = ImageFiles(self.asked.samples)
            changed = images.find_changed(self.asked.samples, self._answers)
        if changed:
            raise StoreError(
                f"{self.folder}: the images of {len(changed):,} questions (for example "
                f"{min(changed)}) were replaced while the run asked about them. What was answered "
                "is stored; the same command asks these questions again."
            )

    def _read_summary(self) -> SummaryFile | None:
        """The summary of an earlier session; one that cannot be read is made anew."""
        try:
            return read_summary(self.folder)
        except DataError as error:
            logger.warning("%s", error)
            return None

    def _summarize(
        self, limit: int | None, stored: SummaryFile | None, timing: Timing | None
    ) -> tuple[SummaryFile, list[Score]]:
        """Summary and scores of the questions that a run with this `limit` asks."""
        told = {} if stored is None else stored.origin.timing
        return self.asked.summarize(
            self._answers.lines,
            self._answers.failed(),
            limit=limit,
            batch_check=self._answers.batch_check(),
            answers_hash=StoredTask(self.folder).answers_sha256,
            timing=told if timing is None else timing.to_json(),
        )
