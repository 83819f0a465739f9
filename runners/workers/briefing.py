"""What workers are told about the run that they take part in, so that they measure together."""

from __future__ import annotations

import math
from dataclasses import replace

from llava.generation.calibration import MEASURE_EVERY, NUM_MEASURED, Briefing, Calibration


def brief_each(num_workers: int, num_questions: int, known: Calibration) -> Briefing:
    """Returns what each of some workers is told at the beginning of a run.

    Args:
        num_workers: They measure together, at most one question in `MEASURE_EVERY`.
        num_questions: Of the run.
        known: What an earlier session has seen.
    """
    wanted = min(NUM_MEASURED, num_questions // MEASURE_EVERY) - known.num_measured
    share = math.ceil(max(0, wanted) / num_workers)
    return Briefing(num_questions=num_questions, num_to_measure=share, known=known)


def add_seen(briefing: Briefing, seen: Calibration) -> Briefing:
    """Returns the same with what all workers together have seen since."""
    return replace(briefing, known=briefing.known.merged(seen))
