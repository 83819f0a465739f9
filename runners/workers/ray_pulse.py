"""Finds out which actors of a Ray cluster compute nothing any more."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError

_CHECKS = 4


@dataclass(slots=True)
class _Watched:
    """An actor that has work.

    Attributes:
        actor: Its handle.
        asked: When it was last asked, by the monotonic clock.
        check: What it was asked; None if it has answered.
    """

    actor: Any
    asked: float = 0.0
    check: Any = None

    def ask(self) -> None:
        """Asks it how long it has been silent."""
        self.check = self.actor.silent_s.options(concurrency_group="pulse").remote()
        self.asked = time.monotonic()


class Pulse:
    """Asks actors that have work how long they have computed nothing.

    Args:
        hang_s: So long one may be silent.
    """

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
        except RayActorError:  # what it was computing tells the same
            self._there.discard(name)
            return False
        self.heard(name)
        return silent_s > self._hang_s
