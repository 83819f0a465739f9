"""Names of any length in messages that people read."""

from __future__ import annotations

import re

_LONGEST_WORD = 1024
"""Longer than paths usually are."""
_LONGEST_MESSAGE = 2000
_OF_WORDS, _OF_MESSAGES = (60, 40), (1500, 400)
"""How many characters are kept of the beginning and of the end."""


def shorten_names(message: str) -> str:
    """Returns a message in which words that are too long for a path are shortened.

    A message that is too long all the same is shortened itself.

    Data files may name an image by anything, a whole picture in base64 too.

    >>> shorten_names("Image " + 3000 * "a" + ".jpg is missing.") == (
    ...     "Image " + 60 * "a" + "..." + 36 * "a" + ".jpg is missing."
    ... )
    True
    """
    short = re.sub(
        rf"\S{{{_LONGEST_WORD + 1},}}", lambda word: _shorten(word[0], *_OF_WORDS), message
    )
    return short if len(short) <= _LONGEST_MESSAGE else _shorten(short, *_OF_MESSAGES)


def _shorten(text: str, first: int, last: int) -> str:
    return f"{text[:first]}...{text[-last:]}"
