"""An engine that goes on when a test wants it to; put into a worker with `engine=held`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llava.generation.packed import PackedEngine
from llava.generation.request import Completion, Request, RequestFailure


class HeldEngine(PackedEngine):
    """The packed engine, which goes on with an item only when it may.

    Args:
        parts: Of `PackedEngine`.
        num_before: So many answers of the item come at once.
        go: The others come once this file is there.
        options: Of `PackedEngine`.
    """

    def __init__(self, *parts: Any, num_before: int, go: str, **options: Any) -> None:
        super().__init__(*parts, **options)
        self._num_before = num_before
        self._go = Path(go)

    def run(self, requests: Sequence[Request]) -> Iterator[Completion | RequestFailure]:
        """As the packed engine does, with a pause."""
        results = super().run(requests)
        yield from islice(results, self._num_before)
        while not self._go.exists():
            time.sleep(0.02)
        yield from results
