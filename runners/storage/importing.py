"""A foreign answer file becomes a run, so that it can stand beside those that were made here."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark
from evals.errors import DataError, ForeignAnswerError, MissingFileError
from evals.reading.answers import AnswerFile, read_answers
from evals.reading.files import find_file
from evals.reading.matching import plain_id
from evals.records import Cause, Failure, Prediction, Sample
from runners.environment import describe_environment, now
from runners.errors import ConfigError
from runners.options.task_spec import TaskSpec
from runners.storage.answer_lines import failure_line, imported_line
from runners.storage.answer_store import PREDICTIONS_FILE
from runners.storage.asked import Asked
from runners.storage.files import hash_data_files, sha256_of_file, write_jsonl
from runners.storage.identity import UNKNOWN, hash_prompts
from runners.storage.lock import FolderLock
from runners.storage.manifest import Manifest, read_manifest, write_manifest
from runners.storage.summary import Origin

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """An answer file, matched with the questions of a task.

    Attributes:
        path: The file.
        sha256: Its hash.
        predictions: Its answers by key.
        failures: Its recorded failures by key.
        model_id: The model that its lines name, if all name the same.
        num_unreadable: Lines that are no answer.
    """

    path: Path
    sha256: str
    predictions: Mapping[str, Prediction]
    failures: Mapping[str, Failure]
    model_id: str | None
    num_unreadable: int


def read_import(task: Benchmark, path: str) -> Import:
    """Returns what an answer file says about a task; lines that are no answer are logged.

    Raises:
        DataError: a file is missing or malformed, or the answers are of another split.
    """
    answers = read_answers(path)
    found = find_file(Path(path))
    for line in answers.complaints():
        logger.warning("skipped: %s", line)
    try:
        predictions = task.match(answers.answers)
    except ForeignAnswerError as error:
        number = answers.line_of(error.question_id)
        place = found if number is None else f"{found}:{number}"
        raise DataError(f"{place}: {error}") from error
    _tell_repeated(task, answers)
    failures = {k: f for k, f in _read_failures(task, answers).items() if k not in predictions}
    names = {str(line["model_id"]) for line in answers.answers if line.get("model_id")}
    return Import(
        path=found,
        sha256=sha256_of_file(found),
        predictions=predictions,
        failures=failures,
        model_id=names.pop() if len(names) == 1 else None,
        num_unreadable=len(answers.unreadable),
    )


def _tell_repeated(task: Benchmark, answers: AnswerFile) -> None:
    """Logs what the official scorers pass over in silence."""
    texts: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for line in answers.answers:
        asked = plain_id(str(line["question_id"])), str(line.get("prompt", ""))
        texts[asked].append(line["text"])
    repeated = {asked: given for asked, given in texts.items() if len(given) > 1}
    if not repeated:
        return
    differing = [name for (name, _), given in repeated.items() if len(set(given)) > 1]
    same = [name for name, _ in repeated]
    logger.warning(
        "%d questions are answered more than once, such as %s; %s%s",
        len(repeated),
        (differing or same)[0],
        "each of its answers counts" if task.repeat_mark else "the last answer counts",
        f". The answers to {len(differing)} of them differ" if differing else "",
    )


def _read_failures(task: Benchmark, answers: AnswerFile) -> dict[str, Failure]:
    """Failures that an answer file records, as a run of this project does or in words alone."""
    failures = {}
    for key, line in task.match_failed(answers.failed).items():
        error = line["metadata"]["error"]
        told = error if isinstance(error, dict) else {"message": error}
        cause = str(told.get("cause") or Cause.ERROR.value)
        failures[key] = Failure(key=key, cause=cause, message=str(told.get("message")))
    return failures


def store_import(
    found: Import, task: Benchmark, spec: TaskSpec, run_dir: Path, *, overwrite: bool
) -> Asked:
    """Writes answers and manifest as those of a run.

    The same file may be imported again; anything else that lies there is left alone.

    Args:
        found: The answers.
        task: The task that they answer.
        spec: The same, as it is described.
        run_dir: The run's folder.
        overwrite: Set what lies there aside.

    Raises:
        ConfigError: there are other answers, or another process writes there.
        DataError: the questions of a split without annotations cannot be read.
    """
    samples = _read_samples(task)
    folder = run_dir / task.name
    with FolderLock(folder) as lock:
        if overwrite:
            lock.set_aside()
        stored = _earlier_import(folder, found)
        hashes = {
            "prompts": _hash_prompts(samples, found.predictions),
            "data": hash_data_files(task.data_files()),
        }
        environment = describe_environment()
        event = {"imported": now(), "file": str(found.path), "sha256": found.sha256}
        manifest = Manifest(
            identity={"imported": found.sha256, **hashes},
            environment={"imported_from": str(found.path), **environment, "task": spec.to_json()},
            history=[*(stored.history if stored is not None else ()), event],
        )
        lock.require_held()
        write_manifest(folder, manifest)
        order = _order(task, samples, found)
        lines = _render_lines(found, samples, order, run_dir.name)
        write_jsonl(folder / PREDICTIONS_FILE, lines)
    return Asked(
        num_questions=len(samples) if samples is not None else len(order),
        prompts_hash=str(hashes["prompts"]),
        origin=Origin(imported={"sha256": found.sha256, "num_unreadable": found.num_unreadable}),
    )


def _read_samples(task: Benchmark) -> list[Sample] | None:
    """The questions; None if annotations are there, but not the files that questions are read from.

    Scoring needs less than asking does: an imported file may be scored where nothing can be asked.
    """
    try:
        return task.samples()
    except MissingFileError as error:
        if not task.has_annotations:
            raise
        logger.info("%s: the questions cannot be compared with the prompts: %s", task.name, error)
        return None


def _earlier_import(folder: Path, found: Import) -> Manifest | None:
    """The manifest of an earlier import of the same file, None if the folder is free."""
    stored = read_manifest(folder)
    if stored is not None and stored.imported_sha256 != found.sha256:
        raise ConfigError(
            f"{folder} holds other answers than those of {found.path}. Choose another name with "
            "run=NAME, or set it aside with overwrite=true."
        )
    return stored


def _hash_prompts(samples: Sequence[Sample] | None, predictions: Mapping[str, Prediction]) -> str:
    """The hash of all question texts, if every answer carries the prompt that is asked here."""
    if samples is None:
        return UNKNOWN
    prompts = {sample.key: sample.prompt for sample in samples}
    if any(prediction.prompt != prompts.get(key) for key, prediction in predictions.items()):
        return UNKNOWN
    return hash_prompts(samples)


def _order(task: Benchmark, samples: Sequence[Sample] | None, found: Import) -> list[str]:
    """The keys of the answers and failures in the benchmark's order."""
    given = {**found.predictions, **found.failures}
    keys = [sample.key for sample in samples or ()]
    if samples is None:
        keys = [score.key for score in task.score(found.predictions)]
    known = set(keys)
    # TextVQA's official scorer counts a repeated answer line again, under a key of its own.
    return [*(key for key in keys if key in given), *(key for key in given if key not in known)]


def _render_lines(
    found: Import, samples: Sequence[Sample] | None, order: Sequence[str], run: str
) -> list[dict[str, Any]]:
    model_id = found.model_id or run
    by_key = {sample.key: sample for sample in samples or ()}
    lines = []
    for key in order:
        if key in found.predictions:
            lines.append(imported_line(found.predictions[key], model_id))
        else:
            sample = by_key.get(key) or Sample(key=key, question_id=key, text="", prompt="")
            lines.append(failure_line(sample, found.failures[key], model_id))
    return lines
