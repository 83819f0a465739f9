"""What own questions say beside what is asked: the right answer, and the groups they are in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.reading.questions import Question
from evals.scorers.choice import LETTERS
from evals.scorers.number import whole_number

_ALLOWED: Mapping[str, Sequence[str]] = {"yes_no": ("yes", "no"), "choice": tuple(LETTERS)}
_AS_WRITTEN = ("contains", "regex")
"""Scorers to whose targets white space at the ends belongs."""


def read_target(line: Question, scorer: str) -> Any:
    """What the scorer of that name compares an answer with; None if nothing is scored.

    Raises:
        DataError: there is none, or the scorer cannot use it.
    """
    if scorer == "none":
        return None
    if scorer == "vqa_accuracy" or (scorer == "anls" and "answers" in line.fields):
        return _read_answers(line, 2 if scorer == "vqa_accuracy" else 1)
    target = _read_answer(line)
    if scorer not in _AS_WRITTEN:
        target = target.strip()
    if scorer == "numeric" and (number := whole_number(target)) is not None:
        return number
    if scorer == "yes_no":
        target = target.lower()
    if problem := _problem(target, scorer):
        raise DataError(
            f"{line.where}: the target must be {problem} for scorer={scorer}, but is {target!r}. "
            "Mend the line."
        )
    return [target] if scorer == "anls" else target


def _problem(target: str, scorer: str) -> str:
    """What a target must be that the scorer cannot use; empty if it can."""
    allowed = _ALLOWED.get(scorer)
    if allowed and target not in allowed:
        return f"one of {', '.join(allowed)}"
    if scorer == "numeric":
        return "a number"
    if not target.strip():  # an empty cell of a table; almost every answer holds it
        return "a text that is not blank"
    if scorer == "regex":
        try:
            re.compile(target)
        except re.error as error:
            return f"a regular expression ({error})"
    return ""


def _read_answer(line: Question) -> str:
    for name in ("answer", "label"):
        value = line.fields.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, float) and math.isfinite(value):  # what a table lacks is NaN
            return str(value)
    raise DataError(
        f"{line.where} lacks an `answer` (or `label`) that is a text or a number. Add it, or set "
        "tasks.custom.scorer=none."
    )


def _read_answers(line: Question, at_least: int) -> list[str]:
    """The answers of several people. By VQA's rule one of them alone is worth nothing."""
    answers = line.fields.get("answers")
    texts = answers if isinstance(answers, list) else []
    if not all(isinstance(text, str) for text in texts):
        texts = []
    if len(texts) < at_least or not any(text.strip() for text in texts):
        number = "one text" if at_least == 1 else "two texts"
        raise DataError(
            f"{line.where} lacks `answers`, a list of at least {number}, not all of them blank. "
            "Add it, or choose another tasks.custom.scorer."
        )
    return texts


def require_groups(path: Path, lines: Sequence[Question], fields: Sequence[str]) -> None:
    """Checks that each field that groups are made of is that of a question at least.

    Raises:
        DataError: no question has one of them.
    """
    known = list(dict.fromkeys(name for line in lines for name in line.fields))
    for field in fields:
        if known and field not in known:
            near = get_close_matches(field, known, n=1)
            raise DataError(
                f"{path}: no question has the field `{field}`, which `groups` names. "
                + (f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(known)}.")
            )


def read_group(line: Question, field: str) -> str | None:
    """The group that a field of a question puts it in; None, null or blank there, for no group.

    Raises:
        DataError: the field is missing, or holds what is no name of a group.
    """
    value = line.fields.get(field, [])
    if value is None or isinstance(value, str):
        return value if value and value.strip() else None
    if isinstance(value, int):  # true and false too
        return str(value).lower()
    raise DataError(
        f"{line.where}: `{field}`, which `groups` names, must be a text, a whole number, true, "
        "false, or null for no group. Mend the line."
    )
