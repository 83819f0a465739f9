"""The typed schema of `runners.eval`.

Component groups (tasks, engine, runner) are `_target_` plus values; their constructors are the
schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runners.options.checks import check_at_least, check_choice
from runners.options.model import GenerationOptions, SubjectConfig
from runners.options.shard import read_shard

REPLAYS = ("near_ties", "all", "off")


@dataclass(kw_only=True, slots=True)
class EvalConfig(SubjectConfig):
    """Options of `runners.eval`.

    Attributes:
        tasks: One entry a benchmark.
        data: Where the benchmarks lie.
        generation: How answers are generated.
        engine: Which generation engine, as `_target_` plus values.
        runner: Which workers, as `_target_` plus values.
        results_dir: Where runs are kept.
        run: The run's name; null builds it from the options that matter.
        limit: Only the first questions of each task.
        overwrite: Set a run that is there aside and start anew.
        retry_failed: Ask questions again that failed before.
        max_failures: How many failed questions of a task still count as complete.
        check_counts: Stop when a published split has another number of questions.
        dry_run: Say what the run would take, and load nothing.
        canary: `on` asks a few questions with and without their image before a run, `off` not.
        manifest: A stored run's folder or a task's `manifest.json` in it; the run is repeated and
            its answers are compared.
    """

    tasks: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    engine: dict[str, Any] = field(default_factory=dict)
    runner: dict[str, Any] = field(default_factory=dict)
    results_dir: str = "results"
    run: str | None = None
    limit: int | None = None
    overwrite: bool = False
    retry_failed: bool = True
    max_failures: int = 0
    check_counts: bool = True
    dry_run: bool = False
    canary: Any = "on"
    manifest: str | None = None

    def __post_init__(self) -> None:
        SubjectConfig.__post_init__(self)  # slots leave `super()` without its class
        if isinstance(self.canary, bool):  # YAML reads on and off so
            self.canary = "on" if self.canary else "off"
        check_choice("canary", self.canary, ("on", "off"))
        for name in ("max_tokens", "max_rows", "num_preprocess_threads"):
            _check_count(f"engine.{name}", self.engine.get(name))
        for name in ("num_workers", "devices_per_worker", "num_threads"):
            _check_count(f"runner.{name}", self.runner.get(name))
        for name in ("hang_s", "grace_s"):
            _check_seconds(f"runner.{name}", self.runner.get(name))
        read_shard(self.runner.get("shard"))
        _check_near_ties(self.engine)
        check_at_least("limit", self.limit, 1, "Leave it out for all.")
        check_at_least("max_failures", self.max_failures, 0)


def _check_near_ties(engine: dict[str, Any]) -> None:
    check_choice("engine.replay", engine.get("replay", "near_ties"), REPLAYS)
    threshold = engine.get("near_tie_threshold")
    if threshold is not None and (not isinstance(threshold, (int, float)) or not threshold >= 0):
        raise ValueError(
            f"`engine.near_tie_threshold` must be a number of at least 0, but is {threshold!r}. "
            "Leave it out for the measured one."
        )


def _check_count(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError(f"`{name}` must be a whole number of at least 1, but is {value!r}.")


def _check_seconds(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, (int, float)) or not value >= 0):
        raise ValueError(f"`{name}` must be a number of seconds, but is {value!r}.")
