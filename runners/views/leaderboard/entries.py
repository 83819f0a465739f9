"""What lies in a run: tasks with figures, and a line about each of the others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evals.errors import DataError
from runners.errors import ConfigError
from runners.options.task_spec import TaskSpec
from runners.storage.manifest import Manifest
from runners.storage.specs import scored_spec
from runners.storage.stored import StoredRun, StoredTask
from runners.storage.summary import SummaryFile

_OWN_QUESTIONS = "evals.tasks.custom.Custom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One task of a run that has figures.

    Attributes:
        stored: Where they are from.
        summary: The figures.
        manifest: What the answers are of; None if nothing readable says so.
        spec: The task as it was scored; None if nothing readable says so.
        asks_others: Whether its questions are others than most runs of its column were asked.
    """

    stored: StoredTask
    summary: SummaryFile
    manifest: Manifest | None
    spec: TaskSpec | None
    asks_others: bool = False

    @property
    def column(self) -> tuple[str, str, str]:
        """What figures have in common that stand in one column."""
        return self.summary.task, self.summary.split, self.summary.definition

    @property
    def questions(self) -> tuple[str | None, ...]:
        """By which own or generated questions and their answers are known; () for all others.

        Those of a benchmark may be read from several files, in which images have other names.
        """
        is_own = self.spec is not None and self.spec.target == _OWN_QUESTIONS
        return (self.summary.hashes.data,) if is_own or self.summary.split == "demo" else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntries:
    """What lies in one run.

    Attributes:
        folder: The run's folder.
        name: The run's name, fit to be printed.
        entries: Its tasks with figures.
        unfinished: What is to be said of the others, a line each.
    """

    folder: Path
    name: str
    entries: Sequence[Entry] = ()
    unfinished: Sequence[str] = ()


def printable(name: str) -> str:
    r"""Returns a name with everything escaped that is no visible character or space.

    >>> printable("a\x1b[31m\n")
    'a\\x1b[31m\\n'
    """
    # An escape sequence in a folder's name would reach the terminal, a line break spoil a table.
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def read_entries(run: StoredRun) -> RunEntries:
    """Returns what lies in a run; a file that cannot be read costs its task's figures only."""
    entries, unfinished = [], []
    name = printable(run.folder.name)
    for task in run.tasks.values():
        try:
            summary = task.summary
            if summary is None:
                fault = f"not finished, {task.num_lines:,} answers are stored"
            else:
                _ = task.state  # for which its files are read
        except (ConfigError, DataError) as error:
            summary, fault = None, printable(str(error))
        if summary is None:
            unfinished.append(f"{name}, {printable(task.name)}: {fault}")
        else:
            manifest = spec = None
            with suppress(ConfigError):  # a mark of the figures says that it cannot be read
                manifest = task.manifest
                if manifest is not None:
                    spec = scored_spec(summary, manifest, task.folder)
            entries.append(Entry(stored=task, summary=summary, manifest=manifest, spec=spec))
    return RunEntries(folder=run.folder, name=name, entries=entries, unfinished=unfinished)
