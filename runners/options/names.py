"""The name of a run: the model, and every option that differs from its default and matters."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from llava.names import get_model_name_from_path
from runners.errors import ConfigError
from runners.options.eval import EvalConfig
from runners.options.model import GenerationOptions, SubjectConfig
from runners.options.shard import read_shard

_SET_ASIDE = re.compile(r"\.old-\d+$")


def is_set_aside(folder: Path) -> bool:
    """Whether a folder holds the results of a task that `overwrite=true` put out of the way.

    >>> is_set_aside(Path("gqa.old-1")), is_set_aside(Path("my.old-task"))
    (True, False)
    """
    return _SET_ASIDE.search(folder.name) is not None


def is_name(value: Any) -> bool:
    """Whether a value can be the name of a run, which is that of its folder in `results_dir`.

    >>> is_name("llava-v1.5-7b"), is_name("../mine"), is_name(5)
    (True, False, False)
    """
    return isinstance(value, str) and value not in ("", ".", "..") and "/" not in value


def model_name(settings: SubjectConfig) -> str:
    """Returns the model's name: the one that is given, else from its path.

    Raises:
        ConfigError: the path has no name, or the name that is given is none.
    """
    if settings.model.name:
        if settings.model.name in (".", ".."):
            raise ConfigError(
                f"`model.name` must be a name, but is {settings.model.name!r}. Choose another, or "
                "leave it out."
            )
        return settings.model.name
    name = get_model_name_from_path(settings.model.path)
    if not is_name(name):
        raise ConfigError(
            f"`model.path` must name a folder, but is {settings.model.path!r}. Write the "
            "folder's name out, or give model.name=NAME."
        )
    return name


def run_name(settings: EvalConfig) -> str:
    """Returns the folder name of a run, for example `llava-demo-limit20`.

    A part of a run ends with which one it is, whatever the name.

    Raises:
        ConfigError: `run` is no name of a folder.
    """
    shard = read_shard(settings.runner.shard)
    ending = [shard.suffix] if shard else []
    if settings.run is None:
        return "-".join([*_telling_parts(settings), *ending])
    if not is_name(settings.run):
        raise ConfigError(
            f"`run` must be a name without slashes, but is {settings.run!r}. Use results_dir=DIR "
            "to keep runs elsewhere."
        )
    return "-".join([settings.run, *ending])


def check_task_name(name: Any) -> None:
    """Checks that a task can have a folder of that name beside the others of a run.

    Raises:
        ConfigError: it cannot.
    """
    if not is_name(name) or is_set_aside(Path(name)):
        raise ConfigError(
            "`name` of a task must be a name without slashes that does not end in .old-N, but is "
            f"{name!r}. Set tasks.custom.name=NAME; in a file, put a number in quotes."
        )


def _telling_parts(settings: EvalConfig) -> list[str]:
    quantization, generation = settings.quantization.name, settings.generation
    parts = [
        model_name(settings).replace("/", "_"),
        None if quantization == "none" else quantization,
        settings.dtype,
        settings.conversation.template,
    ]
    for option in fields(GenerationOptions):
        value = getattr(generation, option.name)
        parts.append(None if value == option.default else f"{option.name}{value}")
    if generation.temperature > 0 and settings.seed:
        parts.append(f"seed{settings.seed}")
    if settings.limit is not None:
        parts.append(f"limit{settings.limit}")
    return [part for part in parts if part is not None]
