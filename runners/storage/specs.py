"""How the tasks of a stored run were configured when it was made."""

from __future__ import annotations

from pathlib import Path

from runners.errors import ConfigError
from runners.options.given import TaskChoice
from runners.options.task_spec import TaskSpec
from runners.storage.manifest import MANIFEST_FILE, Manifest
from runners.storage.stored import StoredRun
from runners.storage.summary import SummaryFile


def read_run_specs(choice: TaskChoice, *runs: StoredRun) -> dict[str, TaskSpec]:
    """Returns the tasks of a run, or of the parts of one, by the names of their folders.

    Each is configured as it was when the run was made, by the first part that holds it; what the
    command line says about a task or about where data lie takes precedence.

    Args:
        choice: The benchmarks that are named; none for all tasks of the runs.
        runs: The run, or its parts.

    Raises:
        ConfigError: there is no task, or one that is asked for does not say how it was configured.
    """

    def find(name: str) -> TaskSpec | None:
        for task in (run.tasks[name] for run in runs if name in run.tasks):
            manifest = task.manifest
            if manifest and not (choice.specs and manifest.environment.get("task") is None):
                return read_spec(manifest, task.folder)
        return None

    if choice.specs:
        return choice.over(find)
    names = dict.fromkeys(name for run in runs for name in run.tasks)
    stored = {name: spec for name in names if (spec := find(name)) is not None}
    if not stored:
        where = " and ".join(str(run.folder) for run in runs)
        raise ConfigError(f"{where} holds no task. Run runners.eval first, or check `run`.")
    return stored


def scored_spec(summary: SummaryFile, manifest: Manifest, folder: Path) -> TaskSpec:
    """Returns the task by whose rules figures were made, which need not be those of the run.

    Raises:
        ConfigError: neither the summary nor the manifest describes a task.
    """
    if summary.scored_as is not None:
        return TaskSpec.from_json(summary.scored_as)
    return read_spec(manifest, folder)


def read_spec(manifest: Manifest, folder: Path) -> TaskSpec:
    """Returns the task of a manifest, which may be anyone's.

    Args:
        manifest: Its content.
        folder: Where it lies, for the message.

    Raises:
        ConfigError: it does not describe a task.
    """
    try:
        return TaskSpec.from_json(manifest.environment.get("task"))
    except ConfigError as error:
        raise ConfigError(
            f"{folder / MANIFEST_FILE} does not say how its task was configured. Name the task "
            "and its options."
        ) from error
