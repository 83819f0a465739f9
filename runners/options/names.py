"""The name of a run: the model, and every option that differs from its default and matters."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from llava.names import get_model_name_from_path
from runners.errors import ConfigError
from runners.options.eval import EvalConfig
from runners.options.model import GenerationOptions, SubjectConfig
from runners.options.shard import read_shard

_LONGEST, _SHORTENED = 255, 200
"""In bytes: what a file system takes as a name, and what is kept where that is exceeded."""
_OF_A_TASK = ".old-99999"
"""The longest that is put beside the name of a task's folder."""
_SET_ASIDE = re.compile(r"\.old-\d+$")


VERDICT = "regress-"
"""What the folder of a verdict over a run is called, in front of the name of the baseline."""


def is_set_aside(folder: Path) -> bool:
    """Whether a folder holds the results of a task that `overwrite=true` put out of the way.

    >>> is_set_aside(Path("gqa.old-1")), is_set_aside(Path("my.old-task"))
    (True, False)
    """
    return _SET_ASIDE.search(folder.name) is not None


def is_name(value: Any) -> bool:
    """Whether a value can be the name of a run, which is that of its folder in `results_dir`.

    >>> is_name("llava-v1.5-7b"), is_name("../mine"), is_name(5), is_name(300 * "x")
    (True, False, False, False)
    """
    if not isinstance(value, str) or value in ("", ".", "..") or set(value) & set("/\0"):
        return False
    try:
        return len(os.fsencode(value)) <= _LONGEST
    except UnicodeEncodeError:  # half a character, as JSON can hold it
        return False


def fitting_name(name: str, *endings: str) -> str:
    """Returns a name with its endings; what is too long for a folder is cut, and told by a hash.

    >>> fitting_name("llava-demo", "rerun")
    'llava-demo-rerun'
    >>> fitting_name(300 * "x", "rerun").strip("x")
    '-0d4e2ca9e9cb-rerun'
    """
    whole = "-".join([name, *endings])
    encoded = os.fsencode(name)
    if len(os.fsencode(whole)) <= _LONGEST:
        return whole
    kept = encoded[:_SHORTENED].decode(errors="ignore")
    return "-".join([kept, hashlib.sha256(encoded).hexdigest()[:12], *endings])


def model_name(settings: SubjectConfig) -> str:
    """Returns the model's name: the one that is given, else from its path.

    Raises:
        ConfigError: the path has no name, or the name that is given is none.
    """
    if settings.model.name:
        if settings.model.name in (".", "..") or "\0" in settings.model.name:
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


def found_from_anywhere(path: str) -> str:
    """Returns the whole path of a folder; a hub id stays what it is."""
    return str(Path(path).resolve()) if Path(path).exists() else path


def run_name(settings: EvalConfig) -> str:
    """Returns the folder name of a run, for example `llava-demo-limit20`.

    A part of a run ends with which one it is, whatever the name. A name that is given is never
    shortened.

    Raises:
        ConfigError: `run` is no name of a folder.
    """
    shard = read_shard(settings.runner.shard)
    ending = [shard.suffix] if shard else []
    if settings.run is None:
        return fitting_name("-".join(_telling_parts(settings)), *ending)
    check_run_name(name := "-".join([settings.run, *ending]) if settings.run else "")
    return name


def check_run_name(run: str) -> None:
    """Checks that a run can have that name, which `run` gave it.

    Raises:
        ConfigError: it cannot.
    """
    if not is_name(run):
        raise ConfigError(
            f"`run` must be a name without slashes, of at most {_LONGEST} bytes, but is {run!r}. "
            "Choose another with run=NAME; use results_dir=DIR to keep runs elsewhere."
        )


def check_task_name(name: Any) -> None:
    """Checks that a task can have a folder of that name beside the others of a run.

    Raises:
        ConfigError: it cannot.
    """
    if not is_name(name) or not is_name(name + _OF_A_TASK) or is_set_aside(Path(name)):
        raise ConfigError(
            "`name` of a task must be a name without slashes that does not end in .old-N, of at "
            f"most {_LONGEST - len(_OF_A_TASK)} bytes, but is {name!r}. Set "
            "tasks.custom.name=NAME; in a file, put a number in quotes."
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
