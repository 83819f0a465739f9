"""Benchmarks that are named in Python, as the command line names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark
from runners.errors import ConfigError
from runners.options.composing import NamedOptions, compose_named
from runners.options.eval import EvalConfig
from runners.options.task_spec import TaskSpec

TaskLike = str | Mapping[str, Any] | Benchmark
"""A name that `task=` takes, a benchmark as `_target_` plus values, or a benchmark itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTask:
    """A benchmark, and how it was described.

    Attributes:
        task: The benchmark.
        spec: The same as it is described; None for an object that does not know how it was built.
    """

    task: Benchmark
    spec: TaskSpec | None


def resolve_tasks(
    tasks: TaskLike | Sequence[TaskLike], options: NamedOptions
) -> tuple[list[NamedTask], EvalConfig]:
    """Returns the benchmarks, those with a name first, and all options with their defaults.

    Raises:
        ConfigError: there is no benchmark, two have the same name, or an option is wrong.
    """
    given = [tasks] if isinstance(tasks, (str, Mapping, Benchmark)) else tasks
    entries = list(given)
    names = [entry for entry in entries if isinstance(entry, str)]
    specs, settings = compose_named(names, options)
    found = [
        *(NamedTask(task=spec.build(), spec=spec) for spec in specs),
        *(_describe(entry) for entry in entries if not isinstance(entry, str)),
    ]
    known = [entry.task.name for entry in found]
    repeated = {name for name in known if known.count(name) > 1}
    if repeated or not found:
        raise ConfigError(
            f"`tasks` must name each benchmark once, but has {', '.join(known) or 'none'}. Ask "
            "for two variants of one in two calls."
        )
    return found, settings


def _describe(entry: Mapping[str, Any] | Benchmark) -> NamedTask:
    if isinstance(entry, Mapping):
        spec = TaskSpec.from_json(entry)
        return NamedTask(task=spec.build(), spec=spec)
    if not isinstance(entry, Benchmark):
        raise TypeError(
            "`tasks` must hold names, mappings with `_target_` or benchmarks, but has "
            f"{type(entry).__name__}."
        )
    return NamedTask(task=entry, spec=_spec_of(entry))


def _spec_of(task: Benchmark) -> TaskSpec | None:
    if task.recipe is None:
        return None
    constructor, options = task.recipe
    # a manifest holds no paths
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in options.items()}
    return TaskSpec(target=constructor, options=plain)
