"""What the report page shows, before it becomes JSON.

Answers and prompts are tuples: the page's script knows their fields by their positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from evals.figures.paired_tests import PairedComparison
from evals.reading.images import ImageSource
from runners.storage.summary import SummaryFile


class Outcome(IntEnum):
    """What came of a question: its score, or why it has none."""

    # The script of the page has these names; `payload` tells it their numbers.
    RIGHT = 0
    PARTLY = 1
    WRONG = 2
    FAILED = 3
    UNSCORED = 4


class Prompt(NamedTuple):
    """What the model was given.

    Attributes:
        is_rendered: Whether the template was applied; otherwise `turn` is the stored question.
        head: The template before the user turn.
        turn: The user turn, or all of the prompt where the template is not known.
        tail: The template after the user turn.
    """

    is_rendered: bool
    head: str
    turn: str
    tail: str


class Answer(NamedTuple):
    """What one run made of one question; what is not known is None.

    Attributes:
        outcome: What came of it.
        text: The answer; empty for a failure.
        score: 0..1.
        compared: The answer as the scorer read it; None where it could read nothing.
        prompt: What the model was given.
        failure: Cause and message of a question that was not answered.
        finish_reason: How the answer ended; this and what follows is as the run stored it.
        num_prompt_tokens: Tokens of the prompt, the image's included.
        num_new_tokens: Tokens of the answer.
        min_margin: The smallest lead of a chosen token over the next.
        replayed: Whether the answer was computed again, alone.
        flipped: Whether it was another one then.
        latency_s: Seconds that it took.
        attempts: How often the question was asked.
    """

    outcome: Outcome
    text: str
    score: float | None
    compared: str | None
    prompt: Prompt
    failure: tuple[str, str] | None
    finish_reason: str | None = None
    num_prompt_tokens: int | None = None
    num_new_tokens: int | None = None
    min_margin: float | None = None
    replayed: bool = False
    flipped: bool = False
    latency_s: float | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One question with what each run answered.

    Attributes:
        key: The question's key, unique within the task.
        question_id: The benchmark's own id.
        question: The question's text.
        images: Its images; empty where the data are not at hand.
        targets: The accepted answers, each with how many annotators gave it.
        groups: Breakdown fields.
        answers: One entry a run; None where the run was not asked.
    """

    key: str
    question_id: str
    question: str
    images: tuple[ImageSource, ...]
    targets: tuple[tuple[str, int], ...]
    groups: Mapping[str, str | None]
    answers: tuple[Answer | None, ...]

    @property
    def interest(self) -> int:
        """How much a reader wants to see the image: 0 where runs differ, 1 if wrong, else 2."""
        given = [answer for answer in self.answers if answer is not None]
        if len({answer.score for answer in given}) > 1:
            return 0  # what runs are compared for
        return 2 if all(answer.outcome is Outcome.RIGHT for answer in given) else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """One benchmark.

    Attributes:
        name: The task's name.
        summaries: The figures of each run; None where a run did not finish or lacks the task.
        rows: Every question that a run was asked, in the benchmark's order.
        comparisons: Each run against the first; None for that itself, and without common scores.
        differences: Fields of the identity in which a run differs from the first, with the value of
            each run; None for a run that lacks the task.
        notes: What a reader has to know before trusting the page.
    """

    name: str
    summaries: tuple[SummaryFile | None, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[PairedComparison | None, ...]
    differences: Mapping[str, tuple[Any, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """One run.

    Attributes:
        name: What it is called on the page.
        facts: What it is: model, template, dtype, device, command and the like.
    """

    name: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that the page shows."""

    runs: tuple[RunReport, ...]
    tasks: tuple[TaskReport, ...]
