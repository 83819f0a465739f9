"""The option letter of a free answer, by the exact-matching policy of MMBench's local evaluation.

Source: open-compass/VLMEvalKit @ e8e78f05, `matching_util.py`, without its questions to a judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

REFUSED = "Z"
"""What stands for an answer that declines to choose."""

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_API_FAILURE = "Failed to obtain answer via API"
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_SENTENCE = re.compile(r"(?:correct )?answer is (?:\*\*)?([A-D])(?:\*\*)?", re.IGNORECASE)
_LAST_WORDS = 4  # a letter further in front may be the article "A"


def infer_choice(text: str, options: Mapping[str, str]) -> str | None:
    """The letter that the text gives, `Z` for a refusal, None if none can be read.

    `options` are the letters of the question, each with the text of its option.

    >>> options = {"A": "a frog", "B": "a red bird"}
    >>> infer_choice("(B)", options), infer_choice("It is a frog.", options)
    ('B', 'A')
    >>> infer_choice("A or B", options), infer_choice("b", options), infer_choice("Z", options)
    (None, None, 'Z')
    >>> infer_choice("The correct answer is **B**, as the picture clearly shows", options)
    'B'
    """
    if _API_FAILURE not in text:  # a failed call is no answer, though it may hold a letter
        if letter := _letter_among_words(text, options):
            return letter
        if found := _SENTENCE.search(text):
            return found[1].upper()
    return _letter_by_text(text, options)


def _letter_among_words(text: str, options: Mapping[str, str]) -> str | None:
    if any(sentence in text for sentence in _REFUSALS):
        return REFUSED
    words = text.translate(_MARKS).split()
    letters = [letter for letter in options if letter in words]
    if len(letters) == 1 and words.index(letters[0]) >= len(words) - _LAST_WORDS:
        return letters[0]
    return REFUSED if not letters and REFUSED in words else None


def _letter_by_text(text: str, options: Mapping[str, str]) -> str | None:
    text, named = text.lower(), {letter: option.lower() for letter, option in options.items()}
    if len(text) > 2 * sum(map(len, named.values())):
        return None  # a long answer names options without choosing them
    letters = [letter for letter, option in named.items() if option in text]
    return letters[0] if len(letters) == 1 else None
