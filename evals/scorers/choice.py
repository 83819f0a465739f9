"""The letter of a multiple-choice answer, as LLaVA's ScienceQA script reads it.

Source: haotian-liu/LLaVA @ c121f043, `eval_science_qa.py`.
"""

from __future__ import annotations

import re

LETTERS = "ABCDE"
_SENTENCE = re.compile(r"The answer is ([A-Z]).")  # the official dot, which is any character


def parse_choice(text: str) -> str | None:
    """The letter that the text gives, or None if none can be read.

    A sentence may give a letter beyond E, which then is no choice of any question.

    >>> parse_choice("B"), parse_choice("B. a frog"), parse_choice("So. The answer is B.")
    ('B', 'B', 'B')
    >>> parse_choice("B."), parse_choice(" B"), parse_choice("The answer is B")
    (None, None, None)
    >>> parse_choice("The answer is A. No. The answer is A.") is None
    True
    """
    if len(text) == 1 and text in LETTERS:
        return text
    if len(text) >= 3 and text[0] in LETTERS and text[1:3] == ". ":
        return text[0]
    found = _SENTENCE.findall(text)
    return found[0] if len(found) == 1 else None  # two sentences, even equal ones, are none


def choice_index(letter: str | None, num_choices: int) -> int:
    """The index of the choice that the letter names, or -1 if it names none.

    >>> choice_index("B", 4), choice_index("E", 4), choice_index(None, 4)
    (1, -1, -1)
    """
    return -1 if letter is None else LETTERS[:num_choices].find(letter)
