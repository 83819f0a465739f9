"""MMMU's tables: their places, and the question of a row.

The wording is that of EvolvingLMMs-Lab/lmms-eval @ 30a07458 (v0.2.3).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import replace
from string import ascii_uppercase
from typing import Any, NamedTuple

from evals.errors import DataError
from evals.reading.entries import question_about
from evals.reading.files import require
from evals.reading.hub import HubLocation, HubTable
from evals.reading.images import IMAGE_PLACEHOLDER
from evals.reading.questions import LETTER_SUFFIX, SHORT_ANSWER_SUFFIX, lettered_lines
from evals.records import Sample

DOMAINS: Mapping[str, str] = {
    subject: domain
    for domain, subjects in {
        "Art and Design": "Art Art_Theory Design Music",
        "Business": "Accounting Economics Finance Manage Marketing",
        "Science": "Biology Chemistry Geography Math Physics",
        "Health and Medicine": "Basic_Medical_Science Clinical_Medicine "
        "Diagnostics_and_Laboratory_Medicine Pharmacy Public_Health",
        "Humanities and Social Science": "History Literature Sociology Psychology",
        "Tech and Engineering": "Agriculture Architecture_and_Engineering Computer_Science "
        "Electronics Energy_and_Power Materials Mechanical_Engineering",
    }.items()
    for subject in subjects.split()
}
"""The domain of each subject, by its official name."""

_IMAGES = tuple(f"image_{number}" for number in range(1, 8))
_MARKER = re.compile(r"<image (\d+)>")
_ID = re.compile(r"[a-z]+_(\w+)_\d+")
_OPEN = ("open", "short-answer")  # the official answer file calls it the latter
_HIDDEN = "?"
"""The answer in a split whose answers are not public."""


class Details(NamedTuple):
    """What the answers to a question are read by.

    Attributes:
        subject: Its official name.
        options: The texts of the options by letter; empty for an open question.
        answer: The right answer as it stands in the table, where several are one text.
    """

    subject: str
    options: Mapping[str, str]
    answer: str


def table_of(split: str) -> HubLocation:
    """The table of a split, by the split's name on the hub; a folder a subject holds the same."""
    return HubLocation(
        repo="lmms-lab/MMMU",
        split=split,
        images=_IMAGES,
        patterns=(f"data/{split}-*.parquet", f"*/{split}-*.parquet"),
    )


def read_rows(table: HubTable, *, has_answers: bool) -> list[Sample]:
    """The questions of a table.

    The target is a letter, or the right answers to an open question; None where they are hidden.

    Raises:
        DataError: the table cannot be had, or a row is malformed.
    """
    return [
        _parse(row, place, table, number, has_answers=has_answers)
        for number, (place, row) in enumerate(table.rows)
    ]


def _parse(
    row: dict[str, Any], place: str, table: HubTable, number: int, *, has_answers: bool
) -> Sample:
    question_id, subject = _name(row, place)
    options = _options(row, place)
    lines = [require(row, "question", str, place)]
    lines += [lettered_lines(list(options.values()))] if options else []
    prompt = "\n".join([*lines, LETTER_SUFFIX if options else SHORT_ANSWER_SUFFIX])
    # What a prompt marks beyond the table's columns is asked for as well, and found missing.
    columns = sorted({f"image_{marked}" for marked in _MARKER.findall(prompt)})
    images = [table.image(number, f"{question_id}/{name}", column=name) for name in columns]
    answer = require(row, "answer", str, place)
    sample = question_about(
        images,
        question_id,
        prompt,
        target=_target(answer, options, place) if has_answers or answer != _HIDDEN else None,
        groups={
            "domain": DOMAINS[subject],
            "subject": subject,
            "question_type": "multiple-choice" if options else "open",
        },
        details=Details(subject, options, answer),
    )
    if len(images) < 2:  # one stands on a line of its own anyway
        return sample
    return replace(sample, text=" ".join([IMAGE_PLACEHOLDER] * len(images)) + f"\n{prompt}")


def _name(row: dict[str, Any], place: str) -> tuple[str, str]:
    """The id of a row, and the subject that it names."""
    question_id = require(row, "id", str, place)
    found = _ID.fullmatch(question_id)
    if found is None or found[1] not in DOMAINS:
        raise DataError(
            f"{place}: `id` must be a split, one of the {len(DOMAINS)} subjects and a number, such "
            f"as validation_Art_1, but is {question_id[:80]!r}. Fetch the data set again."
        )
    return question_id, found[1]


def _options(row: dict[str, Any], place: str) -> dict[str, str]:
    """The options by letter; none of an open question."""
    kind = require(row, "question_type", str, place)
    texts = _texts(require(row, "options", str, place), "options", place)
    is_choice = kind == "multiple-choice" and 0 < len(texts) <= len(ascii_uppercase)
    if not is_choice and (kind not in _OPEN or texts):
        raise DataError(
            f"{place} is a {kind[:80]!r} question with {len(texts)} options, but must be "
            f"multiple-choice with some, or {' or '.join(_OPEN)} with none. Fetch the data set "
            "again."
        )
    return dict(zip(ascii_uppercase, texts, strict=False))


def _target(answer: str, options: Mapping[str, str], place: str) -> str | list[str]:
    """The right letter, or the right answers to an open question."""
    if answer in options:
        return answer
    if options or not answer or answer == _HIDDEN:
        letters = ", ".join(options)
        raise DataError(
            f"{place}: `answer` must be {f'one of {letters}' if options else 'a text'}, but is "
            f"{answer[:80]!r}. Fetch the data set again."
        )
    return _texts(answer, "answer", place) if answer.startswith("[") else [answer]


def _texts(spelled: str, field: str, place: str) -> list[str]:
    """The texts in a list that is spelled as in Python."""
    try:
        texts = ast.literal_eval(spelled)
    except (ValueError, SyntaxError, RecursionError):
        texts = None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{place}: `{field}` must be a list of texts in Python's spelling, but is "
            f"{spelled[:80]!r}. Fetch the data set again."
        )
    return texts
