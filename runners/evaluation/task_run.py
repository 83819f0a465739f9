"""One task of a run: what is asked, what is stored, what comes out."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.records import Failure, Sample, Score
from llava.generation.request import Completion
from runners.environment import now
from runners.evaluation.images import ImageFiles
from runners.evaluation.pieces import shard_samples
from runners.evaluation.task_notes import report_missing_images, report_repairs
from runners.options.eval import EvalConfig
from runners.options.names import model_name
from runners.options.shard import read_shard
from runners.options.task_spec import TaskSpec
from runners.scoring.score import score_asked
from runners.storage.answers import PREDICTIONS_FILE, AnswerStore
from runners.storage.files import (
    hash_data_files,
    sha256_of_file,
    sha256_of_json,
)
from runners.storage.folders import set_aside
from runners.storage.identity import PROMPT_VERSION, check_identity, hash_prompts
from runners.storage.lines import result_line, trace_line
from runners.storage.lock import FolderLock, explaining_disk_errors
from runners.storage.manifest import MANIFEST_FILE, Manifest, read_manifest, write_manifest
from runners.storage.summary import Hashes, Origin, SummaryFile, read_summary, write_results

logger = logging.getLogger(__name__)


class TaskRun:
    """One task, with the folder that its answers are stored in.

    Construction reads the questions and counts what is missing; nothing is written before `open`.

    Args:
        spec: The benchmark.
        run_dir: The run's folder; the task's folder lies in it.
        settings: The options of the run.

    Attributes:
        task: The benchmark.
        samples: The questions that are asked: the first `limit` of the split, or a part of them.

    Raises:
        DataError: the questions cannot be read, are not as many as published, or none of them can
            be answered.
    """

    def __init__(self, spec: TaskSpec, run_dir: Path, settings: EvalConfig) -> None:
        self._spec = spec
        self.task = task = spec.build()
        self.folder = run_dir / task.name
        self._settings = settings
        self._model_id = model_name(settings)
        self._all_samples = task.samples()
        release = task.releases.get(task.split)
        if settings.check_counts and release is not None:
            release.check(f"{task.name} {task.split}", len(self._all_samples))
        self._shard = read_shard(settings.runner.shard)
        self.samples = self._select(settings.limit)
        if not self.samples:
            raise DataError(
                f"{task.name} {task.split} has no questions for runner.shard="
                f"{settings.runner.shard}: there are more parts than images. Use fewer."
            )
        self._images = ImageFiles(self.samples)
        self._check_images()
        self._changed: set[str] = set()
        self._lock = FolderLock(self.folder)
        self._manifest: Manifest | None = None
        self._store: AnswerStore | None = None

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @cached_property
    def data_hashes(self) -> dict[str, str]:
        """The hash of every file that decides questions and scores, by its path."""
        return hash_data_files(self.task.data_files())

    @cached_property
    def prompts_hash(self) -> str:
        """The hash of all question texts of the split, before the conversation template."""
        return hash_prompts(self._all_samples)

    def identity(self, run_identity: Mapping[str, Any]) -> dict[str, Any]:
        """Returns everything that can change an answer of this task."""
        generation = self._settings.generation
        return {
            **run_identity,
            "prompt_version": PROMPT_VERSION,
            "prompts": self.prompts_hash,
            "data": self.data_hashes,
            "generation": {
                "temperature": generation.temperature,
                "top_p": generation.top_p,
                "num_beams": generation.num_beams,
                "max_new_tokens": self.max_new_tokens,
            },
            "seed": self._settings.seed,
        }

    @property
    def max_new_tokens(self) -> int:
        """The longest answer: the option, else the task's own."""
        return self._settings.generation.max_new_tokens or self.task.max_new_tokens

    def lock(self) -> None:
        """Takes the folder for this process.

        Raises:
            ConfigError: another process has it, or what lies there cannot be read and written.
            StoreError: the disk is full.
        """
        self._lock.acquire()

    def check(self, run_identity: Mapping[str, Any]) -> None:
        """Checks that what lies in the folder is of this run.

        Raises:
            ConfigError: it is not.
        """
        if self._settings.overwrite:
            return
        self._manifest = read_manifest(self.folder)
        if self._manifest is not None:
            check_identity(self.folder, self._manifest.identity, self.identity(run_identity))

    def open(self) -> None:
        """Reads the stored answers; with `overwrite`, sets them aside first."""
        with explaining_disk_errors(self.folder):
            if self._settings.overwrite:
                set_aside(self.folder)
            self._store = AnswerStore(self.folder)
            report_repairs(self.folder, self._store)
            answered = self._answers.lines.keys() - self._answers.failed()
            report_missing_images(self.name, self._images, answered)
            self._changed = self._images.find_changed(self.samples, self._store)

    def pending(self) -> list[Sample]:
        """The questions that a worker has to be asked.

        They are not stored, or failed and to be retried, or were asked about an image that has
        changed since.
        """
        lines = self._answers.lines
        retried = self._answers.failed() if self._settings.retry_failed else frozenset()
        return [
            sample
            for sample in self.samples
            if sample.key not in self._images.missing
            and (sample.key not in lines or sample.key in retried or sample.key in self._changed)
        ]

    def begin(self, run_identity: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Writes the manifest before the first answer of this session, then the missing images."""
        history = list(self._manifest.history) if self._manifest else []
        history.append({"started": now(), "num_stored": len(self._answers.lines), **environment})
        with explaining_disk_errors(self.folder):
            manifest = Manifest(
                identity=self.identity(run_identity),
                environment={**environment, "task": self._spec.to_json()},
                history=history,
            )
            write_manifest(self.folder, manifest)
        self._record_missing_images()

    @property
    def stored_environment(self) -> Mapping[str, Any]:
        """Where an earlier session of this run took place; empty if there was none."""
        return self._manifest.environment if self._manifest else {}

    def amend(self, environment: Mapping[str, Any]) -> None:
        """Adds what was found out since `begin` to the manifest's environment.

        Raises:
            StoreError: it cannot be written, or somebody removed it.
        """
        manifest = read_manifest(self.folder)
        with explaining_disk_errors(self.folder):
            if manifest is None:
                path = self.folder / MANIFEST_FILE
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            amended = replace(manifest, environment={**manifest.environment, **environment})
            write_manifest(self.folder, amended)

    def record(self, sample: Sample, result: Completion | Failure, worker: str | None) -> None:
        """Stores one answer or failure.

        Raises:
            StoreError: it cannot be written.
        """
        line = result_line(sample, result, self._model_id)
        trace = trace_line(
            result,
            worker=worker,
            attempts=self._answers.num_attempts(sample.key) + 1,
            image_stat=self._images.stats(sample),
        )
        with explaining_disk_errors(self.folder):
            self._answers.add(line, trace)
        self._changed.discard(sample.key)

    def sync(self) -> None:
        """Puts answers on the disk that have waited for it; cheap, and to be called all the time.

        Raises:
            StoreError: that is not possible.
        """
        with explaining_disk_errors(self.folder):
            self._answers.sync()

    def finish(self, timing: Mapping[str, Any] | None) -> SummaryFile:
        """Rewrites the answers in order, scores them and returns the summary.

        Results over more questions than this run's `limit` are kept up to date, not replaced: then
        what is returned is not what is written.

        Args:
            timing: Of this session; None if nothing was asked, which keeps that of the last one.

        Raises:
            StoreError: the results cannot be written.
        """
        self._record_missing_images()
        with explaining_disk_errors(self.folder):
            self._answers.finish([sample.key for sample in self._all_samples])
        stored = self._read_summary()
        before = [] if stored is None else self._select(stored.origin.limit)
        content, scores = self._score(self._settings.limit, stored, timing)
        written = content
        if stored is not None and len(before) > len(self.samples):
            logger.info(
                "%s: the table is over the first %d questions; the results over %d are kept",
                self.folder,
                len(self.samples),
                len(before),
            )
            written, scores = self._score(stored.origin.limit, stored, timing)
        if stored is not None and stored.judge and stored.hashes.answers == written.hashes.answers:
            return stored  # a judge's scores of these very answers
        with explaining_disk_errors(self.folder):
            write_results(self.folder, written, scores)
        return content

    def _select(self, limit: int | None) -> list[Sample]:
        """The questions that a run with this `limit` asks, or this part of it."""
        asked = self._all_samples[:limit]
        if self._shard is None:
            return asked
        return shard_samples(asked, self._shard.index, self._shard.count)

    def _read_summary(self) -> SummaryFile | None:
        """The summary of an earlier session; one that cannot be read is made anew."""
        try:
            return read_summary(self.folder)
        except DataError as error:
            logger.warning("%s", error)
            return None

    def _score(
        self, limit: int | None, stored: SummaryFile | None, timing: Mapping[str, Any] | None
    ) -> tuple[SummaryFile, list[Score]]:
        """Summary and scores of the questions that a run with this `limit` asks."""
        keys = {sample.key for sample in self._select(limit)}
        is_limited = len(keys) < len(self._all_samples)
        if timing is None:
            timing = {} if stored is None else stored.origin.timing
        return score_asked(
            self.task,
            [line for key, line in self._answers.lines.items() if key in keys],
            keys,
            Origin(
                limited=is_limited,
                limit=limit if is_limited else None,
                batch_check=self._answers.batch_check(),
                timing=timing,
            ),
            Hashes(
                answers=sha256_of_file(self.folder / PREDICTIONS_FILE),
                prompts=self.prompts_hash,
                data=sha256_of_json(self.data_hashes),
            ),
        )

    def num_unanswered(self) -> int:
        """How many of the questions that are asked have no answer."""
        answered = self._answers.lines.keys() - self._answers.failed()
        return sum(sample.key not in answered for sample in self.samples)

    def close(self) -> None:
        """Closes the files and gives the folder free."""
        try:
            if self._store is not None:
                with explaining_disk_errors(self.folder):
                    self._store.close()
        finally:
            self._lock.release()

    def __enter__(self) -> TaskRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _answers(self) -> AnswerStore:
        if self._store is None:
            raise RuntimeError("The stored answers must be read first. Call `open`.")
        return self._store

    def _check_images(self) -> None:
        """Stops where no question can be answered; a dry run only says so."""
        missing = list(self._images.missing)
        if not missing:
            return
        has_answers = (self.folder / PREDICTIONS_FILE).exists() and not self._settings.overwrite
        hopeless = len(missing) == len(self.samples) and not has_answers
        if self._settings.dry_run:
            logger.warning(
                "%s: %s They would count as failed.",
                self.name,
                self._images.describe_missing(missing),
            )
        elif hopeless:
            raise DataError(
                f"{self.name}: {self._images.describe_missing(missing)} Put the images in place; "
                "no question can be answered."
            )

    def _record_missing_images(self) -> None:
        stored = self._answers.lines
        for sample in self.samples:
            # An answer that is stored stays, whatever has become of its image.
            if sample.key in self._images.missing and sample.key not in stored:
                self.record(sample, self._images.missing[sample.key], worker=None)
