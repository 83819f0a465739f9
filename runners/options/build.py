"""From configuration to objects: the only place that instantiates anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from llava.errors import reason_of
from runners.errors import ConfigError
from runners.options.complaints import did_you_mean, of_another
from runners.options.names import check_task_name

if TYPE_CHECKING:
    from evals.task import Task

TASK_PACKAGE = "evals.tasks."

S = TypeVar("S")


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
    return settings


def _unknown_options(config: DictConfig, kind: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """What is no option, and the question after what may have been meant."""
    known = {field.name for field in fields(kind)}
    for key in map(str, config):
        if key not in known:
            yield prefix + key, did_you_mean(prefix + key, known) or of_another(kind, key)
        elif is_dataclass(inner := OmegaConf.get_type(config, key)):
            yield from _unknown_options(config[key], inner, f"{prefix}{key}.")


def read_task_specs(config: DictConfig) -> dict[str, dict[str, Any]]:
    """Returns what describes each benchmark: `_target_` plus values. Generates demo data on demand.

    Raises:
        ConfigError: no task is named, one is described by something else than options, or two
            would share a folder.
    """
    if not config.tasks:
        raise ConfigError("`task` must name at least one benchmark. See --help for their names.")
    if "demo" in config.data:
        config.data.root = str(instantiate(config.data.demo))
    specs: Any = OmegaConf.to_container(config.tasks, resolve=True, throw_on_missing=True)
    for name, spec in specs.items():
        if not isinstance(spec, dict):
            raise ConfigError(
                f"`tasks.{name}` must be a mapping of options, but is {spec!r}. Choose benchmarks "
                f"with task=NAME, and set one of their options with tasks.{name}.OPTION=VALUE."
            )
    _check_distinct(specs)
    return dict(specs)


def _check_distinct(specs: Mapping[str, Mapping[str, Any]]) -> None:
    named: dict[str, str] = {}
    for key, spec in specs.items():
        name = build_task(spec).name
        if (other := named.setdefault(name, key)) != key:
            raise ConfigError(
                f"The tasks of a run must have different names, but `tasks.{other}` and "
                f"`tasks.{key}` are both called {name!r}. Set tasks.custom.name=NAME."
            )


def build_task(spec: Mapping[str, Any]) -> Task:
    """Returns the benchmark that a spec describes; nothing is read yet.

    Raises:
        ConfigError: the spec names something else than a benchmark of this project, an option of it
            is wrong, or no folder can have its name.
    """
    target = str(spec.get("_target_"))
    if not target.startswith(TASK_PACKAGE):
        raise ConfigError(f"`_target_` of a task must lie in {TASK_PACKAGE[:-1]}, but is {target}.")
    # What a task is given are plain values: nothing inside them is built, nor is a `${` in a prompt
    # an interpolation, as it would be if they went through Hydra.
    build = instantiate({"_target_": target}, _partial_=True)
    try:
        task: Task = build(**{key: value for key, value in spec.items() if key != "_target_"})
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{target} cannot be built from its options: {reason_of(error)}. Correct "
            "or remove that option."
        ) from error
    check_task_name(task.name)
    return task


def instantiate(component: Any, **options: Any) -> Any:
    """Returns what `_target_` of a component names, built from the values beside it."""
    from hydra.utils import instantiate as build

    return build(component, _convert_="all", **options)
