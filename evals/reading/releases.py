"""What is published about a benchmark's data: how many questions, which files, from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evals.errors import DataError

LLAVA_ORIGIN = "eval.zip in https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md"
"""Where LLaVA's question files are to be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The published data of one split.

    Attributes:
        num_questions: The number of questions.
        num_images: The number of images; None where it is not published.
        files: Each file or folder, relative to the benchmark's folder, and where it is to be had.
        other_releases: Counts by which another release is recognized, with what to do about it.
        renumbered: Those of these counts whose releases have other questions under the same ids.
    """

    num_questions: int
    num_images: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    other_releases: Mapping[int, str] = field(default_factory=dict)
    renumbered: frozenset[int] = frozenset()

    def check(self, title: str, num_questions: int) -> None:
        """Checks that task and split, as `title` has them, have as many questions as published.

        Raises:
            DataError: there are more or fewer; the message names the release that has so many.
        """
        if num_questions != self.num_questions:
            remedy = "Fetch the files again, or set check_counts=false to go on with what is there."
            raise DataError(
                f"{title} must have the published {self.num_questions:,} questions, but has "
                f"{num_questions:,}: {self.other_releases.get(num_questions, remedy)}"
            )

    def check_numbering(self, title: str, num_questions: int, num_answered: int) -> None:
        """Checks by their number that answers are not those to a release with other ids.

        Raises:
            DataError: they are just as many as that release has questions.
        """
        if num_questions != num_answered and num_answered in self.renumbered:
            raise DataError(
                f"{title} has {num_questions:,} questions here, but the answers are to "
                f"{num_answered:,}, as another release has, whose ids stand for other questions: "
                f"{self.other_releases[num_answered]}"
            )
