"""What the programs expect of a worker, and a worker of an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from llava.generation.request import (
    Calibration,
    Completion,
    EngineReport,
    Request,
    RequestFailure,
)
from runners.workers.messages import FromWorker, LoadModel, ModelLoaded, Ready, ToWorker


class Engine(Protocol):
    """Answers requests; one that fails becomes a failure and does not stop the others."""

    def run(self, requests: Sequence[Request]) -> Iterator[Completion | RequestFailure]:
        """Returns each result as soon as it is there."""

    def report(self) -> EngineReport:
        """Returns what the engine has done and measured since it was built."""

    def adopt(self, calibration: Calibration) -> None:
        """Has near ties decided by what all workers together, this one included, have measured."""


class Worker(Protocol):
    """Holds a model in another process. Every method but `start` and `close` can find it dead."""

    def start(self, device: str | None) -> None:
        """Starts the process unless it runs already; does not wait for it."""

    def wait_until_ready(self) -> Ready:
        """Returns what the worker found once its imports are done."""

    def hash_weights(self, files: Mapping[str, Sequence[Path]]) -> Mapping[str, str]:
        """Has weight files hashed, before a model is built; returns hashes by role."""

    def load(self, order: LoadModel) -> ModelLoaded:
        """Has the model built and returns what was loaded."""

    def send(self, message: ToWorker) -> None:
        """Sends a message; never waits for the worker."""

    def receive(self, timeout_s: float) -> FromWorker | None:
        """Returns the next message, or None if none came in time."""

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
