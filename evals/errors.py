"""The exceptions of the benchmarks package, and what an option may not be."""

from __future__ import annotations

from collections.abc import Iterable


class DataError(Exception):
    """A data or answer file is not what it should be; the message names file, place and remedy."""


class MissingFileError(DataError):
    """A file is not where it is expected; the message says where it is to be had."""


class ForeignAnswerError(DataError):
    """An answer is to no question of the split, or to another one; `question_id` is the first's."""

    def __init__(self, message: str, question_id: str | int) -> None:
        super().__init__(message)
        self.question_id = question_id


def check_choice(option: str, value: str, known: Iterable[str]) -> None:
    """Checks an option, named as in messages ("`split` of vqav2"), that has a few possible values.

    Raises:
        ValueError: the value is none of them.
    """
    known = list(known)
    if value not in known:
        raise ValueError(f"{option} must be one of {known}, but is {value}.")
