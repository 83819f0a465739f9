"""Stored runs are read and joined by key: one row a question, one answer a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.figures.statistics import confidence_interval
from evals.records import Sample
from runners.errors import ConfigError
from runners.storage.identity import differences
from runners.storage.stored import read_run_specs
from runners.views.report.records import Comparison, Report, Row, RunReport, TaskReport
from runners.views.report.stored import Questions, StoredTask, read_questions

if TYPE_CHECKING:
    from omegaconf import DictConfig

_FACTS = ("model", "conversation", "dtype", "quantization", "generation", "seed", "imported")
_PLACE = ("device_name", "command", "imported_from")


def find_run(name: str, results_dir: Path) -> Path:
    """Returns the folder of a run that is named, or given by its path.

    Raises:
        ConfigError: there is none.
    """
    folder = Path(name) if "/" in name else results_dir / name
    if name in ("", ".", "..") or not folder.is_dir():
        known = sorted(path.parent.parent.name for path in results_dir.glob("*/*/manifest.json"))
        there = ", ".join(dict.fromkeys(known)) or "no run"
        raise ConfigError(
            f"{folder} is no run. Check `runs` and `results_dir`; {results_dir} holds {there}."
        )
    return folder


def gather(config: DictConfig, folders: Sequence[Path]) -> Report:
    """Returns what the page shows of the runs.

    Args:
        config: The composed options; `tasks` selects, and is empty for all tasks of the runs.
        folders: The runs' folders.

    Raises:
        ConfigError: a run holds no task, or none of the runs holds a task that is named.
    """
    specs = [read_run_specs(config, folder) for folder in folders]
    names = list(dict.fromkeys(chain.from_iterable(specs)))
    read: dict[str, Questions] = {}
    tasks = {}
    for name in names:
        stored = [
            _read_task(folder / name, spec.get(name), read)
            for folder, spec in zip(folders, specs, strict=True)
        ]
        if all(task is None for task in stored):
            places = " nor in ".join(map(str, folders))
            raise ConfigError(f"There are no answers to {name} in {places}. Check `task`.")
        tasks[name] = stored
    labels = [folder.resolve().name for folder in folders]
    if len(set(labels)) < len(labels):
        labels = [str(folder) for folder in folders]
    runs = tuple(
        RunReport(name=label, facts=_facts(stored[i] for stored in tasks.values()))
        for i, label in enumerate(labels)
    )
    return Report(
        runs=runs, tasks=tuple(join(name, stored, labels) for name, stored in tasks.items())
    )


def _read_task(
    folder: Path, spec: Mapping[str, Any] | None, read: dict[str, Questions]
) -> StoredTask | None:
    if spec is None or not (folder / "manifest.json").exists():
        return None
    identity = json.dumps(spec, sort_keys=True)
    if identity not in read:
        read[identity] = read_questions(spec)
    return StoredTask(folder, read[identity])


def join(name: str, stored: Sequence[StoredTask | None], labels: Sequence[str]) -> TaskReport:
    """Returns one benchmark with the answers of every run, joined by key.

    Args:
        name: The task's name.
        stored: The task in each run; None where a run lacks it.
        labels: What each run is called.
    """
    there = [task for task in stored if task is not None]
    both = len(there) == len(stored) == 2
    notes = [
        note
        for label, task in zip(labels, stored, strict=True)
        for note in _notes(task, label if len(stored) > 1 else "")
    ]
    if both:
        notes += _incomparable(there[0], there[1])
    return TaskReport(
        name=name,
        summaries=tuple(None if task is None else task.summary for task in stored),
        rows=tuple(_row(key, stored) for key in _keys(there)),
        comparison=_compare(there[0], there[1]) if both else None,
        differences=differences(there[0].identity, there[1].identity) if both else {},
        notes=tuple(dict.fromkeys(notes)),
    )


def _keys(tasks: Sequence[StoredTask]) -> list[str]:
    """Every key that was asked, in the benchmark's order where that is known."""
    asked = dict.fromkeys(chain.from_iterable((*task.lines, *task.scores) for task in tasks))
    ordered = dict.fromkeys(chain.from_iterable(task.questions.samples for task in tasks))
    return [
        *(key for key in ordered if key in asked),
        *(key for key in asked if key not in ordered),
    ]


def _row(key: str, stored: Sequence[StoredTask | None]) -> Row:
    there = [task for task in stored if task is not None]
    sample = next((task.questions.samples[key] for task in there if _knows(task, key)), None)
    line = next(lines[key] for task in there for lines in (task.lines, task.scores) if key in lines)
    groups: dict[str, str | None] = {}
    for task in reversed(there):
        groups |= task.group_fields(key)
    return Row(
        key=key,
        question_id=line["question_id"],
        question=line.get("prompt", "") if sample is None else sample.text,
        images=() if sample is None else sample.images,
        targets=() if sample is None else _targets(sample),
        groups=groups,
        answers=tuple(None if task is None else task.answer(key) for task in stored),
    )


def _knows(task: StoredTask, key: str) -> bool:
    return key in task.questions.samples


def _targets(sample: Sample) -> tuple[tuple[str, int], ...]:
    """The accepted answers, the most frequent first."""
    if sample.target is None:
        return ()
    if isinstance(sample.target, (list, tuple)):
        return tuple(Counter(map(str, sample.target)).most_common())
    return ((str(sample.target), 1),)


def _compare(before: StoredTask, after: StoredTask) -> Comparison | None:
    common = [key for key in before.scores if key in after.scores]
    if not common:
        return None
    changes = [float(after.scores[k]["score"]) - float(before.scores[k]["score"]) for k in common]
    return Comparison(
        num_common=len(common),
        difference=sum(changes) / len(common),
        interval=confidence_interval(changes, [str(before.scores[k]["cluster"]) for k in common]),
        num_better=sum(change > 0 for change in changes),
        num_worse=sum(change < 0 for change in changes),
    )


def _notes(task: StoredTask | None, label: str) -> list[str]:
    """What has to be known of one run."""
    of_run = f"{label}: " if label else ""
    if task is None:
        return [f"{of_run}was not asked this benchmark."]
    notes = []
    if task.questions.problem is not None:
        notes.append(
            f"The data cannot be read, so images and targets are missing: {task.questions.problem}"
        )
    if task.data_changed:
        notes.append(
            f"{of_run}the data files have changed since the run; questions and targets are today's."
        )
    if task.summary is None:
        notes.append(f"{of_run}not finished; {len(task.lines):,} answers so far, not scored.")
        return notes
    if task.summary["coverage"] < 1:
        notes.append(
            f"{of_run}{task.summary['num_answered']:,} of {task.summary['num_questions']:,} "
            "questions were answered; the others count as wrong."
        )
    if task.summary.get("limited"):
        notes.append(f"{of_run}only the first questions of the split were asked.")
    return notes


def _incomparable(before: StoredTask, after: StoredTask) -> list[str]:
    """Why figures of two runs may not be compared."""
    names = {"prompts": "questions", "data": "data files", "scorer": "definition of the metric"}
    hashes = [(task.summary or {}).get("hashes", {}) for task in (before, after)]
    found = [
        text
        for name, text in names.items()
        if None not in (first := hashes[0].get(name), second := hashes[1].get(name))
        and "unknown" not in (first, second)
        and first != second
    ]
    notes = [f"The two runs differ in the {' and the '.join(found)}."] if found else []
    if before.lines.keys() != after.lines.keys():
        notes.append("The two runs were not asked the same questions.")
    return notes


def _facts(stored: Iterable[StoredTask | None]) -> dict[str, str]:
    """What a run is, told from its first task."""
    task = next((task for task in stored if task is not None), None)
    if task is None:
        return {}
    facts = {name: _shown(task.identity[name]) for name in _FACTS if task.identity.get(name)}
    places = {name: task.environment.get(name) for name in _PLACE}
    facts |= {name: _shown(value) for name, value in places.items() if value}
    return facts | ({"started": task.started} if task.started else {})


def _shown(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{name} {part}" for name, part in value.items() if part is not None)
