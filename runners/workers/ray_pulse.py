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
        asked: When it was last asked, or given the work, by the monotonic clock.
        check: What it was asked; None if it has answered.
        has_answered: Whether it has since it was given the work: then it is there, and not waiting
            for a place on the cluster.
    """

    actor: Any
    asked: float
    check: Any = None
    has_answered: bool = False


class Pulse:
    """Asks actors that have work how long they have computed nothing.

    Args:
        hang_s: So long one may be silent.
    """

    def __init__(self, hang_s: float) -> None:
        self._hang_s = hang_s
        self._watched: dict[str, _Watched] = {}

    def watch(self, name: str, actor: Any) -> None:
        """Notes that an actor was given work."""
        self._watched[name] = _Watched(actor, asked=time.monotonic())

    def forget(self, name: str) -> None:
        """Notes that the work is done, or its actor dead."""
        self._watched.pop(name, None)

    def find_hung(self) -> list[str]:
        """Returns the names of those that are silent for too long, and takes them for restarted."""
        hung = [name for name, watched in self._watched.items() if self._is_hung(watched)]
        for name in hung:
            self.watch(name, self._watched[name].actor)
        return hung

    def _is_hung(self, watched: _Watched) -> bool:
        waited_s = time.monotonic() - watched.asked
        if watched.check is None:
            if waited_s > self._hang_s / _CHECKS:
                method = watched.actor.silent_s.options(concurrency_group="pulse")
                watched.check, watched.asked = method.remote(), time.monotonic()
            return False
        if not ray.wait([watched.check], timeout=0)[0]:
            return watched.has_answered and waited_s > self._hang_s
        check, watched.check = watched.check, None
        try:
            silent_s: float = ray.get(check)
        except RayActorError:  # what it was computing tells the same
            return False
        watched.has_answered = True
        return silent_s > self._hang_s
