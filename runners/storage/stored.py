"""A run as it lies on disk: what names it, which tasks it holds, and what state they are in."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.errors import DataError
from runners.errors import ConfigError
from runners.options.names import is_set_aside
from runners.storage.answer_lines import is_good, is_trace_line, line_facts
from runners.storage.answer_store import PREDICTIONS_FILE, TRACE_FILE
from runners.storage.files import count_lines, read_intact_lines, readable, sha256_of_file
from runners.storage.manifest import MANIFEST_FILE, Manifest, read_manifest
from runners.storage.plain_lines import read_image_hashes
from runners.storage.summary import (
    SCORES_FILE,
    SUMMARY_FILE,
    StoredScore,
    SummaryFile,
    read_scores,
    read_summary,
)

logger = logging.getLogger(__name__)

_OF_A_CHECKPOINT = ("config.json", "adapter_config.json")


class State(str, Enum):
    """What a stored task is good for.

    Whoever reads stored runs goes by it: the gate refuses all but finished ones, the report and the
    leaderboard say what is wrong, scoring leaves edited answers out.
    """

    FINISHED = "finished"  # the figures are those of the answers
    UNFINISHED = "unfinished"  # there are no figures yet
    EDITED = "edited"  # an answer, a score or a figure is not as a program wrote it
    STALE = "stale"  # the answers are newer than the figures


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswers:
    """The answers of a stored task that are as a program wrote them.

    Attributes:
        lines: The line of each question in `predictions.jsonl`, by key.
        traces: How each came about, by key; empty for answers from elsewhere.
        num_bad: How many lines are not as they were written, and do not count.
        bad_keys: The questions that these lines name, as far as they name any.
    """

    lines: Mapping[str, Mapping[str, Any]]
    traces: Mapping[str, Mapping[str, Any]]
    num_bad: int
    bad_keys: Set[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTask:
    """What is stored of a finished task.

    Attributes:
        summary: The figures.
        manifest: What the answers are of.
        scores: The scores by key; empty where the answers could not be scored.
        stored: Where it is from.
    """

    summary: SummaryFile
    manifest: Manifest
    scores: Mapping[str, StoredScore]
    stored: StoredTask


class StoredTask:
    """One task of a stored run. Each of its files is read when it is first asked for.

    Args:
        folder: The task's folder, in that of the run.

    Attributes:
        folder: As given.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """The task's name."""
        return self.folder.name

    @property
    def run(self) -> str:
        """The run's name."""
        return self.folder.parent.name

    @property
    def run_options(self) -> str:
        """What names the run to a program that is started here, as a shell reads it."""
        from runners.options.words import quote_if_read  # with hydra, which reading does without

        return f"{shlex.quote(f'run={quote_if_read(self.run)}')}{self.results_option}"

    @property
    def results_option(self) -> str:
        """What names the folder of its runs in a command, with a blank before it, or nothing."""
        return _results_option(self.folder.parent.parent)

    @cached_property
    def manifest(self) -> Manifest | None:
        """What the answers are of; None if nothing says so.

        Raises:
            ConfigError: the file is no manifest, or answers lie there without one.
        """
        with readable(self.manifest_path):
            return read_manifest(self.folder)

    @cached_property
    def summary(self) -> SummaryFile | None:
        """The figures; None if there are none yet.

        Raises:
            DataError: the file is no summary, or is that of a task of another name: the folder is
                a copy, and its figures are none of this run.
        """
        summary = read_summary(self.folder)
        if summary is not None and summary.task != self.name and not is_set_aside(self.folder):
            raise DataError(
                f"{self.folder} holds the figures of {summary.task}, so it is a copy, or was "
                "renamed. Move it out of the run, or give it that name again."
            )
        return summary

    @property
    def has_figures(self) -> bool:
        """Whether figures were written, whatever they are worth."""
        return (self.folder / SUMMARY_FILE).is_file()

    @property
    def num_lines(self) -> int:
        """How many whole lines of answers are stored, whatever they are worth."""
        with readable(self.answers_path):
            return count_lines(self.answers_path)

    @cached_property
    def answers(self) -> StoredAnswers:
        """The answers that count, as far as a program that may be writing them has come."""
        with readable(self.folder):
            # Before the traces, each of which is written before its line.
            lines = [(line_facts(line), line) for line in read_intact_lines(self.answers_path)]
            traces = {
                line["key"]: line
                for line in read_intact_lines(self.folder / TRACE_FILE)
                if is_trace_line(line)
            }
        if self.manifest is not None and self.manifest.imported_sha256 is not None:
            # answers that come from elsewhere have no traces
            named: dict[str, object] = {facts.key: facts.sha256 for facts, _ in lines if facts}
        else:
            named = {key: trace.get("line_sha256") for key, trace in traces.items()}
        good = {facts.key: line for facts, line in lines if is_good(facts, named)}
        bad = {facts.key for facts, _ in lines if facts} - good.keys()
        num_bad = sum(facts is None for facts, _ in lines) + len(bad)
        return StoredAnswers(lines=good, traces=traces, num_bad=num_bad, bad_keys=bad)

    @cached_property
    def image_hashes(self) -> Mapping[str, bytes]:
        """What tells the images of each question, see `read_image_hashes`; empty where unknown."""
        with readable(self.folder):
            return read_image_hashes(self.folder / TRACE_FILE)

    def require_answers(self) -> StoredAnswers:
        """Returns the answers that count.

        Raises:
            ConfigError: there is no file with answers.
        """
        if not self.answers_path.exists():
            raise ConfigError(
                f"{self.answers_path} does not exist. Answer the questions with runners.eval first."
            )
        return self.answers

    @property
    def manifest_path(self) -> Path:
        """The file with the manifest, which need not be there."""
        return self.folder / MANIFEST_FILE

    @property
    def answers_path(self) -> Path:
        """The file with the answers, which need not be there."""
        return self.folder / PREDICTIONS_FILE

    @property
    def answers_sha256(self) -> str | None:
        """The hash of the file with the answers; None if there is none."""
        return _hash(self.answers_path)

    @cached_property
    def scores(self) -> Mapping[str, StoredScore]:
        """The scores by key; empty where the answers could not be scored.

        Raises:
            DataError: the file is missing or malformed, or has other questions than the summary
                counts.
        """
        if self.summary is None or not self.summary.metrics:
            return {}
        path = self.folder / SCORES_FILE
        if not path.is_file():
            raise DataError(f"{path} does not exist. {self._remedy}")
        scores = read_scores(self.folder)
        if len(scores) != self.summary.num_questions:
            raise DataError(
                f"{path} must have {self.summary.num_questions} lines, as "
                f"many as {SUMMARY_FILE} counts, but has {len(scores)}. {self._remedy}"
            )
        return scores

    @cached_property
    def changed_files(self) -> tuple[Path, ...]:
        """The files that are not as they were when the figures were made, nor the figures."""
        if self.summary is None:
            return ()
        hashes = self.summary.hashes
        recorded = {PREDICTIONS_FILE: hashes.answers, SCORES_FILE: hashes.scores}
        paths = {self.folder / name: digest for name, digest in recorded.items()}
        changed = [
            path
            for path, digest in paths.items()
            if digest is not None and path.exists() and _hash(path) != digest
        ]
        return (*changed, *([self.folder / SUMMARY_FILE] if self.summary.is_edited else []))

    @cached_property
    def state(self) -> State:
        """What the task is good for.

        Raises:
            ConfigError: its manifest cannot be read.
            DataError: its summary cannot be read.
        """
        if self.summary is None:
            return State.UNFINISHED
        if not self.changed_files:
            return State.FINISHED
        is_stale = self.changed_files == (self.answers_path,) and not self.answers.num_bad
        return State.STALE if is_stale else State.EDITED

    def finished(self) -> FinishedTask:
        """Returns figures, manifest and scores of a task whose state is finished.

        Raises:
            ConfigError: there are none, or they are not those of the answers and scores.
            DataError: a file is malformed.
        """
        summary, manifest = self.summary, self.manifest
        if summary is None or manifest is None:
            lacking = MANIFEST_FILE if summary is not None else SUMMARY_FILE
            raise ConfigError(
                f"{self.folder} holds no complete run: {lacking} is missing. Repeat the command "
                "that began it."
            )
        for name in ("answers", "prompts", "data", "scorer"):
            if getattr(summary.hashes, name) is None:
                where = f"`hashes` of {self.folder / SUMMARY_FILE}"
                raise DataError(f"{where} lacks the field `{name}`. {self._remedy}")
        if self.state is not State.FINISHED:
            raise ConfigError(
                f"{self.changed_files[0]} has changed since it was scored. Repeat the command that "
                "answers the questions, or score it again: python -m runners.score "
                f"{self.run_options}."
            )
        return FinishedTask(summary=summary, manifest=manifest, scores=self.scores, stored=self)

    @property
    def _remedy(self) -> str:
        return f"Score the run again: python -m runners.score {self.run_options}."


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """One run.

    Attributes:
        folder: Where it lies.
        tasks: Its tasks by name, unfinished ones included.
    """

    folder: Path
    tasks: Mapping[str, StoredTask]

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.resolve().name


def read_run(folder: Path) -> StoredRun:
    """Returns what lies in a run's folder, which may be nothing.

    Raises:
        ConfigError: this user may not look into it.
    """
    with readable(folder):
        tasks = {path.name: StoredTask(path) for path in _tasks(folder)}
    return StoredRun(folder=folder, tasks=tasks)


def find_tasks(path: Path) -> list[StoredTask]:
    """Returns the tasks with a manifest that a path names, which may be none.

    Args:
        path: A run's folder, a task's folder in it, or the manifest in that.
    """
    folder = (path.parent if path.name == MANIFEST_FILE else path).resolve()
    alone = StoredTask(folder)
    tasks = [alone] if alone.manifest_path.is_file() else read_run(folder).tasks.values()
    return [task for task in tasks if task.manifest_path.is_file()]


def require_results(results_dir: Path) -> None:
    """Checks that a folder with runs, which may be empty, is there.

    Raises:
        ConfigError: it is not.
    """
    if not results_dir.is_dir():
        raise ConfigError(
            f"`results_dir` must be a folder with runs, but {results_dir} is none. Run "
            "runners.eval first, or name another with results_dir=DIR."
        )


def list_runs(results_dir: Path, tell: Callable[[str], None] = logger.warning) -> list[StoredRun]:
    """Returns the runs in a folder by name; folders that hold no run are passed over.

    So are those that this user may not look into, of which is told.

    Raises:
        ConfigError: the folder does not exist, or cannot be read.
    """
    require_results(results_dir)
    runs = []
    with readable(results_dir):
        folders = _folders(results_dir)
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except ConfigError as error:
            tell(f"{error} It is passed over.")
    return [run for run in runs if run.tasks]


def _results_option(results_dir: Path) -> str:
    """What names the folder of runs in a command, with a blank before it; empty by default."""
    from runners.options.words import quote_if_read  # with hydra, which reading does without

    if results_dir.absolute() == Path("results").absolute():
        return ""
    return f" {shlex.quote(f'results_dir={quote_if_read(str(results_dir))}')}"


def find_run(name: str, results_dir: Path, option: str) -> StoredRun:
    """Returns the run that is named by its name or by the path of its folder.

    Args:
        name: The name of a run in `results_dir`, or the folder of a run anywhere.
        results_dir: Where runs are kept.
        option: What the user gave the name as, for messages.

    Raises:
        ConfigError: there is none; the message says how to make it, or which there are.
    """
    for folder in (results_dir / name, Path(name)):
        if name not in ("", ".", "..") and folder.is_dir():
            if not (run := read_run(folder)).tasks:
                if any((folder / name).is_file() for name in _OF_A_CHECKPOINT):
                    raise ConfigError(
                        f"`{option}` must name a run, but {folder} is a checkpoint. Evaluate it "
                        f"first, and give the name of that run: python -m runners.eval "
                        f"model.path={folder} task=NAME run=RUN{_results_option(results_dir)}, "
                        f"then {option}=RUN."
                    )
                raise ConfigError(
                    f"{folder} holds no task with answers. Check `{option}`: it names a run, not a "
                    "task of it."
                )
            return run
    if _is_in_zoo(name):
        raise ConfigError(
            f"`{option}` is {name}, a model of the zoo, but {results_dir} holds no run of it. "
            f"Answer the questions first: python -m runners.eval model={name} task=NAME"
            f"{_results_option(results_dir)}."
        )
    there = [run.name for run in list_runs(results_dir)] if results_dir.is_dir() else []
    raise ConfigError(
        f"`{option}` must be a run in {results_dir}, the folder of a run or a model of the zoo, "
        f"but is {name!r}. There are: {', '.join(there) or 'none'}."
    )


def first_model_id(folder: Path) -> str:
    """Returns the model that the first answer in a task's folder names; empty if none does."""
    first = next(iter(read_intact_lines(folder / PREDICTIONS_FILE, limit=1)), {})
    return str(first.get("model_id", ""))


def _tasks(run_dir: Path) -> Iterator[Path]:
    files = (MANIFEST_FILE, SUMMARY_FILE, PREDICTIONS_FILE)
    for folder in _folders(run_dir):
        if any((folder / name).is_file() for name in files):
            yield folder


def _folders(parent: Path) -> list[Path]:
    found = [
        path
        for path in (parent.iterdir() if parent.is_dir() else ())
        if path.is_dir() and not path.name.startswith(".") and not is_set_aside(path)
    ]
    return sorted(found, key=lambda path: os.fsencode(path.name))


def _hash(path: Path) -> str | None:
    with readable(path):
        return sha256_of_file(path) if path.is_file() else None


def _is_in_zoo(name: str) -> bool:
    import conf

    return (Path(conf.__path__[0]) / "model" / f"{name}.yaml").is_file()
