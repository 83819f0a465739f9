"""The workers of this machine: one process a device, dealt work as they get free.

The parent hands out items heaviest first, and is told of every answer; the next ones are made while
the workers compute. A worker has one item more than it computes, so that it prepares the images of
that one meanwhile, as long as there is enough for all. It computes one after the other, so a killed
program loses at most one item a worker. A worker that dies, or says nothing for too long, is
replaced, and what it had goes back to the dealer. There is nothing that all workers wait for
together, so one of them cannot hold up the others.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

from evals.records import Cause, Failure
from llava.generation.calibration import Briefing, Calibration
from llava.generation.request import EngineReport, ImageProbe, Request
from runners.environment import num_cores
from runners.errors import ConfigError, RemoteError, WorkerError
from runners.options.include import included_folders
from runners.workers.briefing import add_seen, brief_each
from runners.workers.dealing import Dealer
from runners.workers.interface import Result, merge_reports, require_same_files
from runners.workers.loaded_files import Hashes
from runners.workers.local import LocalWorker
from runners.workers.messages import (
    Answered,
    BadInput,
    FromWorker,
    HashWeights,
    ImagesProbed,
    ItemDone,
    LoadModel,
    ModelLoaded,
    Ready,
    ToWorker,
    WeightsHashed,
)
from runners.workers.process import Seat
from runners.workers.slot import MAX_FAILED_LOADS, Slot

logger = logging.getLogger(__name__)

M = TypeVar("M", Ready, WeightsHashed, ModelLoaded, ImagesProbed)

_POLL_S = 0.2
_AHEAD = 2
"""Items that a worker has at most, the one that it computes counted."""


class LocalWorkers:
    """Spawned processes on this machine, each with the model on devices of its own.

    `start` returns at once, so that imports overlap with what the parent does next.

    Args:
        num_workers: Processes; None for one a device, or one on a CPU. More than there are devices
            share them.
        devices_per_worker: CUDA devices that hold one model together.
        num_threads: Threads of torch in each; None for an equal share of the cores.
        hang_s: A worker that has work and computes nothing for so long is taken for dead.
        grace_s: See `Workers`.
    """

    def __init__(
        self,
        *,
        num_workers: int | None = None,
        devices_per_worker: int = 1,
        num_threads: int | None = None,
        hang_s: float = 600.0,
        grace_s: float = 25.0,
    ) -> None:
        self.grace_s = grace_s
        self._num_workers = num_workers
        self._num_devices = devices_per_worker
        self._num_threads = num_threads
        if num_threads is None and num_workers is not None:
            self._num_threads = max(1, num_cores() // num_workers)
        self._hang_s = hang_s
        self._device: str | None = None
        self._slots: list[Slot] = []
        self._ready: Ready | None = None
        self._order: LoadModel | None = None
        self._files: Hashes | None = None
        self._briefing = Briefing()
        self._past = EngineReport()
        self._dealer = Dealer([])
        self._is_stopping = False

    @property
    def num_alive(self) -> int:
        """How many processes can answer or are about to."""
        return sum(slot.process is not None for slot in self._slots)

    def start(self, device: str | None) -> None:
        """Starts the workers whose number is known; does not wait for them."""
        if not self._slots:
            self._device = device
            self._add_slots(self._num_workers or 1)

    def wait_until_ready(self) -> Ready:
        """Returns what the first worker found once its imports are done."""
        if self._ready is None:
            self._ready = self._ask_first(Ready)
            if self._num_workers is None and self._device in (None, "cuda"):
                self._add_slots(max(1, self._ready.num_visible // self._num_devices))
        return self._ready

    def hash_weights(self, files: Mapping[str, Sequence[Path]]) -> Mapping[str, str]:
        """Has the first worker hash weight files; returns hashes by role."""
        self.wait_until_ready()
        order = HashWeights(files={role: tuple(paths) for role, paths in files.items()})
        return self._ask_first(WeightsHashed, order).hashes

    def load(self, order: LoadModel) -> ModelLoaded:
        """Has every worker build the model; returns what the first loaded, waiting for no other."""
        self.wait_until_ready()
        self._order = order
        for slot in self._slots:
            slot.send(order)
        loaded = self._ask_first(ModelLoaded)
        self._files = loaded.files
        self._bring_up(self._slots[0], loaded)
        return loaded

    def probe(self, requests: Sequence[Request]) -> Sequence[ImageProbe | Failure]:
        """Has the first worker find out what the images of some requests do to their answers.

        A request over which the worker dies is not tried again: it is the dealer's to find out.
        """
        return [self._probe(request) for request in requests]

    def brief(self, num_questions: int, known: Calibration) -> None:
        """Has every worker decide near ties for this run, whenever it is loaded."""
        self._briefing = brief_each(len(self._slots), num_questions, known)
        for slot in self._slots:
            self._brief(slot)

    def answer(self, items: Iterable[tuple[Request, ...]]) -> Iterator[Result | None]:
        """Yields a result a request, and None now and then while there is none."""
        self._dealer = Dealer(items)
        while True:
            for slot in self._slots:
                self._deal(slot)
            if not self._dealer.open and (self._is_stopping or self._dealer.is_through()):
                return
            if self.num_alive == 0:
                raise WorkerError(
                    "No worker process is left: each died again and again. What was answered is "
                    "stored; the same command goes on from there."
                )
            yield from self._hear_all()
            self._dealer.require_hope()
            yield None

    def stop(self) -> None:
        """Lets `answer` end once the items that are being computed are through."""
        self._is_stopping = True
        for slot in self._slots:
            while len(slot.items) > 1:
                self._dealer.give_back(slot.items.pop())

    def report(self) -> EngineReport:
        """Returns what all engines together have done, those of dead workers included."""
        return merge_reports([self._past, *(slot.report for slot in self._slots)])

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.kill()
                slot.process = None
        self._slots.clear()
        self._ready = None

    def _add_slots(self, up_to: int) -> None:
        for number in range(len(self._slots), up_to):
            seat = Seat(
                name=f"local-{number}",
                number=number,
                num_workers=up_to,
                device=self._device,
                num_devices=self._num_devices,
                num_threads=self._num_threads,
                include=included_folders(),
            )
            self._slots.append(Slot(seat, self._spawn(seat)))

    def _spawn(self, seat: Seat) -> LocalWorker:
        """A new process, in a method of its own so that a test can put something else there."""
        return LocalWorker(seat)

    def _probe(self, request: Request) -> ImageProbe | Failure:
        try:
            return self._ask_first(ImagesProbed, request, tries_again=False).probe
        except EOFError:
            message = "The worker process ended while it looked at the images."
            return Failure(key=request.key, cause=Cause.WORKER_DIED, message=message)

    def _take_note(self, slot: Slot, reply: FromWorker | None) -> None:
        """Deals with what the first worker says beside what it was asked, before there is work."""
        if isinstance(reply, BadInput):
            raise ConfigError(reply.message) from RemoteError(reply.traceback)
        if isinstance(reply, ModelLoaded) and self._files is not None:
            self._bring_up(slot, reply)

    def _ask_first(self, kind: type[M], *messages: ToWorker, tries_again: bool = True) -> M:
        """Asks the first worker alone, before there is work; one that dies is started again.

        Args:
            kind: What it is to answer with.
            messages: What is sent, behind the order to load a model if there is one.
            tries_again: Whether it is asked again then; otherwise EOFError is raised.
        """
        slot = self._slots[0]
        while True:
            slot.heard = time.monotonic()
            for message in messages:
                slot.send(message)
            try:
                while not isinstance(reply := slot.hear(_POLL_S, self._hang_s), kind):
                    self._take_note(slot, reply)
            except EOFError:
                self._replace_first(slot)
                if not tries_again:
                    raise
            else:
                return reply

    def _replace_first(self, slot: Slot) -> None:
        """Starts the first worker again, and has it load the model if one was ordered."""
        silent = slot.is_silent
        exited = slot.end(at_once=silent)
        cause = "was silent and killed" if silent else exited
        slot.failed_loads += 1
        if slot.failed_loads >= MAX_FAILED_LOADS:
            raise WorkerError(
                f"The worker process {cause} before it could answer anything, "
                f"{slot.failed_loads} times. The same command starts again."
            )
        logger.warning("worker %s %s and is started again", slot.seat.name, cause)
        self._start_again(slot)

    def _start_again(self, slot: Slot) -> None:
        slot.process = self._spawn(slot.seat)
        if self._order is not None:
            slot.send(self._order)

    def _deal(self, slot: Slot) -> None:
        """Gives a worker that has nothing to do the next item, and one ahead if it may have that.

        Not where there is too little for the others, nor where a worker has died: which item it
        died of would not be known.
        """
        if self._is_stopping or not slot.is_loaded:
            return
        for_others = _AHEAD * (len(self._slots) - 1)
        is_sound = not slot.deaths_since_answer and self._dealer.has_enough(for_others)
        while len(slot.items) < (_AHEAD if slot.items and is_sound else 1):
            if (item := self._dealer.take()) is None:
                return
            slot.items.append(item.number)
            slot.send(item)

    def _hear_all(self) -> Iterator[Result]:
        """Waits a moment for messages of any worker and deals with those that are there."""
        slots = {slot.process.connection: slot for slot in self._slots if slot.process is not None}
        is_making = not self._is_stopping and self._dealer.prepare(_AHEAD * len(slots))
        for connection in wait(list(slots), timeout=0 if is_making else _POLL_S):
            slot = slots[connection]  # type: ignore[index]
            try:
                yield from self._hear(slot)
            except EOFError:
                yield from self._bury(slot, hung=False)
        for slot in self._slots:
            if slot.is_hung(self._hang_s):
                yield from self._bury(slot, hung=True)

    def _hear(self, slot: Slot) -> Iterator[Result]:
        """Deals with all that one worker has said."""
        process = slot.process
        while process is not None and process.connection.poll():
            message = process.receive()
            slot.heard = time.monotonic()
            if isinstance(message, Answered):
                slot.note_answer()
                for result in message.results if slot.items else ():  # given back at the end
                    if self._dealer.answered(slot.items[0], result.key):
                        yield Result(result=result, worker=slot.seat.name)
            elif isinstance(message, ItemDone):
                yield from self._end_item(slot, message)
            elif isinstance(message, ModelLoaded):
                self._bring_up(slot, message)
            elif isinstance(message, BadInput):
                if slot.is_loaded:  # it is about what was asked, and would be so of every worker
                    raise ConfigError(message.message) from RemoteError(message.traceback)
                logger.error("%s: %s", slot.seat.name, message.message)

    def _end_item(self, slot: Slot, message: ItemDone) -> Iterator[Result]:
        slot.report = message.report
        self._brief(slot)
        if slot.items:  # else it was given back at the end
            for failure in self._dealer.done(slot.items.popleft()):
                yield Result(result=failure, worker=slot.seat.name)
        self._deal(slot)

    def _brief(self, slot: Slot) -> None:
        """Tells a worker what all of them know of near ties."""
        if slot.process is not None and slot.is_loaded:
            slot.process.send(add_seen(self._briefing, self.report().calibration))

    def _bring_up(self, slot: Slot, loaded: ModelLoaded) -> None:
        """A worker that is not the first, or that was replaced, has its model."""
        require_same_files(f"Worker {slot.seat.name}", self._files or {}, loaded.files)
        slot.is_loaded, slot.failed_loads = True, 0
        self._brief(slot)

    def _bury(self, slot: Slot, *, hung: bool) -> Iterator[Result]:
        """Takes a worker's work back and puts another process into its place."""
        was_loaded = slot.is_loaded
        cause, what = Cause.WORKER_DIED, slot.end(at_once=hung)
        if hung:
            cause = Cause.WORKER_HUNG
            what = f"computed nothing for {self._hang_s:.0f} s and was killed"
        logger.warning("worker %s %s", slot.seat.name, what)
        self._past, slot.report = merge_reports([self._past, slot.report]), EngineReport()
        failures = self._take_back(slot, cause, f"The worker process {what} over this question.")
        slot.note_death(was_loaded=was_loaded, found_culprit=bool(failures))
        yield from (Result(result=failure, worker=slot.seat.name) for failure in failures)
        if slot.is_hopeless(alone=self.num_alive == 0):
            logger.error("worker %s is given up; %d go on", slot.seat.name, self.num_alive)
        elif not self._is_stopping and self._order is not None:
            self._start_again(slot)

    def _take_back(self, slot: Slot, cause: Cause, message: str) -> list[Failure]:
        """Returns failures once a question was alone; what else there is is asked again."""
        numbers, slot.items = slot.items, deque()
        while numbers and (self._is_stopping or len(numbers) > 1):
            self._dealer.give_back(numbers.pop())
        return self._dealer.lost(numbers[0], cause, message) if numbers else []
