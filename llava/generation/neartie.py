"""Which answers packing might have changed: those with a token that was nearly tied.

Packed and sequential arithmetic differ in the last bits. Where the two largest logits of a step
lie closer than these bits can move them, the answer is computed again, alone. In float32 the
distance is fixed. Where anything is computed in a shorter format it is measured by answering the
first questions in both ways: it is four times the largest change seen, or two steps of the format's
lattice at the logit, whichever is more; until then every answer is the sequential one. Several
workers measure together: each adopts what all of them have seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from llava.generation.devices import multiplies_in_tf32
from llava.generation.request import Calibration

FLOAT32_THRESHOLD = 1e-3
_SAFETY = 4.0
_LATTICE_STEPS = 2
REPLAYS = ("near_ties", "all", "off")
_LEAST_SCORE = -1e9  # of a token that sampling has ruled out


class NearTies:
    """Decides which answers are recomputed; `calibration` is what this process itself has measured.

    Args:
        dtype: The shortest format that anything is computed in; see `shortest_dtype`.
        replay: `near_ties`, `all` or `off`.
        threshold: Distance under which a token is nearly tied; None for the rule above.
    """

    def __init__(
        self, dtype: torch.dtype, *, replay: str = "near_ties", threshold: float | None = None
    ) -> None:
        if replay not in REPLAYS:
            raise ValueError(f"`replay` must be one of {', '.join(REPLAYS)}, but is {replay!r}.")
        self.replay = replay
        self._mantissa_bits = round(-math.log2(torch.finfo(dtype).eps))
        self._fixed = threshold
        if threshold is None and dtype is torch.float32:
            self._fixed = FLOAT32_THRESHOLD
        self.calibration = self._shared = Calibration()

    @property
    def is_calibrating(self) -> bool:
        """Whether answers still have to be given in both ways to measure the threshold."""
        measured = self.calibration.is_complete or self._shared.is_complete
        return self.replay == "near_ties" and self._fixed is None and not measured

    @property
    def threshold(self) -> float:
        """The distance in force, lattice steps not counted."""
        if self._fixed is not None:
            return self._fixed
        return _SAFETY * max(self.calibration.largest_change, self._shared.largest_change)

    def adopt(self, calibration: Calibration) -> None:
        """Decides from now on by what all workers have measured; a later call replaces it.

        This one's measurements are included: they stand beside its own and are never added to them.
        """
        self._shared = calibration

    def must_replay(self, margins: Sequence[float], tops: Sequence[float]) -> bool:
        """Whether an answer with these margins and largest logits, step by step, is recomputed."""
        if not all(map(math.isfinite, (*tops, *margins))):
            return True  # which numbers are lost may depend on what was computed beside them
        if self.replay != "near_ties":
            return self.replay == "all"
        if self.is_calibrating:
            return True
        return any(
            margin < self._threshold_at(top) for margin, top in zip(margins, tops, strict=True)
        )

    def measure(
        self,
        packed: tuple[Sequence[int], Sequence[float]],
        sequential: tuple[Sequence[int], Sequence[float]],
    ) -> None:
        """Learns from one question answered in both ways; each as its tokens and their margins."""
        changes = []
        for token, margin, other, other_margin in zip(*packed, *sequential, strict=False):
            same = token == other
            changes.append(abs(margin - other_margin) if same else margin + other_margin)
            if not same:
                break
        changes = list(filter(math.isfinite, changes))
        question = Calibration(num_questions=1, largest_change=max(changes, default=0.0))
        self.calibration = self.calibration.merged(question)

    def _threshold_at(self, top: float) -> float:
        if self._fixed is not None:
            return self._fixed
        exponent = math.floor(math.log2(abs(top))) if top else 0
        return max(self.threshold, _LATTICE_STEPS * 2.0 ** (exponent - self._mantissa_bits))


def shortest_dtype(model: Any) -> torch.dtype:
    """Returns the format with the fewest bits that a model and its tower compute in.

    Quantized weights are multiplied in a format of their own, int8 always in float16, and float32
    perhaps in TF32.
    """
    dtypes = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    quantization: Any = getattr(model.config, "quantization_config", None)
    if getattr(quantization, "load_in_8bit", False):
        dtypes.add(torch.float16)
    if getattr(quantization, "load_in_4bit", False):
        dtypes.add(quantization.bnb_4bit_compute_dtype)
    if multiplies_in_tf32():
        dtypes.add(torch.float16)  # which has as many bits
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)


def top_two(scores: torch.Tensor) -> tuple[list[int], list[float], list[float]]:
    """Returns the best token of each row of (N, V) scores, its score, and what the second is below.

    >>> top_two(torch.tensor([[1.0, 4.0, 2.5], [3.0, -torch.inf, -torch.inf]]))
    ([1, 0], [4.0, 3.0], [1.5, 1000000000.0])
    """
    scores = scores.float()
    tokens = scores.argmax(-1)  # the first of equals, as `generate` takes it
    values = scores.topk(2, dim=-1).values.clamp(min=_LEAST_SCORE)
    tops, seconds = values.unbind(-1)
    found = tokens.double(), tops.double(), (tops - seconds).double()
    rows = torch.stack(found).tolist()  # all that leaves a device, and it does so at once
    return [int(token) for token in rows[0]], rows[1], rows[2]
