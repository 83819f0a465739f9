"""How actors of a Ray cluster fare: which compute nothing, have no place there, or have failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from runners.workers.slot import START_LIMIT_S

logger = logging.getLogger(__name__)

_CHECKS = 4
_FIRST_WARNING_S = 30.0
_NEXT_WARNING_S = 60.0


@dataclass(slots=True)
class _Watched:
    """An actor that has work.

    Attributes:
        asked: When it was last asked, by the monotonic clock.
        check: What it was asked; None if it has answered.
    """

    actor: Any
    asked: float = 0.0
    check: Any = None

    def ask(self) -> None:
        """Asks it how long it has been silent."""
        self.check, self.asked = _ask(self.actor), time.monotonic()


class Pulse:
    """Asks actors that have work how long they have computed nothing; over `hang_s` is too long."""

    def __init__(self, hang_s: float) -> None:
        self._hang_s = hang_s
        self._watched: dict[str, _Watched] = {}
        self._there: set[str] = set()  # not waiting for a place on the cluster

    def watch(self, name: str, actor: Any) -> None:
        """Notes that an actor was given work."""
        self._watched[name] = _Watched(actor)
        self._watched[name].ask()

    def heard(self, name: str) -> None:
        """Notes that an actor has answered something: it does not wait for a place any more."""
        self._there.add(name)

    def forget(self, name: str, *, is_dead: bool = False) -> None:
        """Notes that the work is through, or that its actor died over it."""
        del self._watched[name]
        (self._there.discard if is_dead else self._there.add)(name)

    def find_hung(self) -> list[str]:
        """Returns the names of those that are silent for too long, and takes them for restarted."""
        hung = [name for name, watched in self._watched.items() if self._is_hung(name, watched)]
        for name in hung:
            self._there.discard(name)
            self.watch(name, self._watched[name].actor)
        return hung

    def find_gone(self) -> list[str]:
        """Returns the names of those that were to be started again and are not, for too long."""
        gone = [name for name, watched in self._watched.items() if self._is_gone(name, watched)]
        for name in gone:
            self.watch(name, self._watched[name].actor)
        return gone

    def _is_gone(self, name: str, watched: _Watched) -> bool:
        waited_s = time.monotonic() - watched.asked
        is_unanswered = watched.check is not None and name not in self._there
        return is_unanswered and waited_s > max(self._hang_s, START_LIMIT_S)

    def _is_hung(self, name: str, watched: _Watched) -> bool:
        waited_s = time.monotonic() - watched.asked
        if watched.check is None:
            if waited_s > self._hang_s / _CHECKS:
                watched.ask()
            return False
        if not ray.wait([watched.check], timeout=0)[0]:
            return name in self._there and waited_s > self._hang_s
        check, watched.check = watched.check, None
        try:
            silent_s: float = ray.get(check)
        except RayError:  # what it was computing tells the same
            self._there.discard(name)
            return False
        self.heard(name)
        return silent_s > self._hang_s


class PlaceWatch:
    """Says now and then that none of some actors has a place on the cluster yet.

    Args:
        actors: Their handles.
        asked: What each of them asks for.
    """

    def __init__(self, actors: Sequence[Any], asked: str) -> None:
        self._signs = list(map(_ask, actors))
        self._asked = asked
        self._warn_at = time.monotonic() + _FIRST_WARNING_S

    def tick(self) -> None:
        """Says it if it is time to."""
        if time.monotonic() < self._warn_at:
            return
        self._warn_at = time.monotonic() + _NEXT_WARNING_S
        if ray.wait(self._signs, timeout=0)[0]:
            return
        resources = ray.cluster_resources()
        logger.warning(
            "still waiting for a place on the Ray cluster: an actor asks for %s, and all "
            "machines together have %g GPUs and %g cores, some of them perhaps in use. Add "
            "machines, or stop and ask for less with runner.num_gpus and runner.num_cpus.",
            self._asked,
            resources.get("GPU", 0),
            resources.get("CPU", 0),
        )


def _ask(actor: Any) -> Any:
    """Asks an actor how long it has been silent, beside everything else that it does."""
    return actor.silent_s.options(concurrency_group="pulse").remote()


def is_started_again(error: RayError) -> bool:
    """Whether an actor died of a task as often as Ray tries it, and Ray starts it once more."""
    return isinstance(error, RayActorError) and not isinstance(error, ActorDiedError)


def describe_failure(error: RayError) -> str:
    """Says in a sentence what ended a task."""
    if isinstance(error, RayTaskError):
        return f"The engine raised {type(error.cause).__name__}: {error.cause}."
    return str(error).partition("\n")[0]
