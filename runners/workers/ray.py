"""The same items on a Ray cluster: actors hold the model, results come back to the one writer.

Restarting actors and trying an item again is Ray's part; what fails twice is cut in halves here, as
with local workers. The cluster's machines need this package, the checkpoint and the images under
the same paths; results are written by the program alone.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llava.generation.request import (
    Calibration,
    EngineReport,
    ImageProbe,
    Request,
    RequestFailure,
)
from runners.errors import ConfigError, WorkerError
from runners.workers.dealing import Dealer
from runners.workers.interface import Result
from runners.workers.messages import LoadModel, ModelLoaded, Ready, WorkItem
from runners.workers.process import Seat
from runners.workers.ray_actor import ModelActor
from runners.workers.reports import merge_reports

try:
    import ray
    from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

    from runners.workers.ray_pulse import Pulse
except ImportError as error:
    raise ConfigError(
        "runner=ray needs Ray, which is not installed. Install it with `pip install "
        '"llava-evals[ray]"`, or leave out runner=ray.'
    ) from error

logger = logging.getLogger(__name__)

_POLL_S = 0.2


class RayWorkers:
    """An actor pool on an existing cluster, or on this machine if there is none.

    Args:
        address: Of the cluster, as `ray.init` takes it; None for `RAY_ADDRESS` or this machine.
        num_workers: Actors; None for as many as the cluster's GPUs hold, or one without GPUs.
        num_gpus: GPUs of an actor; None for one where the cluster has any.
        num_cpus: Cores of an actor.
        num_threads: Threads of torch in each; None for `num_cpus`.
        max_restarts: How often Ray starts a dead actor again.
        hang_s: An actor that has work and computes no layer for so long is killed, for Ray to start
            it again.
        grace_s: See `Workers`.
    """

    def __init__(  # noqa: PLR0913 - the options of `runner`
        self,
        *,
        address: str | None = None,
        num_workers: int | None = None,
        num_gpus: float | None = None,
        num_cpus: float = 1,
        num_threads: int | None = None,
        max_restarts: int = 100,
        hang_s: float = 600.0,
        grace_s: float = 25.0,
    ) -> None:
        self.grace_s = grace_s
        self._address = address
        self._num_workers = num_workers
        self._num_gpus = num_gpus
        self._num_cpus = num_cpus
        self._num_threads = num_threads or max(1, int(num_cpus))
        self._max_restarts = max_restarts
        self._pulse = Pulse(hang_s)
        self._hung: set[str] = set()
        self._orphaned: set[str] = set()
        self._device: str | None = None
        self._actors: dict[str, Any] = {}
        self._reports: dict[str, EngineReport] = {}
        self._calibration: Calibration | None = None
        self._ready: Ready | None = None
        self._content_hash: str | None = None
        self._is_stopping = False

    @property
    def num_alive(self) -> int:
        """How many actors there are."""
        return len(self._actors)

    def start(self, device: str | None) -> None:
        """Connects to the cluster and starts one actor.

        Raises:
            ConfigError: there is no cluster at the address.
        """
        if self._actors:
            return
        self._device = device
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level="warning")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"There is no Ray cluster at {self._address}: {error}") from error
        finally:
            for number, handler in handlers.items():  # the program's own know how to end a run
                signal.signal(number, handler)
        self._add_actor(0, None)

    def wait_until_ready(self) -> Ready:
        """Returns what the first actor found.

        Raises:
            ConfigError: a device does not exist.
            WorkerError: the actor died.
        """
        if self._ready is None:
            self._ready = self._call("prepare")
        return self._ready

    def hash_weights(self, files: Mapping[str, Sequence[Path]]) -> Mapping[str, str]:
        """Has weight files hashed on the cluster; returns hashes by role.

        Raises:
            WorkerError: the actor died.
        """
        hashes: Mapping[str, str] = self._call("hash_weights", dict(files))
        return hashes

    def load(self, order: LoadModel) -> ModelLoaded:
        """Starts all actors with the model; returns what the first loaded.

        Raises:
            ConfigError: the checkpoint cannot be loaded, or the cluster has no room for an actor.
            WorkerError: the actor died.
        """
        self._drop_actors()  # an actor that Ray starts again must find its order
        for number in range(self._num_workers or self._room()):
            self._add_actor(number, order)
        loaded: ModelLoaded = self._call("loaded")
        self._pulse.heard(next(iter(self._actors)))
        self._content_hash = loaded.report["content_hash"]
        return loaded

    def probe(self, requests: Sequence[Request]) -> Sequence[ImageProbe | RequestFailure]:
        """Has the first actor find out what the images of some requests do to their answers.

        Raises:
            WorkerError: the actor died.
        """
        probes: Sequence[ImageProbe | RequestFailure] = self._call("probe", tuple(requests))
        return probes

    def adopt(self, calibration: Calibration) -> None:
        """Has every item from now on decide near ties by what was measured."""
        self._calibration = calibration

    def answer(self, items: Iterable[tuple[Request, ...]]) -> Iterator[Result | None]:
        """Yields a result a request, item by item, and None now and then while there is none.

        Raises:
            WorkerError: an actor loaded other weights than the others, or no actor is left.
        """
        dealer = Dealer(items, max_deaths=1)  # Ray has tried each item again before it comes back
        idle, busy = list(self._actors), {}
        while True:
            while idle and not self._is_stopping and (item := dealer.take()) is not None:
                name = idle.pop(0)
                task = self._actors[name].answer.remote(item, self._calibration)
                busy[task] = (name, item)
                self._pulse.watch(name, self._actors[name])
            if not busy and (self._is_stopping or dealer.is_through()):
                return
            done, _ = ray.wait(list(busy), timeout=_POLL_S)
            for task in done:
                name, item = busy.pop(task)
                yield from self._collect(task, name, item, dealer)
                self._hung.discard(name)
                if name in self._actors:
                    idle.append(name)
            self._end_hung()
            yield None

    def stop(self) -> None:
        """Lets `answer` end once the items that are being computed are through."""
        self._is_stopping = True

    def report(self) -> EngineReport:
        """Returns what all engines together have done."""
        return merge_reports(list(self._reports.values()))

    def close(self) -> None:
        """Ends the actors and leaves the cluster."""
        if ray.is_initialized():
            self._drop_actors()
            ray.shutdown()

    def _collect(self, task: Any, name: str, item: WorkItem, dealer: Dealer) -> Iterator[Result]:
        """The results of one item, or what becomes of it without any."""
        try:
            results, process, content_hash, report = ray.get(task)
        except RayActorError as error:
            self._pulse.forget(name, is_dead=True)
            failure = self._take_back(item, name, dealer, error)
            if failure is not None:
                yield Result(result=failure, worker=name)
            if isinstance(error, ActorDiedError):
                self._lose(name, error)
            return
        except RayTaskError as error:
            raise WorkerError(f"{name} cannot answer: {error.cause}") from error
        if content_hash != self._content_hash:
            raise WorkerError(
                f"{name} found other weights than the run began with: the checkpoint was written "
                "to meanwhile, or differs between machines. What was answered is stored; begin a "
                "new run with run=NAME, or overwrite=true."
            )
        self._pulse.forget(name)
        self._reports[f"{name} {process}"] = report
        if self._calibration is None and self.report().calibration.is_complete:
            self._calibration = self.report().calibration
        for result in results:
            if dealer.answered(item.number, result.key):
                yield Result(result=result, worker=name)
        for failure in dealer.done(item.number):
            yield Result(result=failure, worker=name)

    def _take_back(
        self, item: WorkItem, name: str, dealer: Dealer, error: RayActorError
    ) -> RequestFailure | None:
        """What becomes of an item over which an actor died; a failure if it was one question."""
        first = item.requests[0].key
        if isinstance(error, ActorDiedError) and first not in self._orphaned:
            self._orphaned.add(first)  # its machine may be gone; a second time it is suspect
            dealer.give_back(item.number)
            return None
        cause = "worker_hung" if name in self._hung else "worker_died"
        message = f"{str(error).splitlines()[0]} Ray tried it twice."
        return dealer.lost(item.number, cause, message)

    def _lose(self, name: str, error: ActorDiedError) -> None:
        """Goes on without an actor that Ray does not start again."""
        del self._actors[name]
        logger.error("actor %s is gone for good: %s", name, " ".join(str(error).split()))
        if not self._actors:
            raise WorkerError(
                "No actor is left on the Ray cluster. What was answered is stored; the same "
                "command goes on."
            ) from error

    def _end_hung(self) -> None:
        """Kills actors that compute nothing; Ray starts them again and tries their items again."""
        for name in self._pulse.find_hung():
            logger.warning("actor %s computes nothing and is started again", name)
            self._hung.add(name)
            ray.kill(self._actors[name], no_restart=False)

    def _add_actor(self, number: int, order: LoadModel | None) -> None:
        name = f"ray-{number}"
        seat = Seat(name=name, device=self._actor_device(), num_threads=self._num_threads)
        kind = ray.remote(
            num_gpus=self._gpus_each(),
            num_cpus=self._num_cpus,
            max_restarts=self._max_restarts,
            max_task_retries=1,
            concurrency_groups={"pulse": 1},
        )(ModelActor)
        self._actors[name] = kind.remote(seat, order, str(Path.cwd()), dict(_passed_on()))

    def _drop_actors(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor, no_restart=True)
        self._actors.clear()

    def _call(self, method: str, *arguments: Any) -> Any:
        """Asks the first actor and waits for it, before there is work."""
        first = next(iter(self._actors.values()))
        try:
            return ray.get(getattr(first, method).remote(*arguments))
        except RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from error
            raise
        except RayActorError as error:
            raise WorkerError(f"An actor died before it could answer anything: {error}") from error

    def _gpus_each(self) -> float:
        if self._device == "cpu":
            return 0
        if self._num_gpus is not None:
            return self._num_gpus
        return 1 if ray.cluster_resources().get("GPU", 0) else 0

    def _actor_device(self) -> str | None:
        return self._device if self._gpus_each() else "cpu"

    def _room(self) -> int:
        """How many actors the cluster's GPUs hold."""
        gpus_each = self._gpus_each()
        if not gpus_each:
            return 1
        return max(1, int(ray.cluster_resources().get("GPU", 0) // gpus_each))


def _passed_on() -> Iterator[tuple[str, str]]:
    """Environment variables that decide where models and data are found."""
    for name in ("HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN", "XDG_CACHE_HOME"):
        if name in os.environ:
            yield name, os.environ[name]
