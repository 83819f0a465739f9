"""What a Ray actor does: what a local worker process does, called instead of sent messages."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.records import Failure
from llava.generation.calibration import Briefing
from llava.generation.request import Completion, EngineReport, ImageProbe, Request
from runners.options.include import find_modules
from runners.workers.interface import from_engine
from runners.workers.loaded_files import Hashes
from runners.workers.messages import LoadModel, ModelLoaded, Ready, WorkItem
from runners.workers.process import Seat, prepare_process


class ModelActor:
    """Holds a model, if it is told which; Ray makes it anew with the same arguments.

    Args:
        seat: Device and threads.
        order: What to load; None for an actor that only looks around.
        folder: Working folder of the program, below which relative paths lie.
        environment: Variables of the program that decide where models and data are found.
    """

    def __init__(
        self, seat: Seat, order: LoadModel | None, folder: str, environment: Mapping[str, str]
    ) -> None:
        os.environ.update(environment)
        if Path(folder).is_dir():
            os.chdir(folder)
        find_modules(seat.include)
        self._seat = seat
        self._order = order
        self._engine: Any = None
        self._loaded: ModelLoaded | None = None
        self._beat()

    def prepare(self) -> Ready:
        """Returns what is there; raises ConfigError."""
        return prepare_process(self._seat)

    def hash_weights(self, files: Mapping[str, Sequence[Path]]) -> dict[str, str]:
        """Returns hashes of weight files by role."""
        from llava.content_hash import hash_weight_files

        return {role: hash_weight_files(paths) for role, paths in files.items()}

    def loaded(self) -> ModelLoaded:
        """Loads the model unless it is there; raises ConfigError and CheckpointError."""
        if self._loaded is None:
            if self._order is None:
                raise RuntimeError("This actor was given no model.")
            devices = self.prepare().devices
            from runners.workers.loading import load_engine

            self._engine, loaded = load_engine(self._order, devices, self._beat)
            self._rest()  # what came before was loading, which `silent_s` must not see
            self._loaded = loaded
        return self._loaded

    def silent_s(self) -> float:
        """Returns for how many seconds nothing was computed, while there is something to compute.

        Called beside everything else.
        """
        return 0.0 if self._loaded is None else max(0.0, time.monotonic() - self._heard)

    def probe(self, request: Request) -> ImageProbe | Failure:
        """See `Workers.probe`."""
        self.loaded()
        self._beat()
        probe: ImageProbe | Failure = from_engine(self._engine.probe(request))
        self._rest()
        return probe

    def answer(
        self, item: WorkItem, briefing: Briefing
    ) -> tuple[list[Completion | Failure], str, Hashes, EngineReport]:
        """Returns results, this process, what its model was loaded from, the engine's report."""
        loaded = self.loaded()
        self._beat()
        self._engine.brief(briefing)
        results = [from_engine(result) for result in self._engine.run(item.requests)]
        self._rest()
        process = f"{os.uname().nodename}:{os.getpid()}"
        return results, process, loaded.files, self._engine.report()

    def end(self) -> None:
        """Ends the process, for Ray to start it again; what is asked next finds a new one."""
        os._exit(1)

    def _beat(self) -> None:
        self._heard = time.monotonic()

    def _rest(self) -> None:
        self._heard = math.inf


def passed_on() -> dict[str, str]:
    """Returns environment variables that decide where models and data are found."""
    names = ("HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN", "XDG_CACHE_HOME")
    return {name: os.environ[name] for name in names if name in os.environ}
