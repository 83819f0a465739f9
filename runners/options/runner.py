"""The typed schema of `runner`: which workers answer the questions, and their options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from runners.options.checks import check_at_least
from runners.options.component import Component
from runners.options.shard import read_shard


@dataclass(kw_only=True, slots=True)
class RunnerOptions(Component):
    """Any workers; which ones, says the subclass.

    Attributes:
        num_workers: Processes; None for as many as there are devices.
        num_threads: Threads of torch in each; None for an equal share of the cores.
        hang_s: A worker that computes nothing for so many seconds is replaced.
        grace_s: Seconds that what is being computed may take after SIGTERM.
        shard: The part of the run that is answered, such as `2/8`; None for all of it.
    """

    choice: ClassVar[str] = "runner="
    num_workers: int | None = None
    num_threads: int | None = None
    hang_s: float = 600.0
    grace_s: float = 25.0
    shard: str | None = None

    def __post_init__(self) -> None:
        Component.__post_init__(self)  # slots leave `super()` without its class
        for name in ("num_workers", "num_threads"):
            check_at_least(f"runner.{name}", getattr(self, name), 1)
        for name in ("hang_s", "grace_s"):
            check_at_least(f"runner.{name}", getattr(self, name), 0)
        read_shard(self.shard)


@dataclass(kw_only=True, slots=True)
class LocalOptions(RunnerOptions):
    """Processes on this machine.

    Attributes:
        devices_per_worker: CUDA devices that hold one model together.
    """

    choice: ClassVar[str] = "runner=local"
    _target_: str = "runners.workers.pool.LocalWorkers"
    devices_per_worker: int = 1

    def __post_init__(self) -> None:
        RunnerOptions.__post_init__(self)
        check_at_least("runner.devices_per_worker", self.devices_per_worker, 1)


@dataclass(kw_only=True, slots=True)
class RayOptions(RunnerOptions):
    """Actors on a Ray cluster.

    Attributes:
        address: The cluster, as `ray.init` takes it; None for `RAY_ADDRESS` or this machine.
        num_gpus: GPUs of an actor; None for one where the cluster has any.
        num_cpus: Cores of an actor.
        max_restarts: How often Ray starts a dead actor again; -1 for no limit.
    """

    choice: ClassVar[str] = "runner=ray"
    _target_: str = "runners.workers.ray.RayWorkers"
    address: str | None = None
    num_gpus: float | None = None
    num_cpus: float = 1.0
    max_restarts: int = 100

    def __post_init__(self) -> None:
        RunnerOptions.__post_init__(self)
        for name in ("num_gpus", "num_cpus"):
            check_at_least(f"runner.{name}", getattr(self, name), 0)
        check_at_least("runner.max_restarts", self.max_restarts, -1)


RUNNERS = (LocalOptions, RayOptions)
