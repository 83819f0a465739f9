"""What the passes of one pack took, counted without waiting for the device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from llava.generation.request import EngineReport, Stage

Shapes = set[tuple[int, int, int, bool]]
"""Sizes of attention: rows, new tokens, slots that they see, whether a mask of its own."""


class PackMeter:
    """Counts the passes of one pack by stage: encode, prefix, suffix, decode.

    On CUDA the seconds are the device's own, between events in its stream; they are read once the
    pack's last tokens have come to the host, when nothing is left to wait for. Of layers on several
    devices it is the first one's. Elsewhere they are the host's.

    Args:
        device: On which the pack is computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._shapes: Shapes = set()
        self._passes = Stage()
        self._stages: list[tuple[str, Stage]] = []
        self._marks = [self._now()]

    def count_pass(
        self, new: Sequence[int], num_slots: int, num_useful: int, *, masked: bool
    ) -> None:
        """Counts one pass through the language model, in the stage that ends next.

        Args:
            new: Rows, and tokens of a row, padding included.
            num_slots: Cache slots of a row behind which they are put.
            num_useful: How many of the tokens are no padding.
            masked: Whether attention has a mask of its own.
        """
        num_rows, num_new = new
        self._passes += Stage(num_computed=num_rows * num_new, num_useful=num_useful)
        self._shapes.add((num_rows, num_new, num_slots + num_new, masked))

    def end_stage(self, name: str) -> None:
        """Ends a stage: what was counted since the last one ended is its own."""
        self._marks.append(self._now())
        self._stages.append((name, self._passes))
        self._passes = Stage()

    def add_to(self, report: EngineReport, shapes: Shapes) -> None:
        """Adds the pack to a report; `shapes` are all that the report's engine has met so far."""
        if self._device.type == "cuda":
            self._marks[-1].synchronize()
        for (name, passes), marks in zip(self._stages, pairwise(self._marks), strict=True):
            spent = Stage(seconds=self._seconds(*marks))
            setattr(report, name, getattr(report, name) + passes + spent)
        shapes |= self._shapes
        report.num_attention_shapes = len(shapes)

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _seconds(self, start: Any, end: Any) -> float:
        if self._device.type != "cuda":
            return float(end - start)
        return float(start.elapsed_time(end)) / 1000
