"""What tests and measurements do with workers that no program does."""

from __future__ import annotations

import os

from runners.workers.local import LocalWorker
from runners.workers.pool import LocalWorkers


def wait_for_all(pool: LocalWorkers) -> None:
    """Waits until every worker has its model or is given up."""
    while any(slot.process is not None and not slot.is_loaded for slot in pool._slots):
        for _ in pool._hear_all():
            raise RuntimeError("There are results of work that was not dealt.")


def pid_of(worker: LocalWorker) -> int:
    """Returns the number of a worker's process."""
    assert worker._process.pid is not None
    return worker._process.pid


def send_signal(worker: LocalWorker, number: int) -> None:
    """Sends a signal to a worker's process."""
    os.kill(pid_of(worker), number)
