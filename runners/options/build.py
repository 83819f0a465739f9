"""From composed configuration to typed options and benchmarks: the border of Hydra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from llava.errors import reason_of
from runners.errors import ConfigError
from runners.options.complaints import did_you_mean, of_another, paragraph
from runners.options.conf_files import read_choice
from runners.options.include import PACKAGE, check_declaration
from runners.options.model import SubjectConfig
from runners.options.register import cache_dir, register
from runners.options.task_spec import TaskSpec
from runners.options.words import escape_interpolations

S = TypeVar("S")

_OF_DATA = ("root", "source", "split", "demo")


def read_settings(config: DictConfig, kind: type[S]) -> S:
    """Returns the composed options as the schema's dataclass.

    Raises:
        ConfigError: a value is out of its range, or `+` put in what is no option.
    """
    unknown = dict(_unknown_options(config, kind))
    if unknown:
        meant = " ".join(filter(None, unknown.values())) or "Check the name."
        raise ConfigError(
            f"`{'`, `'.join(unknown)}` is no option. {meant} Leave out the `+` before it."
        )
    try:
        settings = OmegaConf.to_object(config)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(settings, kind):
        raise TypeError(f"`config` must compose to {kind.__name__}, but is {type(settings)}.")
    if isinstance(settings, SubjectConfig):
        check_declaration(settings.conversation)
    return settings


def _unknown_options(config: DictConfig, kind: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """What is no option, and the question after what may have been meant."""
    known = {field.name for field in fields(kind)}
    for key in map(str, config):
        if key not in known:
            yield prefix + key, did_you_mean(prefix + key, known) or of_another(kind, key)
        elif is_dataclass(inner := OmegaConf.get_type(config, key)):
            yield from _unknown_options(config[key], inner, f"{prefix}{key}.")


def read_stored(kind: type[S], content: object, place: str) -> S:
    """Returns options that a file keeps as the schema's dataclass. The file may be anyone's.

    Nothing in its content is an interpolation; `place` is what the message calls it.

    Raises:
        ConfigError: there are other options in it, or values of another type or range.
    """
    try:
        options = OmegaConf.structured(kind)
        options.merge_with(_as_text(content))
        return cast("S", OmegaConf.to_object(options))
    except (OmegaConfBaseException, RecursionError, TypeError, ValueError) as error:
        key = getattr(error, "full_key", None)
        said = f"`{key}`: {paragraph(error)}" if key else paragraph(error)
        raise ConfigError(f"{place} does not hold the options of a run: {said}") from error


def _as_text(value: Any) -> Any:
    """Stored values such that nothing in them is an interpolation."""
    if isinstance(value, dict):
        return {name: _as_text(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_as_text(part) for part in value]
    return escape_interpolations(value) if isinstance(value, str) else value


def read_task_specs(config: DictConfig) -> dict[str, TaskSpec]:
    """Returns the benchmarks by their key in `tasks`. Generates demo data on demand.

    Raises:
        ConfigError: no task is named, one is described by something else than options, or two
            would share a folder.
    """
    specs = read_chosen_specs(config)
    if not specs:
        raise ConfigError("`task` must name at least one benchmark. See --help for their names.")
    return specs


def read_chosen_specs(config: DictConfig) -> dict[str, TaskSpec]:
    """Returns what `read_task_specs` does, nothing where no task is named."""
    if not config.tasks:
        return {}
    _check_data_options(config)
    if "demo" in config.data:
        default, given = read_choice("data", "demo"), config.data.root
        config.data.root = str(_ensure_demo_data(config.data.demo))
        if default is not None and given not in (default.root, config.data.root):
            raise ConfigError("`data.root` is for real data. Leave it out for data=demo.")
    tasks: Any = OmegaConf.to_container(config.tasks, resolve=True, throw_on_missing=True)
    specs: dict[str, TaskSpec] = {}
    for name, content in tasks.items():
        if not isinstance(content, dict):
            raise ConfigError(
                f"`tasks.{name}` must be a mapping of options, but is {content!r}. Choose "
                f"benchmarks with task=NAME, and set one of their options with "
                f"tasks.{name}.OPTION=VALUE."
            )
        specs[str(name)] = TaskSpec.from_json(content)
    _check_names(specs)
    if "demo" in config.data:
        _check_demo_data(Path(config.data.root), specs)
    return specs


def named_tasks(config: DictConfig) -> list[str]:
    """Returns the names by which the folders of a run know the benchmarks that are named."""
    return [
        str((isinstance(task, DictConfig) and task.get("name")) or key)
        for key, task in config.tasks.items()
    ]


def _check_data_options(config: DictConfig) -> None:
    """Checks that every option of `data` is known, or that a benchmark refers to it."""
    tasks = OmegaConf.to_yaml(config.tasks, resolve=False)
    for name in map(str, config.data):
        if name not in _OF_DATA and f"data.{name}" not in tasks:
            meant = did_you_mean(f"data.{name}", _OF_DATA) or "Leave it out."
            raise ConfigError(
                f"`data.{name}` is no option: no benchmark that is named has it. {meant}"
            )


def default_spec(name: str) -> TaskSpec | None:
    """Returns a benchmark as the file of its name in `conf/task` has it.

    None without such a file, or where it needs an option of `data` that the command line gives.
    """
    register()
    options = read_choice("task", name)
    if options is None or "_target_" not in options:
        return None
    config = OmegaConf.create({"data": {"root": "data"}, "tasks": {name: options}})
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True)
    except InterpolationResolutionError:
        return None
    return TaskSpec.from_json(resolved["tasks"][name])


def _ensure_demo_data(demo: DictConfig) -> Path:
    from evals.demo import ensure_demo_data

    options: Any = OmegaConf.to_container(demo, resolve=True)
    try:
        return ensure_demo_data(Path(cache_dir(), "demo"), **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"`data.demo` cannot be generated: {reason_of(error)}") from error


def _check_demo_data(root: Path, specs: Mapping[str, TaskSpec]) -> None:
    """Checks that the demo data have what is asked; a folder of the user's own is his affair."""
    there = sorted(folder.name for folder in root.iterdir() if folder.is_dir())
    folders = {name: Path(str(spec.options.get("data_dir"))) for name, spec in specs.items()}
    missing = [
        name for name, folder in folders.items() if root in folder.parents and not folder.exists()
    ]
    if missing:
        raise ConfigError(
            f"data=demo has questions for {', '.join(there)}, but none for {', '.join(missing)}. "
            "Choose among these with task=NAME, or leave data=demo out."
        )


def _check_names(specs: Mapping[str, TaskSpec]) -> None:
    """Checks that each task has its own name, and one from an included folder that of its entry.

    Raises:
        ConfigError: one has not.
    """
    named: dict[str, str] = {}
    for key, spec in specs.items():
        name = spec.build().name
        if name != key and spec.target.startswith(f"{PACKAGE}."):
            raise ConfigError(
                f"`tasks.{key}` is called {name!r} by {spec.target}, but tables and folders must "
                f"name it as the command line does. Write name={key!r} there, or `@package "
                f"tasks.{name}` in the YAML."
            )
        if (other := named.setdefault(name, key)) != key:
            raise ConfigError(
                f"The tasks of a run must have different names, but `tasks.{other}` and "
                f"`tasks.{key}` are both called {name!r}. Set tasks.custom.name=NAME."
            )
