"""Average normalized Levenshtein similarity (ANLS), as DocVQA and InfographicVQA use it.

Source: `infographicsvqa_eval.py` of rrc.cvc.uab.es, as in QwenLM/Qwen-VL @ aa00ed04.
"""

from __future__ import annotations

from collections.abc import Sequence

from evals.records import Judgment, Sample
from evals.scorers.edit_distance import edit_distance

_THRESHOLD = 0.5


def score_anls(text: str, answers: Sequence[str]) -> Judgment:
    """The similarity to the nearest of the answers, 0 if it is below a half, and what was compared.

    Texts are compared in lower case with single blanks. Their length is that of the raw texts.

    Args:
        text: The model's answer.
        answers: The right ones; at least one.

    >>> score_anls("ab", ["abcd"]), score_anls("ab", ["abcde", "AB "]), score_anls("", [""])
    ((0.5, 'ab'), (1.0, 'ab'), (1.0, ''))
    >>> score_anls("A", ["abc", "b"])
    (0.0, 'a')
    """
    compared = _compared(text)
    score = 1 - min(_distance(text, compared, answer) for answer in answers)
    return (score if score >= _THRESHOLD else 0.0), compared


def judge_anls(text: str, question: Sample) -> Judgment:
    """The same for a question whose target is its right answers."""
    return score_anls(text, question.target)


def _compared(text: str) -> str:
    return " ".join(text.lower().split())


def _distance(text: str, compared: str, answer: str) -> float:
    """The edits as a share of the longer raw text, which may be longer in upper case."""
    length = max(len(text.upper()), len(answer.upper()))
    return edit_distance(compared, _compared(answer)) / length if length else 0.0
