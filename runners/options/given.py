"""What a command line says, beside what the composed options hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from runners.errors import ConfigError
from runners.options.build import read_chosen_specs
from runners.options.task_spec import TaskSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenOptions:
    """The options on the command line.

    Attributes:
        names: Their whole names.
        choices: What was chosen where a name is that of a group, such as `model`.
        tasks: Those of benchmarks with their values, by the benchmark's key in `tasks`.
        placed: Options of benchmarks that follow from those of `data`, by the same key.
    """

    names: frozenset[str] = frozenset()
    choices: Mapping[str, str] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    placed: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChoice:
    """The benchmarks that a command line names, and what it says of them.

    Attributes:
        specs: By their key in `tasks`; empty where none is named.
        given: What the command line says.
    """

    specs: Mapping[str, TaskSpec] = field(default_factory=dict)
    given: GivenOptions = field(default_factory=GivenOptions)

    def over(self, find_stored: Callable[[str], TaskSpec | None]) -> dict[str, TaskSpec]:
        """Returns the named benchmarks by the names of their folders.

        Each is as it was stored, where it was; what the command line says of it, or of where data
        lie, takes precedence. Only those that are named are asked for, so that no other has to be
        readable.
        """
        specs = {}
        for key, spec in self.specs.items():
            folder = spec.build().name
            stored, options = find_stored(folder), spec.options
            given = {n: options[n] for n in self.given.placed.get(key, ()) if n in options}
            given |= self.given.tasks.get(key, {})
            specs[folder] = spec if stored is None else stored.with_options(given)
        return specs


def read_given(config: DictConfig) -> GivenOptions:
    """Returns what the command line of the running program says."""
    running = HydraConfig.get()
    words = running.overrides.task
    names = {word.partition("=")[0].lstrip("+"): word for word in words}
    tasks: dict[str, dict[str, Any]] = {}
    for name in names:
        task, _, option = name.removeprefix("tasks.").partition(".")
        if name.startswith("tasks.") and option:
            value = OmegaConf.select(config, name)
            plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            tasks.setdefault(task, {})[option] = plain
    whole = frozenset(name.lstrip("~") for name in names)
    choices = {name: str(choice) for name, choice in running.runtime.choices.items()}
    chosen = {name: choice for name, choice in choices.items() if name in whole}
    return GivenOptions(names=whole, choices=chosen, tasks=tasks, placed=_placed(config, whole))


def _placed(config: DictConfig, names: frozenset[str]) -> dict[str, list[str]]:
    """The options of benchmarks that refer to what is given of `data`."""
    fields = {name.removeprefix("data.") for name in names if name.startswith("data.")}
    if "data" in names:
        fields |= {"source", *map(str, config.data)}
    refers = re.compile(rf"\bdata\.({'|'.join(map(re.escape, fields))})\b")
    tasks: Any = OmegaConf.to_container(config.tasks, resolve=False) if fields else {}
    return {
        key: [name for name, value in options.items() if refers.search(str(value))]
        for key, options in tasks.items()
        if isinstance(options, dict)
    }


def read_task_choice(config: DictConfig) -> TaskChoice:
    """Returns the benchmarks that are named, maybe none. Generates demo data on demand.

    Raises:
        ConfigError: a benchmark is described by something else than options, two would share a
            folder, or it is said where data lie, but not of which.
    """
    choice = TaskChoice(specs=read_chosen_specs(config), given=read_given(config))
    of_data = sorted(name for name in choice.given.names if name.partition(".")[0] == "data")
    if of_data and not choice.specs:
        raise ConfigError(
            f"`{of_data[0]}` says where the data of benchmarks lie, but none is named. Name those "
            "that it is about with task=NAME."
        )
    return choice
