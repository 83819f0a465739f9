"""What a `_target_` names: a class or function by its dotted name."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any, cast

from evals.benchmark import is_constructor
from runners.errors import ConfigError

_BENCHMARK = re.compile(r"evals\.tasks\.[a-z]\w*\.[A-Za-z]\w*")


def locate(target: str) -> Callable[..., Any]:
    """Returns what the dotted name of a class or function stands for; imports its module.

    Raises:
        ConfigError: there is no such module, or nothing of that name in it.
    """
    module, _, name = target.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (AttributeError, ModuleNotFoundError, ValueError) as error:
        raise ConfigError(f"`_target_` must name a class, but is {target!r}: {error}.") from error
    return found


def find_benchmark(target: str) -> Callable[..., Any]:
    """Returns the constructor that a `_target_` names. Anybody may have written it.

    Raises:
        ConfigError: it is not one that a module directly in `evals.tasks` defines and marks.
    """
    match = _BENCHMARK.fullmatch(target)
    found = locate(target) if match else None
    # What a module merely imports or helps itself with is no benchmark: `evals.tasks.gqa.Path`.
    if match is None or not is_constructor(found) or _full_name(found) != target:
        raise ConfigError(
            f"`_target_` of a task must name a benchmark in evals.tasks, but is {target}. See "
            "--help for those that there are; a constructor of your own is marked by @rebuildable."
        )
    return cast("Callable[..., Any]", found)


def _full_name(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"
