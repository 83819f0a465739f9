"""Options that are named in Python, composed as the command line composes them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from runners.errors import ConfigError
from runners.options.build import read_settings, read_task_specs
from runners.options.eval import EvalConfig
from runners.options.register import register
from runners.options.task_spec import TaskSpec
from runners.options.words import escape_interpolations


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedOptions:
    """What `runners.eval` takes as options, each None for its default.

    Attributes:
        data: Where the benchmarks lie: `playground`, `hub` or `demo`.
        engine: `packed` or `sequential`, or options of the packed engine.
        values: Further options by name, as mappings for the groups.
    """

    model_name: str
    data: str | None = None
    data_root: str | Path | None = None
    engine: str | Mapping[str, Any] = "packed"
    values: Mapping[str, Any] = field(default_factory=dict)


def compose_named(names: Sequence[str], options: NamedOptions) -> tuple[list[TaskSpec], EvalConfig]:
    """Returns the named benchmarks, and all options as `runners.eval` would have them.

    Raises:
        ConfigError: a name or an option is wrong.
    """
    engine = options.engine if isinstance(options.engine, str) else "packed"
    overrides = ["model=checkpoint", f"engine={engine}"]
    overrides += [f"task=[{','.join(names)}]"] if names else ["~task"]
    overrides += [] if options.data is None else [f"data={options.data}"]
    try:
        with own_hydra():
            config = compose("eval", overrides=overrides)
            _fill_in(config, options)
            specs = list(read_task_specs(config).values()) if names else []
            return specs, read_settings(config, EvalConfig)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error)) from error


def _fill_in(config: DictConfig, options: NamedOptions) -> None:
    """Puts values in that need no syntax of the command line's."""
    config.model.path = config.model.name = escape_interpolations(options.model_name)
    if options.data_root is not None:
        if "demo" in config.data:
            raise ConfigError("`data_root` is for real data. Leave it out for `demo`.")
        config.data.root = escape_interpolations(str(options.data_root))
    for name, value in options.values.items():
        OmegaConf.update(config, name, value)
    if not isinstance(options.engine, str):
        with open_dict(config.engine):
            config.engine.update(dict(options.engine))


@contextmanager
def own_hydra() -> Iterator[None]:
    """Composes beside a program that uses Hydra itself, which goes on with its own afterwards."""
    register()
    of_program = copy.copy(GlobalHydra.instance())
    version = copy.copy(VersionBase.instance())
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(version_base="1.3", config_module="conf"):
            yield
    finally:
        VersionBase.set_instance(version)
        GlobalHydra.set_instance(of_program)
