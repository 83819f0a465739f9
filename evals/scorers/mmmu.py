"""MMMU: the letter of a multiple-choice answer, and whether an open answer is right.

Sources: MMMU-Benchmark/MMMU @ bb0b95a9, `eval_utils.py`; lmms-eval's reading of letters is
EvolvingLMMs-Lab/lmms-eval @ 30a07458 (v0.2.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

OFFICIAL_FORMS: Mapping[str, str] = {"({})": "({})", " {} ": " {} "}
"""How a letter may stand in an answer, first the form that counts; by which place several rank."""

LMMS_FORMS: Mapping[str, str] = {"({})": "({})", "{} ": " {} ", "{}.": " {} "}
"""The same in lmms-eval, which finds letters in one form and ranks them in another."""

_MARKS = ",.!?;:'"
_FEW_WORDS = 5  # a longer answer may name an option by its text
_CUES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = frozenset([*":,.!?;'", ""])
_NUMBERS = tuple(
    map(
        re.compile,
        (
            r"-?\b\d{1,3}(?:,\d{3})+\b",
            r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
            r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
        ),
    )
)


def read_letter(
    text: str, options: Mapping[str, str], forms: Mapping[str, str] = OFFICIAL_FORMS
) -> str | None:
    """The letter that an answer gives, None if none can be read.

    Args:
        text: The answer.
        options: The texts of the options by their letters.
        forms: See `OFFICIAL_FORMS`.

    >>> options = {"A": "a frog", "B": "a bird"}
    >>> read_letter("(A), not (B)", options), read_letter("A or B", options)
    ('B', 'B')
    >>> read_letter("A. a frog", options), read_letter("It is a frog that I see.", options)
    (None, 'A')
    >>> read_letter("A. a frog", options, LMMS_FORMS)
    'A'
    """
    for mark in _MARKS:
        text = text.strip(mark)
    text = f" {text} "
    for form, place in forms.items():
        if found := [letter for letter in options if form.format(letter) in text]:
            return _last(text, {letter: place.format(letter) for letter in found})
    if len(text.split()) <= _FEW_WORDS:
        return None
    text = text.lower()
    named = {letter: option.lower() for letter, option in options.items()}
    return _last(text, {letter: option for letter, option in named.items() if option in text})


def _last(text: str, places: Mapping[str, str]) -> str | None:
    """The letter whose text stands last, of equal ones the first; None if there is no letter."""
    return max(places, key=lambda letter: text.rfind(places[letter]), default=None)


def score_open(text: str, targets: Sequence[str]) -> float:
    """1.0 if an open answer gives one of the targets, as a part of its text or as a number.

    >>> score_open("So the answer is 24.001", ["24"]), score_open("about 24.01", ["24"])
    (1.0, 0.0)
    >>> score_open("nothing", ["no"]), score_open("c major", ["C"]), score_open("c", ["abc"])
    (1.0, 1.0, 0.0)
    """
    said, wanted = _values(_statements(text)), _values(targets)
    wanted_texts = [value for value in wanted if isinstance(value, str)]
    return float(
        any(
            any(target in value for target in wanted_texts)
            if isinstance(value, str)
            else value in wanted
            for value in said
        )
    )


def _statements(text: str) -> list[str]:
    """What an open answer states: what follows its cues, or all of it; and the numbers therein."""
    text = text.strip().strip(".").lower()
    *lines, last = text.split("\n")
    tails = [_tail(line, _CUES) for line in lines]
    tails.append(_tail(last, (*_CUES, "=")))
    stated = [tail for tail in tails if tail not in _TRIVIAL] or [text]
    numbers = [one for said in stated for pattern in _NUMBERS for one in pattern.findall(said)]
    return stated + numbers


def _tail(line: str, cues: Iterable[str]) -> str:
    """The shortest text behind the last occurrence of a cue; an empty one gives way to others."""
    kept = ""
    for cue in cues:
        if cue in line:
            tail = line.rpartition(cue)[2].strip()
            if not kept or len(tail) < len(kept):
                kept = tail
    return kept


def _values(texts: Iterable[str]) -> list[str | float]:
    """Numbers to two decimals, other texts in lower case; single letters beside a space."""
    values: list[str | float] = []
    for text in map(str.strip, texts):
        try:
            values.append(round(float(text.replace(",", "")), 2))
        except ValueError:
            lowered = text.lower()
            values += [f" {lowered}", f"{lowered} "] if len(lowered) == 1 else [lowered]
    return values
