"""What is published about a benchmark's data: how many questions, which files, from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evals.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The published data of one split.

    Attributes:
        num_questions: The number of questions.
        num_images: The number of images; None where it is not published.
        files: Each file or folder, relative to the benchmark's folder, and where it is to be had.
        other_releases: Counts by which another release is recognized, with what to do about it.
    """

    num_questions: int | None
    num_images: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    other_releases: Mapping[int, str] = field(default_factory=dict)

    def check(self, title: str, num_questions: int) -> None:
        """Checks that the questions are not those of another known release.

        Args:
            title: Task and split, for the message.
            num_questions: How many questions there are.

        Raises:
            DataError: they are.
        """
        if num_questions in self.other_releases:
            raise DataError(
                f"{title} must have the published {self.num_questions:,} questions, but has "
                f"{num_questions:,}: {self.other_releases[num_questions]}"
            )


def expected_count(releases: Mapping[str, Release], split: str, *, check: bool) -> int | None:
    """The published number of questions of a split; None if none is, or none is to be expected."""
    release = releases.get(split)
    return release.num_questions if check and release is not None else None
