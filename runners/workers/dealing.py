"""Work items on their way: what is asked next, what is open, what a dead worker leaves behind.

A worker that dies takes the item that it was computing with it. What it had not answered is asked
again; if that ends a second worker, it is cut in halves until the question that does it is alone,
and that one becomes a failure. After a few of these in a row the largest rest comes first, as it
holds most of those that do no harm: many bad questions side by side do not keep the others from
being asked. Once a few questions about the same images have done it, the others about them are not
tried any more. Knows nothing of processes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from evals.records import Cause, Failure
from llava.generation.request import Request
from runners.errors import WorkerError
from runners.workers.messages import WorkItem

MAX_DEATHS = 2
MAX_POISONOUS = 3
"""So many questions about the same images may each end workers before the rest is given up."""
MAX_SUSPECTS = 8
"""With so many items over which workers died, the bad questions in them are found before new items
are begun: so each few deaths lead to an answer or a failure."""
MAX_FAILURES_IN_A_ROW = 128
"""So many questions that each end workers, without one answer in between, are not to blame."""


@dataclass(slots=True)
class _Item:
    """Requests that are dealt together; `waiting` holds what has not been answered, by key."""

    waiting: dict[str, Request]
    num_deaths: int


def _item(requests: Iterable[Request], num_deaths: int) -> _Item:
    return _Item({request.key: request for request in requests}, num_deaths)


@dataclass(slots=True)
class Dealer:
    """Deals every request until it is answered or fails.

    Args:
        items: Groups of requests, in the order in which they are to be dealt; made when needed.
        max_deaths: So many workers may die over an item before it is cut, and over a question that
            is alone.

    Attributes:
        open: Items that workers have, by number.
        num_failures_in_a_row: Questions that were found to end workers since the last answer.
    """

    items: Iterable[tuple[Request, ...]]
    max_deaths: int = MAX_DEATHS
    open: dict[int, _Item] = field(default_factory=dict)
    num_failures_in_a_row: int = 0
    _innocent: deque[_Item] = field(default_factory=deque)
    _suspect: deque[_Item] = field(default_factory=deque)
    _fresh: deque[tuple[Request, ...]] = field(default_factory=deque)
    _num_poisonous: Counter[tuple[str, ...]] = field(default_factory=Counter)
    _num_dealt: int = 0

    def __post_init__(self) -> None:
        self.items = iter(self.items)

    def take(self) -> WorkItem | None:
        """Returns the next item; None if nothing is left to deal for now.

        What was given back comes first, what a worker may have died of last.
        """
        item = self._next()
        if item is None:
            return None
        self._num_dealt += 1
        self.open[self._num_dealt] = item
        return WorkItem(number=self._num_dealt, requests=tuple(item.waiting.values()))

    def prepare(self, number: int) -> bool:
        """Makes one more item ahead of its turn, up to so many; returns whether it did."""
        if len(self._fresh) >= number:
            return False
        fresh = next(iter(self.items), None)
        if fresh is None:
            return False
        self._fresh.append(fresh)
        return True

    def has_enough(self, number: int) -> bool:
        """Whether so many items are made, and none is there that a worker may have died of."""
        return len(self._fresh) >= number and not (self._innocent or self._suspect)

    def require_hope(self) -> None:
        """Checks that it is still the questions that end workers, and not the machine.

        Raises:
            WorkerError: too many did so one after the other.
        """
        if self.num_failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise WorkerError(
                f"{self.num_failures_in_a_row} questions one after the other ended the worker that "
                "was asked, without one answer in between: look at the machine's memory, driver "
                "and disk before going on. What was answered is stored; the same command goes on "
                "from there and asks these questions last."
            )

    def is_through(self) -> bool:
        """Whether nothing is open and nothing is left to deal."""
        self.prepare(1)
        return not (self.open or self._fresh or self._innocent or self._suspect)

    def answered(self, number: int, key: str) -> bool:
        """Notes an answer; returns whether it was still open."""
        self.num_failures_in_a_row = 0
        return self.open[number].waiting.pop(key, None) is not None

    def done(self, number: int) -> list[Failure]:
        """Notes that no more answers of an item will come; returns what the engine left out."""
        return [
            Failure(key=key, cause=Cause.ERROR, message="The engine returned no answer.")
            for key in self.open.pop(number).waiting
        ]

    def give_back(self, number: int) -> None:
        """Takes an item back from a worker that is not under suspicion."""
        item = self.open.pop(number)
        if item.waiting:
            self._innocent.append(item)

    def lost(self, number: int, cause: Cause, message: str) -> list[Failure]:
        """Takes an item back over which a worker died; cause and message are those of a failure.

        Returns:
            The failure of a question that was alone, with those about the same images that are
            given up with it; none if the item's rest is asked again.
        """
        item = self.open.pop(number)
        item.num_deaths += 1
        requests = list(item.waiting.values())
        if not requests:
            return []
        if item.num_deaths < self.max_deaths:
            self._suspect.append(item)
        elif len(requests) == 1:
            failure = Failure(key=requests[0].key, cause=cause, message=message)
            given_up = self._give_up(_image_keys(requests[0]), cause)
            self.num_failures_in_a_row += 1
            if self.num_failures_in_a_row >= MAX_POISONOUS:
                self._suspect = deque(sorted(self._suspect, key=lambda item: -len(item.waiting)))
            return [failure, *given_up]
        else:
            middle = len(requests) // 2
            # one death more tells enough of a half; depth first, so that a culprit is soon alone
            for half in (requests[middle:], requests[:middle]):
                self._suspect.appendleft(_item(half, self.max_deaths - 1))
        return []

    def _give_up(self, images: tuple[str, ...], cause: Cause) -> list[Failure]:
        """Failures of what is left about images over which enough workers have died."""
        self._num_poisonous[images] += 1
        if not images or self._num_poisonous[images] < MAX_POISONOUS:
            return []
        message = (
            f"Not asked: {MAX_POISONOUS} other questions about the same image each ended worker "
            "processes."
        )
        given_up: list[str] = []
        for item in self._suspect:
            keys = [key for key, request in item.waiting.items() if _image_keys(request) == images]
            for key in keys:
                del item.waiting[key]
            given_up += keys
        self._suspect = deque(item for item in self._suspect if item.waiting)
        return [Failure(key=key, cause=cause, message=message) for key in given_up]

    def _next(self) -> _Item | None:
        if self._innocent:
            return self._innocent.popleft()
        if len(self._suspect) < MAX_SUSPECTS:
            self.prepare(1)
        if self._fresh and len(self._suspect) < MAX_SUSPECTS:
            return _item(self._fresh.popleft(), 0)
        return self._suspect.popleft() if self._suspect else None


def _image_keys(request: Request) -> tuple[str, ...]:
    return tuple(image.key for image in request.images)
