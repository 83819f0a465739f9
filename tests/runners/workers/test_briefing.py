"""Workers measure together how far packing moves margins."""

from __future__ import annotations

import pytest

from llava.generation.calibration import NUM_MEASURED, Calibration
from runners.workers.briefing import add_seen, brief_each


@pytest.mark.parametrize(
    ("num_workers", "num_questions", "measured_before", "share"),
    [
        (1, 9, 0, 0),
        (1, 46, 0, 2),
        (1, 1488, 0, 74),
        (8, 1_000_000, 0, 13),
        (2, 1_000_000, NUM_MEASURED, 0),
        (2, 1_000_000, 60, 20),
    ],
)
def test_workers_measure_together(
    num_workers: int, num_questions: int, measured_before: int, share: int
) -> None:
    known = Calibration(num_measured=measured_before)
    briefing = brief_each(num_workers, num_questions, known)
    assert briefing.num_to_measure == share
    assert briefing.num_questions == num_questions
    more = Calibration(num_measured=3, num_answers=7)
    assert add_seen(briefing, more).known == known.merged(more)
