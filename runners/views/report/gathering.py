"""Stored runs are read and joined by key: one row a question, one answer a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from evals.errors import DataError
from evals.records import Sample
from runners.errors import ConfigError
from runners.options.given import TaskChoice
from runners.options.task_spec import TaskSpec
from runners.storage.comparable import obstacles
from runners.storage.identity import differences
from runners.storage.run_table import render_lack
from runners.storage.specs import read_run_specs
from runners.storage.stored import State, StoredRun, StoredTask
from runners.views.gate.pairing import compare_scores
from runners.views.report.shown import Report, Row, RunReport, TaskReport
from runners.views.report.shown_task import DataReader, ShownTask
from runners.views.setups import part_asked

_FACTS = (
    *("model", "conversation", "dtype", "vision_tower_dtype", "tf32", "quantization"),
    *("generation", "seed", "imported"),
)
_PLACE = ("device_name", "command", "imported_from")


def gather(
    choice: TaskChoice, stored_runs: Sequence[StoredRun], read: DataReader | None = None
) -> Report:
    """Returns what the page shows of the runs.

    Args:
        choice: The benchmarks that are named; none for all tasks of the runs.
        stored_runs: The runs.
        read: What reads the data; None for one that knows none of them yet.

    Raises:
        ConfigError: a run holds no task, or none of the runs holds a task that is named.
    """
    specs = [read_run_specs(choice, run) for run in stored_runs]
    read = read or DataReader()
    tasks = {}
    for name in dict.fromkeys(chain.from_iterable(specs)):
        by_run = [
            _show(run.tasks.get(name), spec.get(name), read)
            for run, spec in zip(stored_runs, specs, strict=True)
        ]
        if not any(by_run):
            places = " nor in ".join(str(run.folder) for run in stored_runs)
            raise ConfigError(f"There are no answers to {name} in {places}. Check `task`.")
        tasks[name] = by_run
    labels = [run.name for run in stored_runs]
    if len(set(labels)) < len(labels):  # two folders of one name
        labels = [str(run.folder) for run in stored_runs]
    runs = (
        RunReport(name=label, facts=_facts(by_run[i] for by_run in tasks.values()))
        for i, label in enumerate(labels)
    )
    return Report(runs=tuple(runs), tasks=tuple(_join(name, tasks[name], labels) for name in tasks))


def _show(stored: StoredTask | None, spec: TaskSpec | None, read: DataReader) -> ShownTask | None:
    """A task of a run beside its data, which runs of one spec share; None if it was not asked."""
    if spec is None or stored is None or stored.manifest is None:
        return None
    return ShownTask(stored, stored.manifest, read(spec))


def _join(name: str, by_run: Sequence[ShownTask | None], labels: Sequence[str]) -> TaskReport:
    """One benchmark with the answers of every run, None where a run lacks it."""
    there = [task for task in by_run if task is not None]
    notes = []
    for label, task in zip(labels, by_run, strict=True):
        if task is not None and task.data.problem is not None:
            problem = task.data.problem
            notes.append(f"The data cannot be read, so images and targets are missing: {problem}")
        of_run = f"{label}: " if len(by_run) > 1 else ""
        notes += [of_run + note for note in _notes(task)]
    first, *others = by_run
    for label, task in zip(labels[1:], others, strict=True):
        if first is not None and task is not None:
            two = "The two runs" if len(by_run) == 2 else f"{labels[0]} and {label}"
            notes += (f"{two} {what}" for what in _incomparable(first, task))
    return TaskReport(
        name=name,
        summaries=tuple(None if task is None else task.summary for task in by_run),
        rows=tuple(_row(key, by_run) for key in _keys(there)),
        comparisons=tuple(
            compare_scores(first.scores, task.scores)
            if first is not None and task is not None and task is not first
            else None
            for task in by_run
        ),
        differences=_differences(first, others),
        notes=tuple(dict.fromkeys(notes)),  # runs on the same data have the same problem
    )


def _differences(
    first: ShownTask | None, others: Sequence[ShownTask | None]
) -> dict[str, tuple[Any, ...]]:
    """Fields of the identity in which a run differs from the first, with the value of each."""
    if first is None:
        return {}
    found = [
        None if task is None else differences(first.manifest.identity, task.manifest.identity)
        for task in others
    ]
    values: dict[str, Any] = {}  # of the first run
    for differing in found:
        values |= {name: before for name, (before, _) in (differing or {}).items()}
    return {
        name: (
            before,
            *(None if each is None else each.get(name, (None, before))[1] for each in found),
        )
        for name, before in values.items()
    }


def _keys(tasks: Sequence[ShownTask]) -> list[str]:
    """Every key that was asked, in the benchmark's order where that is known."""
    asked = dict.fromkeys(chain.from_iterable((*task.lines, *task.scores) for task in tasks))
    ordered = dict.fromkeys(chain.from_iterable(task.data.samples for task in tasks))
    return [
        *(key for key in ordered if key in asked),
        *(key for key in asked if key not in ordered),
    ]


def _row(key: str, by_run: Sequence[ShownTask | None]) -> Row:
    there = [task for task in by_run if task is not None]
    sample = next((t.data.samples[key] for t in there if key in t.data.samples), None)
    lines = [task.lines[key] for task in there if key in task.lines]
    scores = [task.scores[key] for task in there if key in task.scores]
    groups: dict[str, str | None] = {}
    for task in reversed(there):  # what the first run says goes before the others
        groups |= task.group_fields(key)
    return Row(
        key=key,
        question_id=str(lines[0]["question_id"] if lines else scores[0].question_id),
        # Answer files store the question in ways that differ by benchmark.
        question=sample.text if sample is not None else lines[0]["prompt"] if lines else "",
        images=() if sample is None else sample.images,
        targets=() if sample is None else _targets(sample),
        groups=groups,
        answers=tuple(None if task is None else task.answer(key) for task in by_run),
    )


def _targets(sample: Sample) -> tuple[tuple[str, int], ...]:
    """The accepted answers, the most frequent first."""
    if sample.target is None:
        return ()
    if isinstance(sample.target, (list, tuple)):
        return tuple(Counter(map(str, sample.target)).most_common())
    return ((str(sample.target), 1),)


def _notes(task: ShownTask | None) -> Iterator[str]:
    """What has to be known of one run."""
    if task is None:
        yield "has no answers to this benchmark."
        return
    if task.data_changed:
        yield "the data files have changed since the run; questions and targets are today's."
    if num_bad := task.stored.answers.num_bad:
        edited = "stored answers were edited: they are not as they were written, and are left out."
        yield f"{num_bad:,} {edited}"
    summary = task.summary
    if summary is None:
        asked = f" of {num:,}" if (num := task.num_asked) else ""
        yield task.fault or f"not finished; {len(task.lines):,}{asked} answers so far, not scored."
        return
    if task.stored.state is State.STALE:
        yield (
            "was answered on since it was scored: the figures are those of earlier answers, and "
            "questions have no scores. Repeat its command, or score the run again."
        )
    elif task.stored.changed_files:
        names = " and ".join(path.name for path in task.stored.changed_files)
        yield f"{names} changed since it was scored; score the run again."
    if summary.coverage < 1:
        what = render_lack(summary)
        yield f"{summary.num_answered:,} of {summary.num_questions:,} questions {what}."
    if summary.on_other_data:
        yield f"{summary.on_other_data}."
    if part := part_asked(summary, task.manifest):
        yield f"{part}."


def _incomparable(before: ShownTask, after: ShownTask) -> Iterator[str]:
    """What may keep figures of two runs from being compared, by the rule of the gate."""
    if before.is_finished and after.is_finished:
        try:
            both = before.stored.finished(), after.stored.finished()
        except DataError as error:  # an early version left out what figures were made of
            yield f"may differ in what figures are made of: {error}"
            return
        if found := obstacles(*both, ("first", "second")):
            differing = " and the ".join(obstacle.difference.value for obstacle in found)
            yield f"differ in the {differing}."
    is_whole = before.summary is not None and after.summary is not None
    if is_whole and before.lines.keys() != after.lines.keys():
        yield "were not asked the same questions."


def _facts(by_task: Iterable[ShownTask | None]) -> dict[str, str]:
    """What a run is, told from its first task."""
    task = next((task for task in by_task if task is not None), None)
    if task is None:
        return {}
    manifest = task.manifest
    known = {name: manifest.identity.get(name) for name in _FACTS}
    known |= {name: manifest.environment.get(name) for name in _PLACE}
    known["started"] = manifest.started
    # What is not known is left out, and so is a seed of 0, the default.
    return {name: _shown(value) for name, value in known.items() if value}


def _shown(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{name} {part}" for name, part in value.items() if part is not None)
