"""One task of a run: what is asked, what is stored, what comes out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from evals.errors import DataError
from evals.records import Failure, Sample
from evals.sources import check_num_questions
from llava.generation.request import Completion, RequestFailure
from runners.answer_lines import answer_line, failure_line, image_stats, trace_line
from runners.build import build_task
from runners.config import EvalConfig
from runners.environment import now
from runners.errors import ConfigError
from runners.files import hash_data_files, sha256_of_file, sha256_of_json
from runners.manifest import check_identity, read_manifest, write_manifest
from runners.naming import model_name
from runners.predict import PROMPT_VERSION
from runners.scoring import read_summary, score_run, write_results
from runners.store import PREDICTIONS_FILE, AnswerStore

logger = logging.getLogger(__name__)


class TaskRun:
    """One task, with the folder that its answers are stored in.

    Construction reads the questions and counts what is missing; nothing is written before `open`.

    Args:
        spec: The benchmark, as `_target_` plus values.
        run_dir: The run's folder; the task's folder lies in it.
        settings: The options of the run.

    Attributes:
        task: The benchmark.
        samples: The questions that are asked: the first `limit` of the split.
        missing: Failures of questions whose images are not there, by key.

    Raises:
        DataError: the questions cannot be read, are not as many as published, or none of them can
            be answered.
    """

    def __init__(self, spec: Mapping[str, Any], run_dir: Path, settings: EvalConfig) -> None:
        self._spec = dict(spec)
        self.task = task = build_task(spec)
        self.folder = run_dir / task.name
        self._settings = settings
        self._model_id = model_name(settings)
        self._all_samples = task.samples()
        if settings.check_counts:
            expected = task.expected_num_questions
            check_num_questions(task.name, task.split, len(self._all_samples), expected)
        self.samples = self._all_samples[: settings.limit]
        self.missing = _find_missing_images(self.samples)
        self._report_missing_images()
        self._lock = FileLock(run_dir / f".{task.name}.lock", timeout=0)
        self._manifest: dict[str, Any] | None = None
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
        return sha256_of_json([[s.key, s.text, s.image_keys] for s in self._all_samples])

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
            ConfigError: another process has it.
        """
        try:
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout as error:
            raise ConfigError(
                f"{self.folder} is being written by another process, which holds "
                f"{self._lock_path}. Wait for it, or choose another name with run=NAME."
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{self._lock_path.parent} cannot be written: {error}. Keep results elsewhere with "
                "results_dir=DIR."
            ) from error

    def check(self, run_identity: Mapping[str, Any]) -> None:
        """Checks that what lies in the folder is of this run.

        Raises:
            ConfigError: it is not.
        """
        if self._settings.overwrite:
            return
        self._manifest = read_manifest(self.folder)
        if self._manifest is not None:
            check_identity(self.folder, self._manifest["identity"], self.identity(run_identity))

    def open(self) -> None:
        """Reads the stored answers; with `overwrite`, sets them aside first."""
        if self._settings.overwrite and self.folder.exists():
            aside = _free_name(self.folder)
            self.folder.rename(aside)
            logger.info("%s is kept as %s", self.folder, aside)
        self._store = AnswerStore(self.folder)
        if self._store.num_dropped:
            logger.warning(
                "%s: %d unfinished or unreadable lines of an interrupted run were removed; their "
                "questions are asked again",
                self.folder / PREDICTIONS_FILE,
                self._store.num_dropped,
            )

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
            if sample.key not in self.missing
            and (sample.key not in lines or sample.key in retried or self._has_changed(sample))
        ]

    def _has_changed(self, sample: Sample) -> bool:
        """Whether an image is another than when the question was asked."""
        before = self._answers.image_stats(sample.key)
        return before is not None and before != image_stats(sample)

    def begin(self, run_identity: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Writes the manifest before the first answer of this session, then the missing images."""
        history = list(self._manifest["history"]) if self._manifest else []
        history.append({"started": now(), "num_stored": len(self._answers.lines), **environment})
        self.folder.mkdir(parents=True, exist_ok=True)
        write_manifest(
            self.folder,
            identity=self.identity(run_identity),
            environment={**environment, "task": self._spec},
            history=history,
        )
        self._record_missing_images()

    @property
    def stored_environment(self) -> Mapping[str, Any]:
        """Where an earlier session of this run took place; empty if there was none."""
        return dict(self._manifest["environment"]) if self._manifest else {}

    def amend(self, environment: Mapping[str, Any]) -> None:
        """Adds what was found out since `begin` to the manifest's environment."""
        manifest = read_manifest(self.folder)
        if manifest is None:
            raise RuntimeError("There is no manifest yet. Call `begin` first.")
        write_manifest(
            self.folder,
            identity=manifest["identity"],
            environment={**manifest["environment"], **environment},
            history=manifest["history"],
        )

    def record(
        self, sample: Sample, result: Completion | RequestFailure | Failure, worker: str | None
    ) -> None:
        """Stores one answer or failure."""
        if isinstance(result, Completion):
            line = answer_line(sample, result, self._model_id)
        else:
            failure = Failure(key=result.key, cause=result.cause, message=result.message)
            line = failure_line(sample, failure, self._model_id)
        attempts = self._answers.num_attempts(sample.key) + 1
        self._answers.add(line, trace_line(sample, result, worker=worker, attempts=attempts))

    def sync(self) -> None:
        """Has the disk take what was stored."""
        self._answers.sync()

    def finish(self, timing: Mapping[str, Any] | None) -> dict[str, Any]:
        """Rewrites the answers in order, scores them and returns the summary.

        Args:
            timing: Of this session; None if nothing was asked, which keeps that of the last one.
        """
        self._answers.finish([sample.key for sample in self._all_samples])
        keys = {sample.key for sample in self.samples}
        lines = [line for key, line in self._answers.lines.items() if key in keys]
        limited = keys if len(keys) < len(self._all_samples) else None
        summary, scores = score_run(self.task, lines, len(keys), only=limited)
        stored = read_summary(self.folder) or {}
        answers_hash = sha256_of_file(self.folder / PREDICTIONS_FILE)
        if stored.get("judge") and stored.get("hashes", {}).get("answers") == answers_hash:
            return stored  # a judge's scores of these very answers
        content = {
            **summary.to_json(),
            "primary_metric": self.task.primary_metric,
            "limited": limited is not None,
            "batch_check": self._answers.batch_check(),
            "hashes": {
                "answers": answers_hash,
                "prompts": self.prompts_hash,
                "data": sha256_of_json(self.data_hashes),
                "scorer": sha256_of_json(self.task.definition),
            },
            "timing": stored.get("timing", {}) if timing is None else dict(timing),
        }
        write_results(self.folder, content, scores)
        return content

    def num_unanswered(self) -> int:
        """How many of the questions that are asked have no answer."""
        answered = self._answers.lines.keys() - self._answers.failed()
        return sum(sample.key not in answered for sample in self.samples)

    def close(self) -> None:
        """Closes the files and gives the folder free."""
        if self._store is not None:
            self._store.close()
        self._lock.release()

    def __enter__(self) -> TaskRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _lock_path(self) -> Path:
        return Path(self._lock.lock_file)

    @property
    def _answers(self) -> AnswerStore:
        if self._store is None:
            raise RuntimeError("The stored answers must be read first. Call `open`.")
        return self._store

    def _report_missing_images(self) -> None:
        if not self.missing:
            return
        example = next(iter(self.missing.values())).message
        text = f"{self.name}: {len(self.missing):,} of {len(self.samples):,} questions have images"
        text = f"{text} that are not there (for example: {example})"
        none_stored = not (self.folder / PREDICTIONS_FILE).exists()
        hopeless = len(self.missing) == len(self.samples) and none_stored
        if hopeless and not self._settings.dry_run:
            raise DataError(f"{text} Put the images in place; no question can be answered.")
        logger.warning("%s They count as failed.", text)

    def _record_missing_images(self) -> None:
        stored = self._answers.lines
        for sample in self.samples:
            # An answer that is stored stays, whatever has become of its image.
            if sample.key in self.missing and sample.key not in stored:
                self.record(sample, self.missing[sample.key], worker=None)


def _find_missing_images(samples: Iterable[Sample]) -> dict[str, Failure]:
    """Failures of the questions with images that are not there, found by stat alone."""
    there: dict[str, bool] = {}
    missing: dict[str, Failure] = {}
    for sample in samples:
        for image in sample.images:
            if image.key not in there:
                there[image.key] = image.exists()
            if not there[image.key]:
                reason = image.refused or f"Image {image.key} does not exist."
                missing[sample.key] = Failure(key=sample.key, cause="image_missing", message=reason)
                break
    return missing


def _free_name(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    return aside
