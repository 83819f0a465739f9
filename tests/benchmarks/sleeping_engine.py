"""The packed engine on a device that only takes its time, for measuring what it waits for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from llava.generation.decoding import Question
from llava.generation.packed import PackedEngine
from llava.generation.plan import Pack
from llava.generation.preprocess import PreparedImage
from llava.generation.request import Completion, Request, RequestFailure


@dataclass(frozen=True, slots=True)
class SlowImage:
    """A gray image that takes a while to open, without taking a core."""

    key: str
    seconds: float

    def open(self) -> Image.Image:
        """Returns the image in RGB."""
        time.sleep(self.seconds)
        return Image.new("RGB", (48, 48), (127, 127, 127))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackTime:
    """When a pack was computed, by the monotonic clock, and what the worker had waited until then.

    Attributes:
        start: Its beginning.
        end: Its end.
        images_s: Seconds that all packs so far had to wait for images.
        items_s: Seconds that the engine had nothing to do.
    """

    start: float
    end: float
    images_s: float
    items_s: float


class SleepingEngine(PackedEngine):
    """Plans, opens images and answers as the packed engine, but sleeps instead of computing.

    Args:
        parts: Of `PackedEngine`.
        seconds_per_row: So long a pack takes for each of its rows.
        ahead: Whether images of the next item are opened meanwhile.
        log: A file that gets the `PackTime` of each pack, as JSON.
        options: Of `PackedEngine`.
    """

    def __init__(
        self, *parts: Any, seconds_per_row: float, ahead: bool, log: str, **options: Any
    ) -> None:
        super().__init__(*parts, **options)
        self._max_pass_tokens = None  # as on a GPU
        self._seconds_per_row = seconds_per_row
        self._is_ahead = ahead
        self._log = Path(log)
        self._items_s, self._ended = 0.0, time.monotonic()

    def run(self, requests: Sequence[Request]) -> Iterator[Completion | RequestFailure]:
        """As the packed engine does."""
        self._items_s += time.monotonic() - self._ended
        yield from super().run(requests)
        self._ended = time.monotonic()

    def prepare(self, requests: Sequence[Request]) -> None:
        """As the packed engine does, if it is to."""
        if self._is_ahead:
            super().prepare(requests)

    def _decode(self, pack: Pack, _: dict[str, PreparedImage]) -> list[Question]:
        start = time.monotonic()
        time.sleep(self._seconds_per_row * len(pack.rows))
        when = PackTime(
            start=start,
            end=time.monotonic(),
            images_s=self.stats.waited_s,
            items_s=self._items_s,
        )
        with self._log.open("a", encoding="utf-8") as log:
            print(json.dumps(asdict(when)), file=log)
        questions = self._questions(pack)
        for question in questions:
            question.tokens, question.margins, question.tops = [2], [9.0], [9.0]
        return questions
