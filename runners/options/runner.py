"""The typed schema of `runner`: which workers answer the questions, and their options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from runners.options.checks import check_fields
from runners.options.component import Component
from runners.options.kinds import option
from runners.options.shard import read_shard


@dataclass(kw_only=True, slots=True)
class RunnerOptions(Component):
    """Any workers; which ones, says the subclass.

    Attributes:
        num_workers: Processes; null for as many as there are devices.
        num_threads: Threads of torch in each; null for an equal share of the cores.
        hang_s: A worker that computes nothing for so many seconds is replaced.
        grace_s: Seconds that what is being computed may take after SIGTERM.
        shard: The part of the run that is answered, such as `2/8`; null for all of it.
    """

    choice: ClassVar[str] = "runner="
    num_workers: int | None = option(None, least=1)
    num_threads: int | None = option(None, least=1)
    hang_s: float = option(600.0, least=0)
    grace_s: float = option(25.0, least=0)
    shard: str | None = option(None, allowed="K/N, or null")

    def __post_init__(self) -> None:
        Component.__post_init__(self)  # slots leave `super()` without its class
        check_fields(self, "runner.")
        read_shard(self.shard)


@dataclass(kw_only=True, slots=True)
class LocalOptions(RunnerOptions):
    """Processes on this machine.

    Attributes:
        devices_per_worker: CUDA devices that hold one model together.
    """

    choice: ClassVar[str] = "runner=local"
    _target_: str = "runners.workers.pool.LocalWorkers"
    devices_per_worker: int = option(1, least=1)


@dataclass(kw_only=True, slots=True)
class RayOptions(RunnerOptions):
    """Actors on a Ray cluster.

    Attributes:
        address: The cluster, as `ray.init` takes it; null for `RAY_ADDRESS` or this machine.
        num_gpus: GPUs of an actor; null for one where the cluster has any.
        num_cpus: Cores of an actor.
        max_restarts: How often Ray starts a dead actor again; -1 for no limit.
    """

    choice: ClassVar[str] = "runner=ray"
    _target_: str = "runners.workers.ray.RayWorkers"
    address: str | None = None
    num_gpus: float | None = option(None, least=0)
    num_cpus: float = option(1.0, least=0)
    max_restarts: int = option(100, least=-1)


RUNNERS = (LocalOptions, RayOptions)
