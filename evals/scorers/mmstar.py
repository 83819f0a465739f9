"""MMStar: the letter of an answer.

Source: MMStar-Benchmark/MMStar @ 88f243ab, `eval/vlmeval/evaluate/mmstar.py`.
"""

from __future__ import annotations

LETTERS = "ABCD"
_OPENINGS = ("", "(", "option ", "the answer is ")


def read_first_letter(text: str) -> str | None:
    r"""The letter that an answer begins with, maybe behind an opening; None if it is no option.

    Whatever follows the letter is free, so that a word that begins with one is read as it.

    >>> read_first_letter("b"), read_first_letter("(C"), read_first_letter("Option\nD.")
    ('B', 'C', 'D')
    >>> read_first_letter("The answer is A"), read_first_letter("Blue")
    ('A', 'B')
    >>> read_first_letter("**A**"), read_first_letter("The answer is (A)"), read_first_letter("")
    (None, None, None)
    """
    text = text.lower().strip().replace("\n", " ")
    for opening in _OPENINGS:
        letter = text[len(opening) : len(opening) + 1].upper()
        if text.startswith(opening) and letter and letter in LETTERS:
            return letter
    return None
