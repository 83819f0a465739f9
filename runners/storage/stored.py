"""Runs on disk: how their tasks were configured when they were made, and who may write them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.errors import ConfigError
from runners.options.build import build_task, read_task_specs
from runners.options.names import is_set_aside
from runners.storage.files import sync_folder
from runners.storage.lock import FolderLock
from runners.storage.manifest import MANIFEST_FILE, read_manifest

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)


def read_run_specs(config: DictConfig, run_dir: Path) -> dict[str, dict[str, Any]]:
    """Returns the tasks of a run by the names of their folders.

    Each is configured as it was when the run was made; what the command line says about a task or
    about where data lie takes precedence.

    Args:
        config: The composed options; `tasks` selects, and is empty for all tasks of the run.
        run_dir: The run's folder.

    Raises:
        ConfigError: the run does not exist, or holds no task.
    """
    stored = _read_stored(run_dir)
    if not config.tasks:
        if not stored:
            raise ConfigError(f"{run_dir} holds no task. Run runners.eval first, or check `run`.")
        return stored
    words = given_options()
    specs = {}
    for name, spec in read_task_specs(config).items():
        folder = build_task(spec).name
        given = {key: value for key, value in spec.items() if f"tasks.{name}.{key}" in words}
        moved = any(word == "data" or word.startswith("data.") for word in words)
        specs[folder] = spec if moved else stored.get(folder, spec) | given
    return specs


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """While it is entered, no other process writes a task's folder.

    Raises:
        ConfigError: another process writes there, or this one may not.
        StoreError: the disk is full.
    """
    lock = FolderLock(folder)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def set_aside(folder: Path) -> None:
    """Renames a task's folder, if it is there, to the first free `<task>.old-N`."""
    if not folder.exists():
        return
    names = (folder.with_name(f"{folder.name}.old-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    folder.rename(aside)
    sync_folder(folder.parent)
    logger.info("%s is kept as %s", folder, aside)


def _read_stored(run_dir: Path) -> dict[str, dict[str, Any]]:
    if not run_dir.is_dir():
        raise ConfigError(f"{run_dir} does not exist. Check `run` and `results_dir`.")
    specs = {}
    for folder in sorted(run_dir.iterdir()):
        manifest = read_manifest(folder) if folder.is_dir() and not is_set_aside(folder) else None
        if manifest is not None:
            specs[folder.name] = read_spec(manifest, folder)
    return specs


def read_spec(manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the task of a manifest, as `_target_` plus values.

    The manifest may be anyone's: values in it must not build objects.

    Args:
        manifest: Its content.
        folder: Where it lies, for the message.

    Raises:
        ConfigError: it does not describe a task.
    """
    environment = manifest.get("environment")
    spec = environment.get("task") if isinstance(environment, dict) else None
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
