"""`llava-evals list`: what there is to be chosen, and what lies in `results`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from evals.errors import DataError
from llava.conversation import conv_templates
from runners.command.plain_options import read_plain
from runners.environment import COMMAND, to_go_on
from runners.errors import COMPLETE, ConfigError
from runners.logs import mask_secrets
from runners.options.build import default_spec
from runners.options.conf_files import list_choices, read_defaults, read_texts
from runners.options.include import declared_templates, split_include, use_folders
from runners.options.register import register
from runners.options.words import is_multirun
from runners.storage.run_table import render_metric
from runners.storage.stored import State, StoredTask, list_runs

_DATE = "%Y-%m-%d %H:%M"
_LONGEST_CELL = 60
_STARTS = (
    [COMMAND, "eval"],
    ["python", "-m", "runners.eval"],
    ["python", "-m", "llava_evals", "eval"],
)
"""How the commands begin that runs keep."""


def print_list(words: Sequence[str]) -> int:
    """Prints one list; returns the exit code.

    Raises:
        ConfigError: there is no such list, or an option is wrong.
    """
    kind, *options = words or [""]
    if kind not in _LISTS:
        found = f", but is followed by {kind!r}" if kind else ""
        raise ConfigError(
            f"`{COMMAND} list` must be followed by one of {', '.join(_LISTS)}{found}."
        )
    options, folders = split_include(options)
    use_folders(folders)
    register()
    # `include` has been taken out, unless it is written in another way
    given = read_plain(
        options, {"include": "", **({"results_dir": "results"} if kind == "runs" else {})}
    )
    for line in _LISTS[kind](given):
        print(line)
    return COMPLETE


def _tasks(_given: Mapping[str, str]) -> Iterator[str]:
    rows, suites = [("task", "split", "metric", "longest answer")], []
    for name, path in list_choices("task").items():
        spec = default_spec(name)
        if spec is not None:
            task = spec.build()
            split = "" if "???" in spec.options.values() else task.split  # as the user says then
            rows.append((name, split, task.primary_metric, str(task.max_new_tokens)))
        else:
            suites.append(f"{name}: {', '.join(read_defaults(path))}")
    yield from _columns(rows)
    yield ""
    yield from suites


def _models(_given: Mapping[str, str]) -> Iterator[str]:
    rows = [("model", "template", "path")]
    for name in list_choices("model"):
        texts = read_texts("model", name)
        template = texts.get("conversation") or "auto"
        rows.append((name, template, texts.get("path") or "model.path=DIR"))
    yield from _columns(rows)


def _templates(_given: Mapping[str, str]) -> Iterator[str]:
    declared = declared_templates()
    rows = [("template", "style", "declared in", "begins with")]
    for name in sorted(conv_templates):
        template = conv_templates[name]
        place = str(list_choices("conversation")[name]) if name in declared else ""
        roles = f"{template.system} {template.roles[0]}".strip()
        rows.append((name, template.sep_style.name.lower(), place, repr(roles)[1:-1]))
    yield from _columns(rows)


def _runs(given: Mapping[str, str]) -> Iterator[str]:
    """Every task of every run, and below them how to go on with those that are not finished."""
    runs = list_runs(Path(given["results_dir"]))
    rows: list[tuple[str, ...]] = [("run", "task", "state", "begun", "score", "answered", "MB")]
    remarks: dict[str, None] = {}
    for run in runs:
        for task in run.tasks.values():
            try:
                rows.append(_of_run(task))
                if task.state is not State.FINISHED:
                    remarks[f"{run.name}, {task.name}: {_remedy(task)}"] = None
            except (ConfigError, DataError, OSError) as error:
                rows.append(
                    (run.name, task.name, "unreadable", "", "", "", _megabytes(task.folder))
                )
                remarks[f"{run.name}, {task.name}: {error}"] = None
    yield from _columns(rows)
    if remarks:
        yield ""
    yield from map(_plain, remarks)
    if not runs:
        yield f"{given['results_dir']} holds no run. Make one: {COMMAND} eval"


def _of_run(task: StoredTask) -> tuple[str, ...]:
    summary, manifest = task.summary, task.manifest
    score, answered = "", f"{task.num_lines:,}"
    if summary is None and manifest is not None and manifest.num_questions is not None:
        answered = f"{answered} / {manifest.num_questions:,}"
    if summary is not None:
        score = render_metric(summary, summary.primary_metric) if summary.metrics else "none"
        answered = f"{summary.num_answered:,} / {summary.num_questions:,}"
    begun = "" if manifest is None else _local_time(manifest.started)
    state = task.state.value
    return task.run, task.name, state, begun, score, answered, _megabytes(task.folder)


def _remedy(task: StoredTask) -> str:
    """How a task gets figures that are those of its answers."""
    if task.state is not State.UNFINISHED:
        return f"score it again: {COMMAND} score {task.run_options}"
    command = None if task.manifest is None else task.manifest.environment.get("command")
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        words = []
    # A manifest may be anyone's: what it says is shown as one command of this project, or not.
    start = next((start for start in _STARTS if words[: len(start)] == start), None)
    if start is None:
        return "repeat the command that began it"
    options = words[len(start) :]
    kept = to_go_on(options, is_swept=is_multirun(options))
    # The folder may have been moved since, and another be where it was.
    place = [word for word in kept if word.lstrip("+").startswith("results_dir=")]
    if any(set(word) & set("$,") for word in place):  # each job has its own
        return f"go on with {mask_secrets(shlex.join([*start, *kept]))}"
    kept = [word for word in kept if word not in place]
    return f"go on with {mask_secrets(shlex.join([*start, *kept]))}{task.results_option}"


def _local_time(stamp: str | None) -> str:
    """A time in UTC as the clock here shows it, to the minute."""
    try:
        begun = datetime.strptime(str(stamp), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return ""
    return begun.astimezone().strftime(_DATE)


def _megabytes(folder: Path) -> str:
    return f"{size_of(folder) / 1e6:,.1f}"


def size_of(folder: Path) -> int:
    """Returns the bytes of all files below a folder; links are not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as they are printed, each column as wide as it has to be."""
    cells = [[_plain(cell)[:_LONGEST_CELL] for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def _plain(text: str) -> str:
    """A text on one line, without what a terminal would obey: a stored run may be anyone's."""
    return "".join(c if c.isprintable() else " " for c in text)


_LISTS: Mapping[str, Callable[[Mapping[str, str]], Iterator[str]]] = {
    "tasks": _tasks,
    "models": _models,
    "templates": _templates,
    "runs": _runs,
}
