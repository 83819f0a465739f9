"""The wordings of MathVista's questions: that of lmms-eval for short answers, and the official ones.

Sources: EvolvingLMMs-Lab/lmms-eval @ 30a07458 (v0.2.3); lupantech/MathVista @ 53d52587.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from evals.reading.questions import LETTER_SUFFIX

STYLES = ("format", "cot", "solution")
"""What the wordings are called: for a short answer, for a reasoned one, and for a solution."""

_DECIMALS = {1: "one decimal place", 2: "two decimal places"}
_SHORT_HINTS = {
    "choice": LETTER_SUFFIX.strip(),
    "integer": "Answer the question using a single integer number.",
    **{
        f"float {number}": f"Answer the question using a single floating-point number with {named}."
        for number, named in _DECIMALS.items()
    },
    "list": "Answer the question using a Python list.",
}
_HINTS = {
    "choice": "and provide the correct option letter, e.g., A, B, C, D",
    "integer": "requiring an integer answer and provide the final value, e.g., 1, 2, 3",
    "float 1": f"requiring a floating-point number with {_DECIMALS[1]} and provide the final "
    "value, e.g., 1.2, 1.3, 1.4",
    "float 2": f"requiring a floating-point number with {_DECIMALS[2]} and provide the final "
    "value, e.g., 1.23, 1.34, 1.45",
    "list": "requiring a Python list as an answer and provide the final list, e.g., [1, 2, 3], "
    "[1.2, 1.3, 1.4]",
}
KINDS = tuple(_HINTS)
"""What a question may ask for."""


def word_question(
    question: str, unit: str | None, choices: Sequence[str], kind: str, style: str
) -> str:
    r"""The text of a question, in one of the `STYLES`.

    >>> word_question("How long?", "m", [], "integer", "format")
    'How long? (Unit: m)\nAnswer the question using a single integer number.'
    """
    asked = f"{question} (Unit: {unit})" if unit else question
    if style == "format":
        options = [f"{x}. {text}" for x, text in zip(ascii_uppercase, choices, strict=False)]
        return "\n".join([asked, *options, _SHORT_HINTS[kind]])
    options = [f"({x}) {text}" for x, text in zip(ascii_uppercase, choices, strict=False)]
    lines = [f"Question: {asked}", *(["Choices:", *options] if options else [])]
    lines.append(f"Hint: Please answer the question {_HINTS[kind]}, at the end.")
    return "\n".join([*lines, "Solution:"] if style == "solution" else lines)
