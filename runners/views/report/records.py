"""What the report page shows, before it becomes JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evals.reading.images import ImageSource
from evals.records import Failure
from runners.storage.summary import SummaryFile

RIGHT, PARTLY, WRONG, FAILED, UNSCORED = "right", "partly", "wrong", "failed", "unscored"
OUTCOMES = (RIGHT, PARTLY, WRONG, FAILED, UNSCORED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model was given.

    Attributes:
        head: The template before the user turn.
        turn: The user turn, or all of the prompt where the template is not known.
        tail: The template after the user turn.
        is_rendered: Whether the template was applied; otherwise `turn` is the stored question.
    """

    head: str = ""
    turn: str
    tail: str = ""
    is_rendered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one run made of one question.

    Attributes:
        outcome: One of `OUTCOMES`.
        text: The answer; empty for a failure.
        prompt: What the model was given.
        score: 0..1; None where there is no judgment.
        compared: The answer as the scorer read it; None where it could read nothing.
        failure: Why there is no answer.
        details: How the answer ended (`predictions.jsonl`, metadata).
        trace: How it came about (`trace.jsonl`).
    """

    outcome: str
    text: str
    prompt: Prompt
    score: float | None = None
    compared: str | None = None
    failure: Failure | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    trace: Mapping[str, Any] = field(default_factory=dict)


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
    question_id: str | int
    question: str
    images: tuple[ImageSource, ...]
    targets: tuple[tuple[str, int], ...]
    groups: Mapping[str, str | None]
    answers: tuple[Answer | None, ...]

    @property
    def interest(self) -> int:
        """How much a reader wants to see the image: 0 where runs differ, 1 if wrong, else 2."""
        scores = {answer.score for answer in self.answers if answer is not None}
        if len(scores) > 1:
            return 0
        good = all(answer is None or answer.outcome == RIGHT for answer in self.answers)
        return 2 if good else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The second run against the first, on the questions that both have scores of.

    Attributes:
        num_common: How many these are.
        difference: Mean score of the second less that of the first.
        interval: 95% interval of the difference, clustered by image; None with fewer than two
            clusters.
        num_better: Questions with a higher score in the second.
        num_worse: Questions with a lower one.
    """

    num_common: int
    difference: float
    interval: tuple[float, float] | None
    num_better: int
    num_worse: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """One benchmark.

    Attributes:
        name: The task's name.
        summaries: The figures of each run; None where a run did not finish or lacks the task.
        rows: Every question that a run was asked, in the benchmark's order.
        comparison: The second run against the first; None without common scores.
        differences: Fields of the identity that differ, with both values.
        notes: What a reader has to know before trusting the page.
    """

    name: str
    summaries: tuple[SummaryFile | None, ...]
    rows: tuple[Row, ...]
    comparison: Comparison | None
    differences: Mapping[str, tuple[Any, Any]]
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
