"""Finds the runs below a results folder, and says what lies there without figures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runners.errors import ConfigError
from runners.options.names import is_set_aside
from runners.storage.answers import PREDICTIONS_FILE
from runners.storage.manifest import MANIFEST_FILE, read_manifest
from runners.storage.summary import SUMMARY_FILE

_LARGEST = 1e6
"""No benchmark gives as many points; NaN and infinity are not below it either."""
_KINDS: Mapping[str, tuple[type, ...]] = {
    "task": (str,),
    "split": (str,),
    "definition": (str,),
    "primary_metric": (str,),
    "metrics": (dict,),
    "interval": (list, type(None)),
    "num_questions": (int,),
    "num_answered": (int,),
    "coverage": (int, float),
    "num_failed": (dict,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTask:
    """One finished task of a run.

    Attributes:
        folder: Where it lies.
        summary: The content of `summary.json`.
        manifest: That of `manifest.json`, None if there is none that can be read.
    """

    folder: Path
    summary: Mapping[str, Any]
    manifest: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """One run.

    Attributes:
        name: The folder's name, fit to be printed.
        tasks: Its finished tasks.
        unfinished: What is to be said of the others, a line each.
    """

    name: str
    tasks: Sequence[StoredTask] = ()
    unfinished: Sequence[str] = field(default_factory=list)


def find_runs(results_dir: Path) -> list[StoredRun]:
    """Returns the runs in a folder by name; folders that hold no run are passed over.

    Raises:
        ConfigError: the folder does not exist.
    """
    if not results_dir.is_dir():
        raise ConfigError(
            f"`results_dir` must be a folder with runs, but {results_dir} is none. Run "
            "runners.eval first, or name another with results_dir=DIR."
        )
    runs = [_read_run(folder) for folder in _folders(results_dir)]
    return [run for run in runs if run.tasks or run.unfinished]


def printable(name: str) -> str:
    r"""Returns a name with everything escaped that is no visible character or space.

    >>> printable("a\x1b[31m\n")
    'a\\x1b[31m\\n'
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in name
    )


def _folders(parent: Path) -> list[Path]:
    found = [
        path
        for path in parent.iterdir()
        if path.is_dir() and not path.name.startswith(".") and not is_set_aside(path)
    ]
    return sorted(found, key=lambda path: os.fsencode(path.name))


def _read_run(folder: Path) -> StoredRun:
    tasks: list[StoredTask] = []
    unfinished = []
    files = (SUMMARY_FILE, MANIFEST_FILE, PREDICTIONS_FILE)
    for path in _folders(folder):
        if not any((path / name).is_file() for name in files):
            continue
        outcome = _read_task(path)
        if isinstance(outcome, StoredTask):
            tasks.append(outcome)
        else:
            unfinished.append(f"{printable(folder.name)}, {printable(path.name)}: {outcome}")
    return StoredRun(name=printable(folder.name), tasks=tasks, unfinished=unfinished)


def _read_task(folder: Path) -> StoredTask | str:
    """A task of a run, or why it has no figures."""
    path = folder / SUMMARY_FILE
    if not path.is_file():
        return f"not finished, {_count_lines(folder / PREDICTIONS_FILE):,} answers are stored"
    try:
        summary = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return f"its {SUMMARY_FILE} cannot be read ({printable(str(error))})"
    wrong = _find_fault(summary)
    if wrong:
        return f"its {SUMMARY_FILE} is no summary: {wrong}"
    try:
        manifest = read_manifest(folder)
    except ConfigError:
        manifest = None  # the cell says so
    if manifest is not None and not isinstance(manifest.get("environment"), dict):
        manifest = None
    return StoredTask(folder=folder, summary=summary, manifest=manifest)


def _find_fault(summary: Any) -> str:
    """What is wrong with the content of a `summary.json`; empty if nothing is."""
    if not isinstance(summary, dict):
        return "it is no object"
    for name, kinds in _KINDS.items():
        if not isinstance(summary.get(name), kinds) or isinstance(summary.get(name), bool):
            return f"`{name}` is missing or of another type"
    numbers = [value for value in summary["metrics"].values() if value is not None]
    numbers += [summary["coverage"], *(summary["interval"] or [])]
    if not all(_is_number(value) and abs(value) < _LARGEST for value in numbers):
        return "a figure is no number, or beyond any scale"
    if summary["interval"] is not None and len(summary["interval"]) != 2:
        return "`interval` has other than two ends"
    expected = summary.get("expected_num_questions")
    counts = [0 if expected is None else expected, *summary["num_failed"].values()]
    if not all(isinstance(count, int) for count in counts):
        return "a count is no whole number"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count_lines(path: Path) -> int:
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)
