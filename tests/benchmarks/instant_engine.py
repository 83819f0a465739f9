"""An engine that answers at once, for measuring everything else; put in with `engine=instant`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore

from llava.generation.calibration import Briefing
from llava.generation.request import Completion, EngineReport, ImageProbe, Request
from runners.options.engine import PackedOptions

ANSWERS = ("yes", "no", "red", "2", "on the left", "a wooden table")


@dataclass(kw_only=True, slots=True)
class InstantOptions(PackedOptions):
    """Options of `InstantEngine`; those of the packed engine stand there, and decide nothing.

    Attributes:
        pause_s: Seconds between two answers.
    """

    choice: ClassVar[str] = "engine=instant"
    _target_: str = "tests.benchmarks.instant_engine.InstantEngine"
    pause_s: float = 0.0


def register() -> None:
    """Makes the engine known to Hydra in this process."""
    ConfigStore.instance().store(group="engine", name="instant", node=InstantOptions)


class InstantEngine:
    """Answers without a look at images or model, as short as VQAv2 and GQA are answered."""

    max_tokens = None  # it has no packs

    def __init__(self, *, pause_s: float, **parts: Any) -> None:
        del parts
        self._pause_s = pause_s
        self._num_answered = 0

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Returns an answer a request."""
        for request in requests:
            self._num_answered += 1
            if self._pause_s:
                time.sleep(self._pause_s)
            yield completion(request)

    def prepare(self, requests: Sequence[Request]) -> None:
        """Prepares nothing."""

    def report(self) -> EngineReport:
        """Returns how many were answered."""
        return EngineReport(num_packed=self._num_answered)

    def probe(self, request: Request) -> ImageProbe:
        """Never called: there is no canary."""
        raise NotImplementedError(request.key)

    def brief(self, briefing: Briefing) -> None:
        """Has no near ties to decide."""


def completion(request: Request) -> Completion:
    """An answer of the size that answers have; the same for the same request."""
    draw = int(image_hash(request.key)[:8], 16)
    text = ANSWERS[draw % len(ANSWERS)]
    margins = tuple(draw / (place + 1) % 7 for place in range(3))
    return Completion(
        key=request.key,
        token_ids=(draw % 31999, 13, 2),
        text=text,
        finish_reason="stop",
        num_prompt_tokens=len(request.prompt_ids) + 575,
        min_margin=min(margins),
        latency_s=draw % 1000 / 997,
        image_sha256=tuple(image_hash(image.key) for image in request.images),
        margins=margins,
    )


@lru_cache(1024)
def image_hash(key: str) -> str:
    """What stands for the hash of an image's pixels."""
    return hashlib.sha256(key.encode()).hexdigest()
