"""What the programs expect of a worker, and a worker of an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from evals.records import Cause, Failure
from llava.generation.request import (
    Calibration,
    Completion,
    EngineReport,
    ImageProbe,
    Request,
    RequestFailure,
)
from runners.workers.messages import LoadModel, ModelLoaded, Ready

R = TypeVar("R", Completion, ImageProbe)


class Engine(Protocol):
    """Answers requests; one that fails becomes a failure and does not stop the others."""

    def run(self, requests: Sequence[Request]) -> Iterator[Completion | RequestFailure]:
        """Returns each result as soon as it is there."""

    def report(self) -> EngineReport:
        """Returns what the engine has done and measured since it was built."""

    def probe(self, request: Request) -> ImageProbe | RequestFailure:
        """Returns what a request's images do to the beginning of its answer."""

    def adopt(self, calibration: Calibration) -> None:
        """Has near ties decided by what all workers together, this one included, have measured."""


class Workers(Protocol):
    """Processes that hold the same model, here or on other machines.

    Attributes:
        grace_s: Seconds that work in flight may take once the run is to end.
    """

    grace_s: float

    @property
    def num_alive(self) -> int:
        """How many processes can answer or are about to."""

    def start(self, device: str | None) -> None:
        """Starts what can be started before the model is known; does not wait for it."""

    def wait_until_ready(self) -> Ready:
        """Returns what the first worker found once its imports are done."""

    def hash_weights(self, files: Mapping[str, Sequence[Path]]) -> Mapping[str, str]:
        """Has weight files hashed, before a model is built; returns hashes by role."""

    def load(self, order: LoadModel) -> ModelLoaded:
        """Has the model built and returns what the first worker loaded."""

    def probe(self, requests: Sequence[Request]) -> Sequence[ImageProbe | Failure]:
        """Has one worker find out what the images of some requests do to their answers."""

    def adopt(self, calibration: Calibration) -> None:
        """Has every worker decide near ties by what an earlier run measured."""

    def answer(self, items: Iterable[tuple[Request, ...]]) -> Iterator[Result | None]:
        """Yields a result a request, and None now and then while there is none.

        Args:
            items: Requests that are computed together, heaviest first; made when needed.
        """

    def stop(self) -> None:
        """Lets `answer` end once what is being computed is through."""

    def report(self) -> EngineReport:
        """Returns what all engines together have done."""

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one question.

    Attributes:
        result: The answer or the failure.
        worker: Who was asked; None where nobody was.
    """

    result: Completion | Failure
    worker: str | None


def from_engine(result: R | RequestFailure) -> R | Failure:
    """Returns what an engine gave, its failures as those that a run records."""
    if isinstance(result, RequestFailure):
        return Failure(key=result.key, cause=Cause(result.cause), message=result.message)
    return result
