"""Exact match, plain and after LLaVA's conversion for GQA.

Source of the conversion: haotian-liu/LLaVA @ c121f043, `convert_gqa_for_eval.py`.
"""

from __future__ import annotations


def convert_gqa(text: str) -> str:
    r"""The answer as the GQA script compares it: trailing periods gone, lower-cased, no more.

    >>> convert_gqa("Yes.."), convert_gqa(" A cup. "), convert_gqa("3.5")
    ('yes', ' a cup. ', '3.5')
    """
    return text.rstrip(".").lower()


def score_exact(answer: str, target: str) -> float:
    """1.0 if both texts are the same, else 0.0.

    >>> score_exact("cup", "cup"), score_exact("Cup", "cup")
    (1.0, 0.0)
    """
    return float(answer == target)
