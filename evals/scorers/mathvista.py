"""MathVista: what an answer says, in the form in which the target is written.

Source: lupantech/MathVista @ 53d52587, `evaluation/extract_answer.py`, `calculate_score.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import NamedTuple

from evals.scorers.edit_distance import edit_distance

_BRACKETED = re.compile(r"\(([a-zA-Z])\)")


class AnswerForm(NamedTuple):
    """How the answer to a question is to look.

    Attributes:
        kind: `text`, `integer`, `float` or `list`.
        choices: The texts of the choices; empty where there are none.
        precision: The number of decimals of a float.
    """

    kind: str
    choices: Sequence[str] = ()
    precision: int = 0


def read_directly(text: str, form: AnswerForm) -> str | None:
    """What is extracted from an answer without a judge; None if that takes one.

    >>> read_directly("1_000", AnswerForm("integer")), read_directly("12.0", AnswerForm("integer"))
    ('1000', None)
    >>> read_directly("No", AnswerForm("text", ["A", "No"])), read_directly("", AnswerForm("list"))
    ('No', '')
    """
    if not text or text in form.choices:
        return text
    try:
        if form.kind == "integer":
            return str(int(text))
        if form.kind == "float":
            return str(float(text))
    except ValueError:
        return None
    return None


def normalize_extraction(extraction: str, form: AnswerForm) -> str | None:
    """What was extracted as targets are written, None if it is no number where one is asked for.

    Where there are choices it is always one of them, at worst the one that is spelled most alike.

    >>> choices = AnswerForm("text", ["Yes", "No"])
    >>> normalize_extraction("It is (b).", choices), normalize_extraction("B", choices)
    ('No', 'No')
    >>> normalize_extraction("Nope", choices), normalize_extraction("", choices)
    ('No', 'No')
    >>> normalize_extraction("12.9", AnswerForm("integer"))
    '12'
    >>> normalize_extraction("2.50", AnswerForm("float", precision=2))
    '2.5'
    >>> normalize_extraction("1,000", AnswerForm("integer")) is None
    True
    """
    if form.choices:
        return _nearest_choice(extraction.strip(), form.choices)
    try:
        if form.kind == "integer":
            return str(int(float(extraction)))
        if form.kind == "float":
            return str(round(float(extraction), form.precision))
    except (ValueError, OverflowError):  # OverflowError: infinity is no whole number
        return None
    return extraction


def _nearest_choice(extraction: str, choices: Sequence[str]) -> str:
    if found := _BRACKETED.search(extraction):
        extraction = found[1].upper()
    letters = ascii_uppercase[: len(choices)]
    if len(extraction) == 1 and extraction in letters:
        return choices[letters.index(extraction)]
    return min(choices, key=lambda choice: edit_distance(extraction, choice))
