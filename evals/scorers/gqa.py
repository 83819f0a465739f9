"""GQA's distribution and grounding scores.

Source: the Stanford `eval.py` as in junayednaushad/Relation-Network-VQA @ 64f6c6a0; of grounding
spatial attention only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as fractions of the image's width and height."""


def chi_square_distance(answers: Iterable[tuple[str, str, str | None]]) -> float | None:
    """The chi-square distance of predictions from targets, averaged over groups by size, / 100.

    Lower is better. `answers` are group, target and prediction of each question, None for no
    prediction; one that is no target of its group does not count. None if there are no answers.

    >>> chi_square_distance([("color", "red", "red"), ("color", "blue", "red")])
    0.02
    """
    targets: defaultdict[str, Counter[str]] = defaultdict(Counter)
    predicted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for group, target, prediction in answers:
        targets[group][target] += 1
        if prediction is not None:  # a missing answer is missing from its group as well
            predicted[group][prediction] += 1
    if not targets:
        return None
    weighted = 0.0
    for group, expected in targets.items():
        observed = predicted[group]
        distance = sum((observed[answer] - num) ** 2 / num for answer, num in expected.items())
        weighted += distance * expected.total()
    return weighted / sum(expected.total() for expected in targets.values()) / 100


def score_grounding(attention: Sequence[Sequence[float]], regions: Iterable[Box]) -> float:
    """The attention on each region, by the share of each cell that the region covers, summed.

    Args:
        attention: (N, N) weights of a square grid of cells; the first index runs along x.
        regions: The boxes of the question's objects; overlapping ones count as often.

    >>> score_grounding([[0.1, 0.2], [0.3, 0.4]], [(0.5, 0.0, 1.0, 0.5)])
    0.3
    """
    size = len(attention)
    total = 0.0
    for region in regions:
        for i, column in enumerate(attention):
            for j, weight in enumerate(column):
                cell = (i / size, j / size, (i + 1) / size, (j + 1) / size)
                total += weight * _overlap(cell, region) * size * size  # share of the cell
    return total


def _overlap(first: Box, second: Box) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)  # boxes apart have a negative width or height
