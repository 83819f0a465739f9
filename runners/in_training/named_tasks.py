"""Benchmarks that are named in Python, as the command line names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark
from runners.errors import ConfigError
from runners.options.composing import NamedOptions, compose_named
from runners.options.eval import EvalConfig
from runners.options.task_spec import TaskSpec

TaskLike = str | Mapping[str, Any] | Benchmark
"""A name that `task=` takes, a benchmark as `_target_` plus values, or a benchmark itself."""


Described = tuple[Benchmark, TaskSpec | None]
"""A benchmark, and how it is described; None where it does not know how it was built."""


def resolve_tasks(
    tasks: TaskLike | Sequence[TaskLike], options: NamedOptions
) -> tuple[list[Described], EvalConfig]:
    """Returns the benchmarks, those with a name first, and all options with their defaults.

    Raises:
        ConfigError: there is no benchmark, two have the same name, or an option is wrong.
    """
    entries = [tasks] if isinstance(tasks, (str, Mapping, Benchmark)) else list(tasks)
    names = [entry for entry in entries if isinstance(entry, str)]
    specs, settings = compose_named(names, options)
    found: list[Described] = [(spec.build(), spec) for spec in specs]
    found += [_describe(entry) for entry in entries if not isinstance(entry, str)]
    known = [task.name for task, _ in found]
    repeated = {name for name in known if known.count(name) > 1}
    if repeated or not found:
        raise ConfigError(
            f"`tasks` must name each benchmark once, but has {', '.join(known) or 'none'}. Ask "
            "for two variants of one in two calls."
        )
    return found, settings


def _describe(task: Mapping[str, Any] | Benchmark) -> Described:
    if isinstance(task, Mapping):
        spec = TaskSpec.from_json(task)
        return spec.build(), spec
    if not isinstance(task, Benchmark):
        raise TypeError(
            "`tasks` must hold names, mappings with `_target_` or benchmarks, but has "
            f"{type(task).__name__}."
        )
    if task.recipe is None:
        return task, None
    constructor, options = task.recipe
    # a manifest holds no paths
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in options.items()}
    return task, TaskSpec(target=constructor, options=plain)
