"""One side of a comparison as it lies on disk: the scores of a run and what they were made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from evals.errors import DataError
from evals.reading.files import read_jsonl, require
from runners.errors import ConfigError
from runners.options.names import is_set_aside
from runners.storage.answers import PREDICTIONS_FILE
from runners.storage.files import sha256_of_file
from runners.storage.manifest import MANIFEST_FILE, read_manifest
from runners.storage.summary import SCORES_FILE, SUMMARY_FILE, read_summary


class StoredScore(NamedTuple):
    """The judgment of one question, as `scores.jsonl` holds it."""

    value: float
    cluster: str
    answer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTask:
    """One task of a run.

    Attributes:
        summary: What `summary.json` holds.
        identity: The identity in `manifest.json`.
        scores: By key; empty where the answers could not be scored.
    """

    summary: Mapping[str, Any]
    identity: Mapping[str, Any]
    scores: Mapping[str, StoredScore]

    @property
    def is_imported(self) -> bool:
        """Whether the answers are those of a foreign file."""
        return "imported" in self.identity


def find_run(name: str, results_dir: Path, option: str) -> Path:
    """Returns the folder of a run that is named by its name or by its path.

    Raises:
        ConfigError: there is none; the message says how to make it, or which there are.
    """
    for folder in (results_dir / name, Path(name)):
        if name not in ("", ".", "..") and folder.is_dir():
            if not list_tasks(folder):
                raise ConfigError(
                    f"{folder} holds no task with answers. Check `{option}`: it names a run, not a "
                    "task of it."
                )
            return folder
    if (_zoo_dir() / f"{name}.yaml").is_file():
        raise ConfigError(
            f"`{option}` is {name}, a model of the zoo, but {results_dir} holds no run of it. "
            f"Answer the questions first: python -m runners.eval model={name} task=NAME."
        )
    there = sorted(path.name for path in _folders(results_dir) if list_tasks(path))
    raise ConfigError(
        f"`{option}` must be a run in {results_dir}, the folder of a run or a model of the zoo, "
        f"but is {name!r}. There are: {', '.join(there) or 'none'}."
    )


def list_tasks(run_dir: Path) -> dict[str, Path]:
    """Returns the folders of a run's tasks by name, those without a summary included."""
    return {
        folder.name: folder
        for folder in _folders(run_dir)
        if not is_set_aside(folder)
        and any((folder / name).is_file() for name in (MANIFEST_FILE, SUMMARY_FILE))
    }


def read_task(folder: Path) -> StoredTask:
    """Returns the scores of one task.

    Raises:
        ConfigError: the task is not complete, or was answered again after it was scored.
        DataError: a file is malformed.
    """
    summary, manifest = read_summary(folder), read_manifest(folder)
    if summary is None or manifest is None:
        raise ConfigError(
            f"{folder} holds no complete run: {MANIFEST_FILE if summary else SUMMARY_FILE} is "
            "missing. Repeat the command that began it."
        )
    _check_summary(summary, str(folder / SUMMARY_FILE))
    for name, recorded in ((PREDICTIONS_FILE, "answers"), (SCORES_FILE, "scores")):
        path, digest = folder / name, summary["hashes"].get(recorded)
        if digest is not None and path.exists() and sha256_of_file(path) != digest:
            raise ConfigError(
                f"{path} has changed since it was scored. Repeat the command that answers the "
                f"questions, or score it again: python -m runners.score run={folder.parent.name}."
            )
    scores = _read_scores(folder / SCORES_FILE) if summary["metrics"] else {}
    if summary["metrics"] and len(scores) != summary["num_questions"]:
        raise DataError(
            f"{folder / SCORES_FILE} must have {summary['num_questions']} lines, as many as "
            f"{SUMMARY_FILE} counts, but has {len(scores)}. Score the run again: "
            f"python -m runners.score run={folder.parent.name}."
        )
    return StoredTask(summary=summary, identity=manifest["identity"], scores=scores)


def _check_summary(summary: Mapping[str, Any], where: str) -> None:
    for name in ("task", "split", "definition", "primary_metric"):
        require(summary, name, str, where)
    for name in ("metrics", "hashes"):
        require(summary, name, dict, where)
    for name in ("num_questions", "num_answered"):
        require(summary, name, int, where)
    for name in ("answers", "prompts", "data", "scorer"):
        require(summary["hashes"], name, str, f"`hashes` of {where}")


def _read_scores(path: Path) -> dict[str, StoredScore]:
    scores: dict[str, StoredScore] = {}
    for number, record in read_jsonl(path):
        where = f"{path}:{number}"
        key = require(record, "key", str, where)
        value = require(record, "score", (int, float), where)
        if key in scores:
            raise DataError(f"{where} repeats the key {key!r}. Score the run again.")
        if not 0 <= value <= 1:
            raise DataError(f"{where} must have a `score` in 0..1, but has {value}.")
        cluster = require(record, "cluster", str, where)
        scores[key] = StoredScore(value, cluster, record.get("answer"))
    return scores


def _folders(parent: Path) -> list[Path]:
    return [path for path in sorted(parent.iterdir()) if path.is_dir()] if parent.is_dir() else []


def _zoo_dir() -> Path:
    import conf

    return Path(conf.__path__[0]) / "model"
