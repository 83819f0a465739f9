"""What the programs expect of workers and workers of engines; both are built from options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evals.records import Cause, Failure
from llava.errors import reason_of
from llava.generation.calibration import Briefing, Calibration
from llava.generation.request import (
    Completion,
    EngineReport,
    ImageProbe,
    Request,
    RequestFailure,
)
from runners.errors import ConfigError, WorkerError
from runners.options.engine import EngineOptions
from runners.options.runner import RunnerOptions
from runners.options.targets import locate
from runners.workers.loaded_files import Hashes, describe_other_files
from runners.workers.messages import LoadModel, ModelLoaded, Ready

R = TypeVar("R", Completion, ImageProbe)


class Engine(Protocol):
    """Answers requests; one that fails becomes a failure and does not stop the others."""

    @property
    def max_tokens(self) -> int | None:
        """Cache slots of a pack, which decide how much work it is given; None without packs."""

    def run(self, requests: Sequence[Request]) -> Iterator[Completion | RequestFailure]:
        """Returns each result as soon as it is there."""

    def prepare(self, requests: Sequence[Request]) -> None:
        """Begins to open images, in threads, of what will be run next; from any thread."""

    def report(self) -> EngineReport:
        """Returns what the engine has done and measured since it was built."""

    def probe(self, request: Request) -> ImageProbe | RequestFailure:
        """Returns what a request's images do to the beginning of its answer."""

    def brief(self, briefing: Briefing) -> None:
        """Has near ties decided by what is known of the run."""


class Workers(Protocol):
    """Processes that hold the same model, here or on other machines.

    Methods that wait for a worker raise WorkerError where none can be kept alive.

    Attributes:
        grace_s: Seconds that work in flight may take once the run is to end.
    """

    grace_s: float

    @property
    def num_alive(self) -> int:
        """How many processes can answer or are about to."""

    def start(self, device: str | None) -> None:
        """Starts what can be started before the model is known; does not wait for it.

        Raises:
            ConfigError: there is nothing to start workers on.
        """

    def wait_until_ready(self) -> Ready:
        """Returns what the first worker found once its imports are done.

        Raises:
            ConfigError: a device does not exist.
        """

    def hash_weights(self, files: Mapping[str, Sequence[Path]]) -> Mapping[str, str]:
        """Has weight files hashed, before a model is built; returns hashes by role.

        Raises:
            ConfigError: a file cannot be read.
        """

    def load(self, order: LoadModel) -> ModelLoaded:
        """Has the model built and returns what the first worker loaded.

        Raises:
            ConfigError: the model cannot be built from the checkpoint.
            CheckpointError: the checkpoint is broken.
        """

    def probe(self, requests: Sequence[Request]) -> Sequence[ImageProbe | Failure]:
        """Has one worker find out what the images of some requests do to their answers."""

    def brief(self, num_questions: int, known: Calibration) -> None:
        """Has every worker decide near ties for a run of so many questions.

        Args:
            num_questions: Of the whole run, those that an earlier session answered among them.
            known: What an earlier session of the run has seen of near ties.
        """

    def answer(self, items: Iterable[tuple[Request, ...]]) -> Iterator[Result | None]:
        """Yields a result a request, and None now and then while there is none.

        Args:
            items: Requests that are computed together, heaviest first; made when needed.

        Raises:
            WorkerError: no worker is left, or one loaded other files than the first.
        """

    def stop(self) -> None:
        """Lets `answer` end once what is being computed is through."""

    def report(self) -> EngineReport:
        """Returns what all engines together have done."""

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one question; `worker` is who was asked, None where nobody was."""

    result: Completion | Failure
    worker: str | None


def from_engine(result: R | RequestFailure) -> R | Failure:
    """Returns what an engine gave, its failures as those that a run records."""
    if isinstance(result, RequestFailure):
        return Failure(key=result.key, cause=Cause(result.cause), message=result.message)
    return result


def build_workers(runner: RunnerOptions) -> Workers:
    """Returns the workers that the options describe, not started.

    Raises:
        ConfigError: a package that they need is not installed.
    """
    options = runner.to_json()
    del options["shard"]  # decides which questions there are, not who answers them
    workers: Workers = locate(str(options.pop("_target_")))(**options)
    return workers


def build_engine(engine: EngineOptions, **parts: Any) -> Engine:
    """Returns the engine that options describe, around a loaded model.

    `parts` are its tokenizer, model, image processor, context length and conversation template.

    Raises:
        ConfigError: the options do not go with the model.
    """
    options = engine.to_json()
    build = locate(str(options.pop("_target_")))
    try:
        built: Engine = build(**parts, **options)
    except ValueError as error:
        raise ConfigError(f"`engine` cannot be built: {reason_of(error)}.") from error
    return built


def require_same_files(worker: str, began: Hashes, found: Hashes) -> None:
    """Checks that a worker loaded what the run began with, in every file.

    Raises:
        WorkerError: it did not; the message names the files.
    """
    if other := describe_other_files(began, found):
        kind = "weights" if "weights of" in other else "files"
        raise WorkerError(
            f"{worker} found other {kind} than the run began with ({other}): the checkpoint was "
            "written to meanwhile, or differs between machines. What was answered is stored; begin "
            "a new run with run=NAME, or overwrite=true."
        )


_NOT_SUMMED = ("calibration", "threshold")


def merge_reports(reports: Sequence[EngineReport]) -> EngineReport:
    """Returns sums over engines that measured different questions; the largest threshold.

    >>> one = EngineReport(num_packed=3, threshold=0.5)
    >>> merged = merge_reports([one, EngineReport(num_packed=4)])
    >>> merged.num_packed, merged.threshold
    (7, 0.5)
    """
    calibration = Calibration()
    for report in reports:
        calibration = calibration.merged(report.calibration)
    thresholds = [report.threshold for report in reports if report.threshold is not None]
    all_reports = (EngineReport(), *reports)
    return EngineReport(
        calibration=calibration,
        threshold=max(thresholds, default=None),
        **{
            field.name: reduce(add, (getattr(report, field.name) for report in all_reports))
            for field in fields(EngineReport)
            if field.name not in _NOT_SUMMED
        },
    )
