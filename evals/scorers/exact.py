"""Exact match, plain, after LLaVA's conversion for GQA, and without case and punctuation.

Sources: haotian-liu/LLaVA @ c121f043, `convert_gqa_for_eval.py`; EvolvingLMMs-Lab/lmms-eval v0.2.3,
`exact_match_hf_evaluate`.
"""

from __future__ import annotations

import string

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def convert_gqa(text: str) -> str:
    r"""The answer as the GQA script compares it: trailing periods gone, lower-cased, no more.

    >>> convert_gqa("Yes.."), convert_gqa(" A cup. "), convert_gqa("3.5")
    ('yes', ' a cup. ', '3.5')
    """
    return text.rstrip(".").lower()


def bare_text(text: str) -> str:
    """The text in lower case without ASCII punctuation; blanks stay.

    >>> bare_text("(B)"), bare_text("B ."), bare_text("-1.5")
    ('b', 'b ', '15')
    """
    return text.lower().translate(_NO_PUNCTUATION)


def score_exact(answer: str, target: str) -> float:
    """1.0 if both texts are the same, else 0.0.

    >>> score_exact("cup", "cup"), score_exact("Cup", "cup")
    (1.0, 0.0)
    """
    return float(answer == target)
