"""Waiting for workers, which only measurements need."""

from __future__ import annotations

from runners.workers.pool import LocalWorkers


def wait_for_all(pool: LocalWorkers) -> None:
    """Waits until every worker has its model or is given up."""
    while any(slot.process is not None and not slot.is_loaded for slot in pool._slots):
        for _ in pool._hear_all():
            raise RuntimeError("There are results of work that was not dealt.")
