"""VizWiz's second task: whether a question can be answered from its image at all.

Source: the VizWiz VQA evaluator as in TRI-ML/vlm-evaluation @ d9f58967. It turns labels and
confidences around, so that the positive class is "unanswerable".
"""

from __future__ import annotations

from collections.abc import Sequence

_THRESHOLD = 0.5  # the official one: more than this says "unanswerable"


def score_answerability(
    answerable: Sequence[int], confidences: Sequence[float]
) -> tuple[float, float]:
    """Average precision and F1 of finding the unanswerable questions.

    Average precision is without interpolation, questions of equal confidence taken together; F1 is
    that of the answers below one half.

    Args:
        answerable: 1 where the question can be answered, else 0.
        confidences: How sure the model is that it can, 0..1, in the same order.

    Raises:
        ValueError: the lengths differ, or no question is unanswerable.

    >>> score_answerability([0, 1, 0, 1], [0.1, 0.2, 0.6, 0.9])
    (0.8333333333333333, 0.5)
    """
    if len(answerable) != len(confidences) or all(answerable):
        raise ValueError(
            "`answerable` and `confidences` must be of one length and hold an unanswerable "
            f"question, but have {len(answerable)} and {len(confidences)} entries, "
            f"{len(answerable) - sum(map(bool, answerable))} of them unanswerable."
        )
    positive = [1 - label for label in answerable]
    scores = [1 - confidence for confidence in confidences]
    return _average_precision(positive, scores), _f1(positive, scores)


def _average_precision(positive: Sequence[int], scores: Sequence[float]) -> float:
    total, found, seen, area = sum(positive), 0, 0, 0.0
    # One step for all questions of equal confidence, or their order in the file would count.
    for threshold in sorted(set(scores), reverse=True):
        here = [label for label, score in zip(positive, scores, strict=True) if score == threshold]
        seen += len(here)
        found += sum(here)
        area += sum(here) / total * (found / seen)
    return area


def _f1(positive: Sequence[int], scores: Sequence[float]) -> float:
    predicted = [score > _THRESHOLD for score in scores]
    hits = sum(label and said for label, said in zip(positive, predicted, strict=True))
    return 2 * hits / (sum(positive) + sum(predicted))
