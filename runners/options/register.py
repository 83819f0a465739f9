"""What Hydra has to know before it composes: the schemas of the programs, and resolvers."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path
from typing import cast

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from runners.options.ask import AskConfig
from runners.options.bench import BenchProgramConfig
from runners.options.doctor import DoctorConfig
from runners.options.engine import PackedOptions, SequentialOptions
from runners.options.eval import EvalConfig
from runners.options.leaderboard import LeaderboardConfig
from runners.options.regress import RegressConfig
from runners.options.report import ReportConfig
from runners.options.runner import LocalOptions, RayOptions
from runners.options.score import ScoreConfig
from runners.options.submit import SubmitConfig
from runners.options.watch import WatchConfig


@cache
def register() -> None:
    """Makes the schemas and the resolvers known to Hydra, once in a process."""
    store = ConfigStore.instance()
    store.store(name="eval_schema", node=EvalConfig)
    store.store(name="watch_schema", node=WatchConfig)
    store.store(name="ask_schema", node=AskConfig)
    store.store(name="bench_schema", node=BenchProgramConfig)
    store.store(name="score_schema", node=ScoreConfig)
    store.store(name="submit_schema", node=SubmitConfig)
    store.store(name="doctor_schema", node=DoctorConfig)
    store.store(name="regress_schema", node=RegressConfig)
    store.store(name="leaderboard_schema", node=LeaderboardConfig)
    store.store(name="report_schema", node=ReportConfig)
    # at the root, so that `--help` does not list them as choices
    store.store(name="packed_schema", node=PackedOptions)
    store.store(name="sequential_schema", node=SequentialOptions)
    store.store(name="local_schema", node=LocalOptions)
    store.store(name="ray_schema", node=RayOptions)
    OmegaConf.register_new_resolver("package_dir", package_dir, replace=True)
    OmegaConf.register_new_resolver("cache_dir", cache_dir, replace=True)


def schema_of(config_name: str) -> type:
    """Returns the options of a program, which `conf/<config_name>.yaml` is typed by."""
    node = ConfigStore.instance().load(f"{config_name}_schema.yaml").node
    return cast("type", OmegaConf.get_type(node))


def package_dir(name: str) -> str:
    """Returns the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"`{name}` must be an installed package, but is not.")
    return str(Path(next(iter(spec.submodule_search_locations))).resolve())


def cache_dir() -> str:
    """Returns the folder for what can be made again: `$XDG_CACHE_HOME/llava-evals`."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(root) / "llava-evals")
