"""Names of any length in messages that people read."""

from __future__ import annotations

import re

_LONGEST_WORD = 255
"""Of the name of a file, on any system."""
_LONGEST_MESSAGE = 2000
_FIRST, _LAST = 60, 40


def shorten_names(message: str) -> str:
    """Returns a message in which words that are too long for a name are shortened.

    Data files may name an image by anything, a whole picture in base64 too.

    >>> shorten_names("Image " + 3000 * "a" + ".jpg is missing.") == (
    ...     "Image " + 60 * "a" + "..." + 36 * "a" + ".jpg is missing."
    ... )
    True
    """
    short = re.sub(rf"\S{{{_LONGEST_WORD + 1},}}", lambda word: _shorten(word[0]), message)
    return short if len(short) <= _LONGEST_MESSAGE else _shorten(short)


def _shorten(text: str) -> str:
    return f"{text[:_FIRST]}...{text[-_LAST:]}"
