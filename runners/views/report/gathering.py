"""Stored runs are read and joined by key: one row a question, one answer a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from evals.figures.statistics import confidence_interval
from evals.records import Sample
from runners.errors import ConfigError
from runners.options.given import TaskChoice
from runners.options.task_spec import TaskSpec
from runners.storage.comparing import obstacles
from runners.storage.identity import differences
from runners.storage.specs import read_run_specs
from runners.storage.stored import State, StoredRun, StoredTask
from runners.storage.summary import SummaryFile
from runners.views.report.records import Comparison, Report, Row, RunReport, TaskReport
from runners.views.report.shown_task import Questions, ShownTask, read_questions

_FACTS = ("model", "conversation", "dtype", "quantization", "generation", "seed", "imported")
_PLACE = ("device_name", "command", "imported_from")


def gather(choice: TaskChoice, stored_runs: Sequence[StoredRun]) -> Report:
    """Returns what the page shows of the runs.

    Args:
        choice: The benchmarks that are named; none for all tasks of the runs.
        stored_runs: The runs.

    Raises:
        ConfigError: a run holds no task, or none of the runs holds a task that is named.
    """
    specs = [read_run_specs(choice, run) for run in stored_runs]
    names = list(dict.fromkeys(chain.from_iterable(specs)))
    read: dict[str, Questions] = {}
    tasks = {}
    for name in names:
        stored = [
            _show(run.tasks.get(name), spec.get(name), read)
            for run, spec in zip(stored_runs, specs, strict=True)
        ]
        if all(task is None for task in stored):
            places = " nor in ".join(str(run.folder) for run in stored_runs)
            raise ConfigError(f"There are no answers to {name} in {places}. Check `task`.")
        tasks[name] = stored
    labels = [run.name for run in stored_runs]
    if len(set(labels)) < len(labels):
        labels = [str(run.folder) for run in stored_runs]
    runs = tuple(
        RunReport(name=label, facts=_facts(stored[i] for stored in tasks.values()))
        for i, label in enumerate(labels)
    )
    return Report(
        runs=runs, tasks=tuple(join(name, stored, labels) for name, stored in tasks.items())
    )


def _show(
    stored: StoredTask | None, spec: TaskSpec | None, read: dict[str, Questions]
) -> ShownTask | None:
    if spec is None or stored is None or stored.manifest is None:
        return None
    identity = json.dumps(spec.to_json(), sort_keys=True)
    if identity not in read:
        read[identity] = read_questions(spec)
    return ShownTask(stored, read[identity])


def join(name: str, stored: Sequence[ShownTask | None], labels: Sequence[str]) -> TaskReport:
    """Returns one benchmark with the answers of every run, joined by key.

    Args:
        name: The task's name.
        stored: The task in each run; None where a run lacks it.
        labels: What each run is called.
    """
    there = [task for task in stored if task is not None]
    pair = (there[0], there[1]) if len(there) == len(stored) == 2 else None
    notes = [
        note
        for label, task in zip(labels, stored, strict=True)
        for note in _notes(task, label if len(stored) > 1 else "")
    ]
    if pair is not None:
        notes += _incomparable(*pair)
    return TaskReport(
        name=name,
        summaries=tuple(None if task is None else task.summary for task in stored),
        rows=tuple(_row(key, stored) for key in _keys(there)),
        comparison=None if pair is None else _compare(*pair),
        differences={} if pair is None else _differences(*pair),
        notes=tuple(dict.fromkeys(notes)),
    )


def _keys(tasks: Sequence[ShownTask]) -> list[str]:
    """Every key that was asked, in the benchmark's order where that is known."""
    asked = dict.fromkeys(chain.from_iterable((*task.lines, *task.scores) for task in tasks))
    ordered = dict.fromkeys(chain.from_iterable(task.questions.samples for task in tasks))
    return [
        *(key for key in ordered if key in asked),
        *(key for key in asked if key not in ordered),
    ]


def _row(key: str, stored: Sequence[ShownTask | None]) -> Row:
    there = [task for task in stored if task is not None]
    sample = next((task.questions.samples[key] for task in there if _knows(task, key)), None)
    lines = [task.lines[key] for task in there if key in task.lines]
    scores = [task.scores[key] for task in there if key in task.scores]
    groups: dict[str, str | None] = {}
    for task in reversed(there):
        groups |= task.group_fields(key)
    return Row(
        key=key,
        question_id=lines[0]["question_id"] if lines else scores[0].question_id,
        question=sample.text if sample is not None else lines[0]["prompt"] if lines else "",
        images=() if sample is None else sample.images,
        targets=() if sample is None else _targets(sample),
        groups=groups,
        answers=tuple(None if task is None else task.answer(key) for task in stored),
    )


def _knows(task: ShownTask, key: str) -> bool:
    return key in task.questions.samples


def _targets(sample: Sample) -> tuple[tuple[str, int], ...]:
    """The accepted answers, the most frequent first."""
    if sample.target is None:
        return ()
    if isinstance(sample.target, (list, tuple)):
        return tuple(Counter(map(str, sample.target)).most_common())
    return ((str(sample.target), 1),)


def _compare(before: ShownTask, after: ShownTask) -> Comparison | None:
    common = [key for key in before.scores if key in after.scores]
    if not common:
        return None
    changes = [after.scores[key].value - before.scores[key].value for key in common]
    return Comparison(
        num_common=len(common),
        difference=sum(changes) / len(common),
        interval=confidence_interval(changes, [before.scores[key].cluster for key in common]),
        num_better=sum(change > 0 for change in changes),
        num_worse=sum(change < 0 for change in changes),
    )


def _notes(task: ShownTask | None, label: str) -> list[str]:
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
    if num_bad := task.stored.answers.num_bad:
        notes.append(
            f"{of_run}{num_bad:,} stored answers were edited: they are not as they were written, "
            "and are left out."
        )
    if task.summary is not None:
        return notes + [of_run + note for note in _notes_of_figures(task.summary, task.stored)]
    unfinished = f"not finished; {len(task.lines):,} answers so far, not scored."
    return [*notes, of_run + (task.fault or unfinished)]


def _notes_of_figures(summary: SummaryFile, stored: StoredTask) -> Iterator[str]:
    if stored.changed_files:
        names = " and ".join(path.name for path in stored.changed_files)
        yield f"{names} changed since it was scored; score the run again."
    if summary.coverage < 1:
        yield (
            f"{summary.num_answered:,} of {summary.num_questions:,} questions were answered; the "
            "others count as wrong."
        )
    if summary.origin.limited:
        yield "only the first questions of the split were asked."


def _incomparable(before: ShownTask, after: ShownTask) -> list[str]:
    """Why figures of two runs may not be compared, by the rule of the gate."""
    notes = []
    if before.stored.state is after.stored.state is State.FINISHED:
        found = obstacles(before.stored.finished(), after.stored.finished(), ("first", "second"))
        if found:
            differing = " and the ".join(obstacle.difference.value for obstacle in found)
            notes.append(f"The two runs differ in the {differing}.")
    if before.lines.keys() != after.lines.keys():
        notes.append("The two runs were not asked the same questions.")
    return notes


def _differences(before: ShownTask, after: ShownTask) -> Mapping[str, tuple[Any, Any]]:
    return differences(before.manifest.identity, after.manifest.identity)


def _facts(stored: Iterable[ShownTask | None]) -> dict[str, str]:
    """What a run is, told from its first task."""
    task = next((task for task in stored if task is not None), None)
    if task is None:
        return {}
    manifest = task.manifest
    known = {name: manifest.identity.get(name) for name in _FACTS}
    known |= {name: manifest.environment.get(name) for name in _PLACE}
    known["started"] = manifest.started
    return {name: _shown(value) for name, value in known.items() if value}


def _shown(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{name} {part}" for name, part in value.items() if part is not None)
