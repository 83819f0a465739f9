"""Multiple choice by likelihood: the model writes nothing, it ranks the letters of the options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from evals.benchmark import GENERATE, RANK, Benchmark
from evals.errors import check_choice
from evals.records import Sample

_MARK = "_rank/"


def answered_by(
    answer: str, benchmark: Benchmark, letters: Callable[[Sample], Sequence[str]]
) -> Benchmark:
    """The benchmark as it is for `generate`, its answers by another definition for `rank`.

    Args:
        answer: The option of that name.
        benchmark: The one whose answers are written.
        letters: The letters of the options that a question of it shows.

    Raises:
        ValueError: `answer` is neither of the two.
    """
    check_choice(f"`answer` of {benchmark.name}", answer, (GENERATE, RANK))
    if answer == GENERATE:
        return benchmark
    name, _, version = benchmark.definition.rpartition("/")
    return replace(
        benchmark, definition=f"{name}{_MARK}{version}", max_new_tokens=1, letters=letters
    )


def is_ranked(definition: str) -> bool:
    """Whether a definition is one of ranked answers.

    >>> is_ranked("seedbench_letter_rank/1"), is_ranked("seedbench_letter/1")
    (True, False)
    """
    return _MARK in definition
