"""The course of the learning rate."""

from __future__ import annotations

import math

_LAST_SHARE = 0.02


def share_of_peak(step: int, num_steps: int, num_warmup_steps: int) -> float:
    """The learning rate of a step as a share of its peak: a short rise, then half a cosine.

    >>> [round(share_of_peak(step, 100, 10), 2) for step in (0, 9, 55, 100)]
    [0.1, 0.98, 0.43, 0.02]
    """
    rise = min(1.0, (step + 1) / num_warmup_steps)
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / num_steps)))
    return rise * (_LAST_SHARE + (1 - _LAST_SHARE) * fall)
