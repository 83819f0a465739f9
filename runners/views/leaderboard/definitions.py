"""Whether a stored figure still means what the present code and configuration mean by it."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from functools import cache
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runners.errors import ConfigError
from runners.options.build import build_task
from runners.scoring.judge import Judgment
from runners.storage.summary import SummaryFile

_PLACES = frozenset({"_target_", "data_dir", "source", "split", "check_counts", "judge", "replies"})
"""Options of a task that say where its data lie, or that a column or a mark of its own tells."""


@cache
def default_options(task: str) -> Mapping[str, Any] | None:
    """Returns a task's options in `conf/task`, None for a task that has no file there."""
    folder = importlib.resources.files("conf") / "task"
    files = {path.name: path for path in folder.iterdir()}
    if f"{task}.yaml" not in files:
        return None
    options = OmegaConf.create(files[f"{task}.yaml"].read_text(encoding="utf-8"))
    config = OmegaConf.create({"data": {"root": "data"}, "tasks": {task: options}})
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    return dict(resolved["tasks"][task])


def other_options(task: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options in which a stored task differs from its defaults.

    Args:
        task: The task's name.
        spec: `_target_` plus values, as the manifest has it.
    """
    defaults = default_options(task)
    if defaults is None or task == "custom":
        return {}
    return {
        name: value
        for name, value in sorted(spec.items())
        if name not in _PLACES and defaults.get(name) != value
    }


def is_present_definition(spec: Mapping[str, Any], summary: SummaryFile) -> bool:
    """Whether the code at hand would score the stored answers by the same definition.

    Args:
        spec: The task, as the manifest has it.
        summary: The stored figures.
    """
    judge = summary.judge
    options = dict(spec) if judge is None else {**spec, "judge": judge.get("model")}
    try:
        task = build_task(options)
    except (ConfigError, HydraException, OmegaConfBaseException):
        return False  # the task or an option of it is no more
    present = Judgment(task=task, record=judge).scorer_hash
    return summary.definition == task.definition and summary.hashes.scorer == present


def usual_judge(task: str) -> str | None:
    """Returns the judge whose figures are published for a task, None where no judge is needed."""
    judge = (default_options(task) or {}).get("judge")
    return None if judge is None else str(judge)
