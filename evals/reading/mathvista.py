"""The wordings of MathVista's questions: the one of lmms-eval for short answers, and the official.

Sources: EvolvingLMMs-Lab/lmms-eval @ 30a07458 (v0.2.3); lupantech/MathVista @ 53d52587.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from types import NoneType
from typing import NamedTuple

from evals.errors import DataError
from evals.reading.files import require, require_texts
from evals.reading.questions import LETTER_SUFFIX, lettered_lines
from evals.scorers.mathvista import AnswerForm

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
_FREE = tuple(name for name in _HINTS if name != "choice")


class Target(NamedTuple):
    """The right answer, and how it is to look."""

    answer: str
    form: AnswerForm


def read_form(record: object, where: str) -> tuple[AnswerForm, str]:
    """How the answer to a question is to look, and what the question asks for.

    Raises:
        DataError: a field is missing, or the question asks for what none does.
    """
    question_type = require(record, "question_type", str, where)
    kind = require(record, "answer_type", str, where)
    precision = require(record, "precision", (int, float, NoneType), where)
    if question_type == "multi_choice":
        choices = require_texts(record, "choices", where)
        if choices:
            return AnswerForm(kind, choices), "choice"
        kind = "no choices"
    asked = f"{kind} {precision:g}" if kind == "float" and precision is not None else kind
    if question_type != "free_form" or asked not in _FREE:
        raise DataError(
            f"{where}: type and answer of a question must be multi_choice and one of its choices, "
            f"or free_form and one of {', '.join(_FREE)} (decimals), but are {question_type[:80]} "
            f"and {asked[:80]}. Fetch the file again."
        )
    return AnswerForm(kind, precision=int(precision or 0) if kind == "float" else 0), asked


def word_question(
    question: str, unit: str | None, choices: Sequence[str], kind: str, style: str
) -> str:
    r"""The text of a question, in one of the `STYLES`; `kind` is what it asks for.

    >>> word_question("How long?", "m", [], "integer", "format")
    'How long? (Unit: m)\nAnswer the question using a single integer number.'
    """
    asked = f"{question} (Unit: {unit})" if unit else question
    if style == "format":
        options = [lettered_lines(choices)] if choices else []
        return "\n".join([asked, *options, _SHORT_HINTS[kind]])
    options = [f"({x}) {text}" for x, text in zip(ascii_uppercase, choices, strict=False)]
    lines = [f"Question: {asked}", *(["Choices:", *options] if options else [])]
    lines.append(f"Hint: Please answer the question {_HINTS[kind]}, at the end.")
    return "\n".join([*lines, "Solution:"] if style == "solution" else lines)
