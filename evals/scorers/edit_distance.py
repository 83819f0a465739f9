"""The distance between two texts in edits."""

from __future__ import annotations


def edit_distance(one: str, other: str) -> int:
    """The least number of characters to insert, delete or replace (Levenshtein).

    >>> edit_distance("kitten", "sitting"), edit_distance("", "ab"), edit_distance("ß", "SS")
    (3, 2, 2)
    """
    if one == other:
        return 0
    above = list(range(len(other) + 1))
    for row, character in enumerate(one, start=1):
        left = row
        line = [left]
        for column, against in enumerate(other, start=1):
            replaced = above[column - 1] + (character != against)
            left = min(replaced, above[column] + 1, left + 1)
            line.append(left)
        above = line
    return above[-1]
