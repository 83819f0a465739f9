"""What Hydra has to know before it composes: the schemas of the programs, and resolvers."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from runners.options.ask import AskConfig
from runners.options.bench import BenchProgramConfig
from runners.options.doctor import DoctorConfig
from runners.options.engine import ENGINES
from runners.options.eval import EvalConfig
from runners.options.include import included_folders
from runners.options.leaderboard import LeaderboardConfig
from runners.options.publish import PublishConfig
from runners.options.regress import RegressConfig
from runners.options.report import ReportConfig
from runners.options.runner import RUNNERS
from runners.options.score import ScoreConfig
from runners.options.submit import SubmitConfig
from runners.options.train_demo import TrainDemoConfig
from runners.options.view import ViewConfig
from runners.options.watch import WatchConfig

SCHEMAS: dict[str, type] = {
    "ask": AskConfig,
    "bench": BenchProgramConfig,
    "doctor": DoctorConfig,
    "eval": EvalConfig,
    "leaderboard": LeaderboardConfig,
    "publish": PublishConfig,
    "regress": RegressConfig,
    "report": ReportConfig,
    "score": ScoreConfig,
    "submit": SubmitConfig,
    "train_demo": TrainDemoConfig,
    "view": ViewConfig,
    "watch": WatchConfig,
}
"""The options of each program, which `conf/<program>.yaml` is typed by."""
# Not below their groups, where `--help` would list them as choices.
_CHOICES = {each.choice.partition("=")[2]: each for each in (*ENGINES, *RUNNERS)}


class _IncludedFolders(SearchPathPlugin):
    """Has Hydra look for configurations in the folders of the user's own, after `conf`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in included_folders():
            search_path.append(provider="include", path=f"file://{folder}")


@cache
def register() -> None:
    """Makes the schemas and the resolvers known to Hydra, once in a process."""
    for name, schema in (SCHEMAS | _CHOICES).items():
        ConfigStore.instance().store(name=f"{name}_schema", node=schema)
    Plugins.instance().register(_IncludedFolders)
    OmegaConf.register_new_resolver("package_dir", package_dir, replace=True)
    OmegaConf.register_new_resolver("cache_dir", cache_dir, replace=True)
    OmegaConf.register_new_resolver("renamed", renamed, replace=True)


def package_dir(name: str) -> str:
    """Returns the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"`{name}` must be an installed package, but is not.")
    return str(Path(next(iter(spec.submodule_search_locations))).resolve())


def renamed(name: str, names: Mapping[str, str]) -> str:
    """Returns what a name stands for, itself where nothing else is said.

    >>> renamed("val", {"val": "validation"}), renamed("test", {"val": "validation"})
    ('validation', 'test')
    """
    return names.get(name, name)


def cache_dir() -> str:
    """Returns the folder for what can be made again: `$XDG_CACHE_HOME/llava-evals`."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(root) / "llava-evals")
