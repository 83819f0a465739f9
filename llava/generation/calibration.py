"""How far packing moves the margin of a token, as measured, and what follows for a whole run.

A token changes where packing moves its margin, the distance of the two largest logits, by as much
as the margin is wide. So three things decide how many answers of a run may be expected to change:
how many tokens it writes, how narrow their margins are, and how far margins move. All are counted
in steps of the number format at the logit, for rounding moves a logit by whole steps.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EDGES = (0.0, *(2.0 ** (k / 2) for k in range(-2, 25)))
"""Lower edges, in steps, of the classes in which margins are counted."""

NUM_LARGEST = 32
"""So many of the largest changes are kept: the tail of their distribution is what counts."""

NUM_MEASURED = 100
"""So many questions a run are answered in both ways, just to measure."""

MEASURE_EVERY = 20
"""One question in so many is, until there are enough."""

MAX_EXPECTED_FLIPS = 0.01
"""So many answers of a run may be expected to stay changed, unless another number is asked for."""

_MIN_CHANGES = 50
_UNTOLD_QUESTIONS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What has been seen of margins, and of what packing does to them; all sizes in steps.

    Attributes:
        num_measured: Questions answered in both ways to measure, near ties not counted.
        num_changes: Tokens that have been compared, those of near ties included.
        largest_changes: The largest changes of a margin, in descending order.
        num_answers: Packed answers whose margins were counted.
        margins: How many tokens' margins lie between each edge and the next.
    """

    num_measured: int = 0
    num_changes: int = 0
    largest_changes: Sequence[float] = ()
    num_answers: int = 0
    margins: Sequence[int] = (0,) * len(EDGES)

    def __post_init__(self) -> None:
        if len(self.margins) != len(EDGES):
            raise ValueError(f"`margins` must hold {len(EDGES)} numbers, one a class.")

    def merged(self, other: Calibration) -> Calibration:
        """Returns what two processes that answered different questions know together.

        >>> a = Calibration(num_changes=3, largest_changes=(0.5, 0.25, 0.0))
        >>> a.merged(Calibration(num_changes=1, largest_changes=(0.375,))).largest_changes
        (0.5, 0.375, 0.25, 0.0)
        """
        changes = sorted((*self.largest_changes, *other.largest_changes), reverse=True)
        return Calibration(
            num_measured=self.num_measured + other.num_measured,
            num_changes=self.num_changes + other.num_changes,
            largest_changes=tuple(changes[:NUM_LARGEST]),
            num_answers=self.num_answers + other.num_answers,
            margins=tuple(map(sum, zip(self.margins, other.margins, strict=True))),
        )

    def scale(self, prior: float) -> float:
        """Returns the scale s, in steps, by which exp(-x / s) bounds the share of changes above x.

        The bound holds for every change that was seen, and for one of a whole step beside them.

        Args:
            prior: The scale that is taken while too little has been measured.
        """
        if self.num_changes < _MIN_CHANGES:
            return prior
        changes = sorted((*self.largest_changes, 1.0), reverse=True)
        tail = changes[: self.num_changes // 4]
        return max(x / math.log((self.num_changes + 1) / rank) for rank, x in enumerate(tail, 1))

    def threshold(self, num_questions: int, max_expected_flips: float, prior: float) -> float:
        """Returns the margin, in steps, below which answers have to be computed again.

        Above it fewer tokens than `max_expected_flips` may be expected to change in the whole run
        of `num_questions`. For `prior` see `scale`.
        """
        scale = self.scale(prior)
        to_come = num_questions / max(1, self.num_answers)  # for each that was seen
        expected, threshold = 0.0, math.inf
        for edge, number in zip(reversed(EDGES), reversed(self.margins), strict=True):
            # one more than were seen, for where none were some may come; half, for every other
            # change makes the margin wider
            expected += (number + 1) * to_come * math.exp(-edge / scale) / 2
            if expected > max_expected_flips:
                return threshold
            threshold = edge
        return threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Briefing:
    """What an engine is told about the run that it takes part in.

    Attributes:
        num_questions: How many the whole run asks.
        num_to_measure: How many this engine answers in both ways to measure.
        known: What all workers have measured so far, this one included.
    """

    num_questions: int = _UNTOLD_QUESTIONS
    num_to_measure: int = NUM_MEASURED
    known: Calibration = Calibration()


def count_margins(margins: Iterable[float]) -> Sequence[int]:
    """Returns how many margins, in steps, lie in each class.

    >>> count_margins([0.0, 0.25, 1.0, 3.0])[:8]
    (2, 0, 0, 1, 0, 0, 1, 0)
    """
    counts = [0] * len(EDGES)
    for margin in margins:
        counts[bisect_right(EDGES, margin) - 1] += 1
    return tuple(counts)
