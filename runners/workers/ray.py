"""The same items on a Ray cluster: actors hold the model, results come back to the one writer.

Restarting actors and trying an item again is Ray's part; what fails twice is cut in halves here, as
with local workers. Work goes only to actors that have their model: some may wait for a place on the
cluster while the others compute. The cluster's machines need this package, the checkpoint and the
images under the same paths; results are written by the program alone.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from evals.records import Cause, Failure
from llava.generation.calibration import Briefing, Calibration
from llava.generation.request import EngineReport, ImageProbe, Request
from runners.errors import ConfigError, WorkerError
from runners.options.include import included_folders
from runners.workers.briefing import add_seen, brief_each
from runners.workers.dealing import Dealer
from runners.workers.interface import Result, merge_reports, require_same_files
from runners.workers.loaded_files import Hashes
from runners.workers.messages import LoadModel, ModelLoaded, Ready, WorkItem
from runners.workers.process import Seat
from runners.workers.ray_actor import ModelActor, passed_on

try:
    import ray
    from ray.exceptions import ActorDiedError, RayError, RayTaskError

    from runners.workers.ray_pulse import PlaceWatch, Pulse, describe_failure, is_started_again
except ImportError as error:
    raise ConfigError(
        "runner=ray needs Ray, which is not installed. Install it with `pip install "
        '"llava-evals[ray]"`, or leave out runner=ray.'
    ) from error

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_LOAD_RETRIES = 2  # by Ray, of an actor that dies while it loads


class RayWorkers:
    """An actor pool on an existing cluster, or on this machine if there is none.

    Args:
        address: Of the cluster, as `ray.init` takes it; None for `RAY_ADDRESS` or this machine.
        num_workers: Actors; None for as many as the cluster's GPUs hold, or one without GPUs. What
            has no place there waits for one.
        num_gpus: GPUs of an actor; None for one where the cluster has any.
        num_cpus: Cores of an actor.
        num_threads: Threads of torch in each; None for `num_cpus`.
        max_restarts: How often Ray starts a dead actor again.
        hang_s: An actor that has work and computes nothing for so long is killed, for Ray to start
            it again. So is one that Ray finds no place for any more, for good.
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
        self._loading: dict[Any, str] = {}
        self._idle: list[str] = []
        self._reports: dict[str, EngineReport] = {}
        self._briefing = Briefing()
        self._ready: Ready | None = None
        self._loaded: dict[str, ModelLoaded] = {}
        self._order: LoadModel | None = None
        self._files: Hashes | None = None
        self._is_stopping = False

    @property
    def num_alive(self) -> int:
        """How many actors there are."""
        return len(self._actors)

    def start(self, device: str | None) -> None:
        """Connects to the cluster and starts one actor."""
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
        self._add_actor("ray-0")

    def wait_until_ready(self) -> Ready:
        """Returns what the first actor found."""
        if self._ready is None:
            self._ready = self._call("prepare")
        return self._ready

    def hash_weights(self, files: Mapping[str, Sequence[Path]]) -> Mapping[str, str]:
        """Has weight files hashed on the cluster; returns hashes by role."""
        hashes: Mapping[str, str] = self._call("hash_weights", dict(files))
        return hashes

    def load(self, order: LoadModel) -> ModelLoaded:
        """Starts all actors with the model; returns what the first that has it loaded."""
        self._drop_actors()  # an actor that Ray starts again must find its order
        self._files = None
        self._order = order
        for number in range(self._num_workers or self._room()):
            self._add_actor(f"ray-{number}")
        for name in self._actors:
            self._bring_up(name)
        self._wait_for_idle()
        return self._loaded[self._idle[0]]

    def probe(self, requests: Sequence[Request]) -> Sequence[ImageProbe | Failure]:
        """Has an actor find out what the images of some requests do to their answers."""
        return tuple(map(self._probe, requests))

    def brief(self, num_questions: int, known: Calibration) -> None:
        """Has near ties of every item from now on decided for this run."""
        self._briefing = brief_each(max(1, self.num_alive), num_questions, known)

    def answer(self, items: Iterable[tuple[Request, ...]]) -> Iterator[Result | None]:
        """Yields a result a request, item by item, and None now and then while there is none."""
        dealer = Dealer(items, max_deaths=1)  # an item has been tried again before it is lost
        self._orphaned.clear()  # keys are unique within a task
        busy: dict[Any, tuple[str, WorkItem]] = {}
        while True:
            busy.update(self._deal(dealer))
            if not busy and (self._is_stopping or dealer.is_through()):
                return
            done, _ = ray.wait([*busy, *self._loading], timeout=_POLL_S)
            for task in done:
                if task in busy:
                    yield from self._collect(task, *busy.pop(task), dealer)
                else:
                    self._arrive(task)
            self._end_hung()
            dealer.require_hope()
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

    def _bring_up(self, name: str) -> None:
        """Has an actor load its model, once it has a place on the cluster."""
        load = self._actors[name].loaded.options(max_task_retries=_LOAD_RETRIES)
        self._loading[load.remote()] = name

    def _arrive(self, task: Any) -> None:
        """An actor has its model and can be given work, or it is given up."""
        name = self._loading.pop(task)
        try:
            loaded: ModelLoaded = ray.get(task)
        except RayError as error:
            self._lose(name, error)
            return
        if self._files is None:
            self._files = loaded.files
        require_same_files(name, self._files, loaded.files)
        self._loaded[name] = loaded
        self._pulse.heard(name)
        self._idle.append(name)

    def _wait_for_idle(self) -> None:
        """Waits, as long as it takes, until there is an actor to give work to."""
        watch = self._watch_for_places()
        while not self._idle:
            done, _ = ray.wait(list(self._loading), timeout=_POLL_S)
            for task in done:
                self._arrive(task)
            watch.tick()

    def _probe(self, request: Request) -> ImageProbe | Failure:
        self._wait_for_idle()
        name = self._idle.pop(0)
        task = self._actors[name].probe.remote(request)
        self._pulse.watch(name, self._actors[name])
        while not ray.wait([task], timeout=_POLL_S)[0]:
            self._end_hung()
        try:
            probe: ImageProbe | Failure = ray.get(task)
        except RayError as error:
            self._recover(name, error)
            return Failure(
                key=request.key, cause=Cause.WORKER_DIED, message=describe_failure(error)
            )
        self._pulse.forget(name)
        self._idle.append(name)
        return probe

    def _deal(self, dealer: Dealer) -> Iterator[tuple[Any, tuple[str, WorkItem]]]:
        """Gives work to actors that have none; yields tasks with their actors and items."""
        while self._idle and not self._is_stopping and (item := dealer.take()) is not None:
            name = self._idle.pop(0)
            self._hung.discard(name)
            briefing = add_seen(self._briefing, self.report().calibration)
            task = self._actors[name].answer.remote(item, briefing)
            self._pulse.watch(name, self._actors[name])
            yield task, (name, item)

    def _collect(self, task: Any, name: str, item: WorkItem, dealer: Dealer) -> Iterator[Result]:
        """The results of one item, or what becomes of it without any."""
        try:
            results, process, files, report = ray.get(task)
        except RayError as error:
            for failure in self._take_back(item, name, dealer, error):
                yield Result(result=failure, worker=name)
            self._recover(name, error)
            return
        require_same_files(name, self._files or {}, files)
        self._pulse.forget(name)
        self._idle.append(name)
        self._reports[f"{name} {process}"] = report
        for result in results:
            if dealer.answered(item.number, result.key):
                yield Result(result=result, worker=name)
        for failure in dealer.done(item.number):
            yield Result(result=failure, worker=name)

    def _take_back(
        self, item: WorkItem, name: str, dealer: Dealer, error: RayError
    ) -> list[Failure]:
        """What becomes of an item over which an actor failed; failures if it was one question."""
        keys = {request.key for request in item.requests}
        if not (is_started_again(error) or keys <= self._orphaned):
            self._orphaned |= keys  # its machine may be gone; a second time it is suspect
            dealer.give_back(item.number)
            return []
        cause = Cause.WORKER_HUNG if name in self._hung else Cause.WORKER_DIED
        return dealer.lost(item.number, cause, f"{describe_failure(error)} It was tried twice.")

    def _recover(self, name: str, error: RayError) -> None:
        """Has an actor that failed over its work load again, or goes on without it."""
        self._pulse.forget(name, is_dead=True)
        if isinstance(error, ActorDiedError):
            self._lose(name, error)
            return
        logger.warning("actor %s is started again: %s", name, describe_failure(error))
        if isinstance(error, RayTaskError):  # an engine raises only if it is of no more use
            self._actors[name].end.options(max_task_retries=0).remote()
        self._bring_up(name)

    def _lose(self, name: str, error: RayError) -> None:
        """Goes on without an actor that cannot load or that Ray does not start again."""
        logger.error("actor %s is gone for good: %s", name, " ".join(str(error).split()))
        ray.kill(self._actors.pop(name), no_restart=True)
        if self._actors:
            return
        if not self._loaded and isinstance(error, RayTaskError):
            _raise_cause(error)
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
        for name in self._pulse.find_gone():  # its task ends with ActorDiedError
            logger.warning("actor %s has found no place to be started again and is given up", name)
            self._hung.discard(name)
            ray.kill(self._actors[name], no_restart=True)

    def _add_actor(self, name: str) -> None:
        device = self._device if self._gpus_each() else "cpu"
        seat = Seat(
            name=name,
            num_workers=actors_a_gpu(self._gpus_each()),
            device=device,
            num_threads=self._num_threads,
            include=included_folders(),
        )
        kind = ray.remote(
            num_gpus=self._gpus_each(),
            num_cpus=self._num_cpus,
            max_restarts=self._max_restarts,
            max_task_retries=1,
            concurrency_groups={"pulse": 1},
        )(ModelActor)
        self._actors[name] = kind.remote(seat, self._order, str(Path.cwd()), passed_on())

    def _drop_actors(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor, no_restart=True)
        self._actors.clear()
        self._loading.clear()
        self._loaded.clear()
        self._idle.clear()

    def _call(self, method: str, *arguments: Any) -> Any:
        """Asks the first actor and waits for it, before there is work."""
        first = next(iter(self._actors.values()))
        task = getattr(first, method).remote(*arguments)
        watch = self._watch_for_places()
        while not ray.wait([task], timeout=_POLL_S)[0]:
            watch.tick()
        try:
            return ray.get(task)
        except RayTaskError as error:
            _raise_cause(error)
        except RayError as error:
            raise WorkerError(f"An actor died before it could answer anything: {error}") from error

    def _watch_for_places(self) -> PlaceWatch:
        asked = f"{self._gpus_each():g} GPUs and {self._num_cpus:g} cores"
        return PlaceWatch(list(self._actors.values()), asked)

    def _gpus_each(self) -> float:
        if self._device == "cpu":
            return 0
        if self._num_gpus is not None:
            return self._num_gpus
        return 1 if ray.cluster_resources().get("GPU", 0) else 0

    def _room(self) -> int:
        """How many actors the cluster's GPUs hold."""
        gpus_each = self._gpus_each()
        if not gpus_each:
            return 1
        return max(1, int(ray.cluster_resources().get("GPU", 0) // gpus_each))


def actors_a_gpu(num_gpus: float) -> int:
    """Returns how many actors Ray puts on a GPU that ask for so many each; each sees it alone.

    >>> [actors_a_gpu(number) for number in (0, 0.1, 0.3, 0.5, 1, 2)]
    [1, 10, 3, 2, 1, 1]
    """
    return max(1, int(1 / (num_gpus or 1) + 1e-9))


def _raise_cause(error: RayTaskError) -> NoReturn:
    """Raises what was raised in an actor."""
    if isinstance(error.cause, Exception):
        raise error.cause from error
    raise error
