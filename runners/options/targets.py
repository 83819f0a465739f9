"""What a `_target_` names: a class or function by its dotted name."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any, cast

from evals.benchmark import is_constructor
from evals.contract import describe_error
from runners.errors import ConfigError
from runners.options.include import (
    PACKAGE,
    included_folders,
    included_modules,
    is_included,
)

_BENCHMARK = re.compile(rf"(?:evals\.tasks|{PACKAGE})\.[a-z]\w*\.[A-Za-z]\w*")


def locate(target: str) -> Callable[..., Any]:
    """Returns what the dotted name of a class or function stands for; imports its module.

    Raises:
        ConfigError: there is no such module, or nothing of that name in it.
    """
    module, _, name = target.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (AttributeError, ModuleNotFoundError, ValueError) as error:
        raise ConfigError(
            f"`_target_` must name a class or function, but is {target!r}: {error}."
        ) from error
    return found


def find_benchmark(target: str) -> Callable[..., Any]:
    """Returns the constructor that a `_target_` names. Anybody may have written it.

    Raises:
        ConfigError: it is not one that a module directly in `evals.tasks`, or in a folder that the
            user includes, defines and marks.
    """
    match = _BENCHMARK.fullmatch(target)
    find = _locate_included if is_included(target) else locate
    found = find(target) if match else None
    # What a module merely imports or helps itself with is no benchmark: `evals.tasks.gqa.Path`.
    if match is None or not is_constructor(found) or _full_name(found) != target:
        raise ConfigError(
            "`_target_` of a task must name a benchmark in evals.tasks, or in a folder of yours as "
            f"{PACKAGE}.MODULE.NAME, but is {target}. See --help for those that there are; a "
            "constructor of your own is marked by @rebuildable."
        )
    return cast("Callable[..., Any]", found)


def _locate_included(target: str) -> Callable[..., Any]:
    """What a name in the package of included folders stands for; imports its module."""
    package, module, _ = target.split(".")
    path = included_modules().get(module)
    if path is None:
        there = ", ".join(map(str, included_folders()))
        raise ConfigError(
            f"`_target_` {target} is a benchmark of somebody's own, in a file {module}.py that "
            + (f"is not in {there}. " if there else "no folder is named for. ")
            + "Name its folder with include=DIR, if you trust what is in it."
        )
    try:
        importlib.import_module(f"{package}.{module}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        hint = ""
        if isinstance(error, ModuleNotFoundError) and error.name in included_modules():
            hint = f" Import {error.name}.py beside it as `{PACKAGE}.{error.name}`."
        place = describe_error(error, f"{package}.{module}")
        raise ConfigError(f"{path} cannot be imported: {place}. Correct it.{hint}") from error
    return locate(target)


def _full_name(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"
