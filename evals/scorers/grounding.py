"""GQA's grounding score: how much of the attention lies on the objects of a question.

Source: the Stanford `eval.py` as in junayednaushad/Relation-Network-VQA @ 64f6c6a0, spatial
attention only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as fractions of the image's width and height."""


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
