"""GQA's distribution score: how far the predicted answers of a group are from the true ones.

Source: the Stanford `eval.py` as in junayednaushad/Relation-Network-VQA @ 64f6c6a0.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable


def chi_square_distance(answers: Iterable[tuple[str, str, str | None]]) -> float | None:
    """The chi-square distance of predictions from targets, averaged over groups by size, / 100.

    Lower is better. A prediction that is no target of its group does not count.

    Args:
        answers: Group, target and prediction of each question; None for no prediction.

    Returns:
        None if there are no answers.

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
