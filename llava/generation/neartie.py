"""Which answers packing might have changed: those with a token that was nearly tied.

Packed and sequential arithmetic differ in the last bits. Where the two largest logits of a step
lie closer than these bits may move them, the answer is computed again, alone. How close is too
close follows from a bound on the number of answers of the whole run that may be expected to stay
changed, and from what has been seen of margins and their changes; see `Calibration`. Some questions
are answered in both ways to see that, and each near tie tells a little more. In float32 on a CPU
the distance is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from llava.generation.calibration import (
    MAX_EXPECTED_FLIPS,
    MEASURE_EVERY,
    NUM_LARGEST,
    Briefing,
    Calibration,
    count_margins,
)
from llava.generation.devices import multiplies_in_tf32
from llava.generation.request import Completion

FLOAT32_THRESHOLD = 1e-3
REPLAYS = ("near_ties", "all", "off")
_PRIOR_STEPS = 1.0
_PRIOR_STEPS_FLOAT32 = 64.0  # rounding of every layer reaches logits that are not rounded much
_LEAST_SCORE = -1e9  # of a token that is ruled out
_FROM_NOTHING = -_LEAST_SCORE / 2  # a margin of more is that of a token with no other beside it


class NearTies:
    """Decides which answers are recomputed; `calibration` is what this process itself has seen.

    Args:
        dtype: The shortest format that anything is computed in; see `shortest_dtype`.
        device_type: Where; `cpu` or `cuda`.
        replay: `near_ties`, `all` or `off`.
        threshold: Distance of logits under which a token is nearly tied; None for the rule above.
        max_expected_flips: So many answers of the run may be expected to stay changed at most.
        prior_steps: The scale of changes that is taken until it is known; None for what is usual
            in the format.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        *,
        device_type: str = "cpu",
        replay: str = "near_ties",
        threshold: float | None = None,
        max_expected_flips: float = MAX_EXPECTED_FLIPS,
        prior_steps: float | None = None,
    ) -> None:
        if replay not in REPLAYS:
            raise ValueError(f"`replay` must be one of {', '.join(REPLAYS)}, but is {replay!r}.")
        self.replay = replay
        self._eps = torch.finfo(dtype).eps
        usual = _PRIOR_STEPS_FLOAT32 if dtype is torch.float32 else _PRIOR_STEPS
        self._prior = usual if prior_steps is None else prior_steps
        self._fixed = threshold
        if threshold is None and dtype is torch.float32 and device_type == "cpu":
            self._fixed = FLOAT32_THRESHOLD
        self._max_expected_flips = max_expected_flips
        self._briefing = Briefing()
        self.calibration = Calibration()

    @property
    def measures(self) -> bool:
        """Whether the distance is measured, and not fixed or without use."""
        return self.replay == "near_ties" and self._fixed is None

    @property
    def threshold(self) -> float:
        """The distance in force: in logits where it is fixed, else in steps of the format."""
        if self._fixed is not None:
            return self._fixed
        known = max(
            self._briefing.known,  # this engine's included, as far as it was told of
            self.calibration,
            key=lambda each: (each.num_answers, each.num_changes),
        )
        return known.threshold(self._briefing.num_questions, self._max_expected_flips, self._prior)

    def brief(self, briefing: Briefing) -> None:
        """Decides from now on for this run, by what is known of it; a later call replaces it."""
        self._briefing = briefing

    def must_replay(self, margins: Sequence[float], tops: Sequence[float]) -> bool:
        """Whether an answer with these margins and largest logits, step by step, is recomputed."""
        if not all(map(math.isfinite, (*tops, *margins))):
            return True  # which numbers are lost may depend on what was computed beside them
        if self.replay != "near_ties":
            return self.replay == "all"
        distances = margins if self._fixed is not None else self._in_steps(margins, tops)
        return min(distances, default=math.inf) < self.threshold

    def note(self, margins: Sequence[float], tops: Sequence[float]) -> bool:
        """Counts the margins of a packed answer; returns whether to give it in both ways.

        That is for measuring alone, whether or not it `must_replay`.
        """
        seen = Calibration(num_answers=1, margins=count_margins(self._in_steps(margins, tops)))
        self.calibration = self.calibration.merged(seen)
        return (
            self.measures
            and self.calibration.num_answers % MEASURE_EVERY == 0
            and self.calibration.num_measured < self._briefing.num_to_measure
        )

    def measure(
        self, packed: Completion, tops: Sequence[float], alone: Completion, *, is_due: bool
    ) -> None:
        """Learns from one question answered in both ways.

        `tops` are the largest logits of the packed answer, step by step. It `is_due` where it was
        answered again just for this; see `note`.
        """
        changes = []
        both = zip(packed.token_ids, packed.margins, alone.token_ids, alone.margins, strict=False)
        for token, margin, other, other_margin in both:
            same = token == other
            change = abs(margin - other_margin) if same else margin + other_margin
            # beside a token that alone was left there is no distance that could change
            changes.append(change if max(margin, other_margin) < _FROM_NOTHING else math.inf)
            if not same:
                break
        steps = sorted(filter(math.isfinite, self._in_steps(changes, tops)), reverse=True)
        seen = Calibration(
            num_measured=int(is_due),
            num_changes=len(steps),
            largest_changes=tuple(steps[:NUM_LARGEST]),
        )
        self.calibration = self.calibration.merged(seen)

    def _in_steps(self, distances: Sequence[float], tops: Sequence[float]) -> list[float]:
        """Distances of logits in steps of the format at the largest logit.

        Where that is by chance near 0, where steps are tiny, a quarter of the answer's largest
        stands for it: what the layers before have rounded does not get smaller there.
        """
        least = max(map(abs, tops), default=0.0) / 4
        exponents = (math.frexp(max(abs(top), least))[1] - 1 for top in tops)
        return [
            distance / math.ldexp(self._eps, exponent)
            for distance, exponent in zip(distances, exponents, strict=False)
        ]


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


def near_ties_of(model: Any, autocast: torch.dtype | None = None, **options: Any) -> NearTies:
    """Returns what decides the near ties of a model.

    Args:
        model: A LLaVA or plain language model.
        autocast: What its matrices are multiplied in, where that is not the dtype of the weights.
        options: Those of `NearTies` that a user may set.
    """
    # With int8 weights the rounding of a token hangs on the others beside it, by how much cannot be
    # told before: at first every answer is computed again.
    quantization = getattr(model.config, "quantization_config", None)
    is_int8 = getattr(quantization, "load_in_8bit", False)
    return NearTies(
        autocast or shortest_dtype(model),
        device_type=model.device.type,
        prior_steps=math.inf if is_int8 else None,
        **options,
    )


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


def top_two_among(
    scores: torch.Tensor, choices: Sequence[tuple[int, ...]]
) -> tuple[list[int], list[float], list[float]]:
    """Returns the same where each row may be left a few choices only; none for all tokens.

    Best token and margin are those of the choices, the first of equals in their order. The score
    stays the largest of the whole row: it tells how much rounding may move any of them, and whether
    they are numbers.

    >>> top_two_among(torch.tensor([[1.0, 4.0, 2.5], [1.0, 4.0, 2.5]]), [(2, 0), ()])
    ([2, 1], [4.0, 4.0], [1.5, 1.5])
    """
    tokens, tops, margins = top_two(scores)
    rows = [row for row, few in enumerate(choices) if few]
    if not rows:
        return tokens, tops, margins
    width = max(2, *(len(choices[row]) for row in rows))
    padded = torch.tensor([[*choices[row], *[-1] * (width - len(choices[row]))] for row in rows])
    padded = padded.to(scores.device)
    among = scores[rows].float().gather(1, padded.clamp(min=0))
    among.masked_fill_(padded < 0, -torch.inf)
    places, _, distances = top_two(among)
    for row, place, distance in zip(rows, places, distances, strict=True):
        tokens[row], margins[row] = choices[row][place], distance
    return tokens, tops, margins
