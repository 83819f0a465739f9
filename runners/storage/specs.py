"""How the tasks of a stored run were configured when it was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.errors import ConfigError
from runners.options.build import build_task, read_task_specs
from runners.storage.manifest import MANIFEST_FILE, Manifest
from runners.storage.stored import StoredRun

if TYPE_CHECKING:
    from omegaconf import DictConfig


def read_run_specs(config: DictConfig, run: StoredRun) -> dict[str, dict[str, Any]]:
    """Returns the tasks of a run by the names of their folders.

    Each is configured as it was when the run was made; what the command line says about a task or
    about where data lie takes precedence.

    Args:
        config: The composed options; `tasks` selects, and is empty for all tasks of the run.
        run: The run.

    Raises:
        ConfigError: no task of it says how it was configured.
    """
    stored = _stored_specs(run)
    if not config.tasks:
        if not stored:
            raise ConfigError(
                f"{run.folder} holds no task. Run runners.eval first, or check `run`."
            )
        return stored
    words = given_options()
    specs = {}
    for name, spec in read_task_specs(config).items():
        folder = build_task(spec).name
        given = {key: value for key, value in spec.items() if f"tasks.{name}.{key}" in words}
        moved = any(word == "data" or word.startswith("data.") for word in words)
        specs[folder] = spec if moved else stored.get(folder, spec) | given
    return specs


def _stored_specs(run: StoredRun) -> dict[str, dict[str, Any]]:
    return {
        name: read_spec(task.manifest, task.folder)
        for name, task in run.tasks.items()
        if task.manifest is not None
    }


def read_spec(manifest: Manifest, folder: Path) -> dict[str, Any]:
    """Returns the task of a manifest, as `_target_` plus values.

    The manifest may be anyone's: values in it must not build objects.

    Args:
        manifest: Its content.
        folder: Where it lies, for the message.

    Raises:
        ConfigError: it does not describe a task.
    """
    spec = manifest.environment.get("task")
    if not isinstance(spec, dict) or any(isinstance(value, dict) for value in spec.values()):
        raise ConfigError(
            f"{folder / MANIFEST_FILE} does not say how its task was configured. Name the task "
            "and its options."
        )
    return dict(spec)


def given_options() -> set[str]:
    """Returns the names of the options on the command line."""
    from hydra.core.hydra_config import HydraConfig

    words = HydraConfig.get().overrides.task
    return {word.partition("=")[0].lstrip("+~") for word in words}
