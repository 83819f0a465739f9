"""The records that flow through an evaluation, joined by `key` and never by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from evals.reading.images import ImageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question of a benchmark.

    Attributes:
        key: Unique within the task; the only key for joining, resuming and seeding.
        question_id: The benchmark's own id, as it stands in answer files.
        text: The user turn as the model gets it, without image placeholders.
        prompt: The question as answer files store it (official habits differ by benchmark).
        images: The images of the question, opened lazily; empty for a text-only question.
        target: What the scorer needs to judge an answer; None where the split has no annotations.
        cluster: Questions with equal cluster are not independent (usually the image's key).
        groups: Breakdown fields of the question, for example `{"answer_type": "yes/no"}`.
        details: What the benchmark's own judge and figures need beside target and groups.
        aliases: Further ids that only this question has, under which answers may name it.
        choices: The letters that the model ranks instead of writing; empty where it writes.
    """

    key: str
    question_id: str | int
    text: str
    prompt: str
    images: tuple[ImageSource, ...] = ()
    target: Any = None
    cluster: str = ""
    groups: Mapping[str, str | None] = field(default_factory=dict)
    details: Any = None
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def image_keys(self) -> tuple[str, ...]:
        """The keys of the images."""
        return tuple([image.key for image in self.images])


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The model's answer to one question: `text` is decoded and stripped, nothing else.

    Judges' reviews may name it by each of `answer_ids`, of which the last is that of the file it
    was read from; there is none where that is not known.
    """

    key: str
    question_id: str | int
    prompt: str
    text: str
    answer_ids: tuple[str, ...] = ()


class Cause(str, Enum):
    """Why a question has no answer. Failures are counted by it, in files by its value."""

    IMAGE_MISSING = "image_missing"  # an image is not there, or lies outside of the image folder
    IMAGE_UNREADABLE = "image_unreadable"  # a file is there, but no image can be read from it
    IMAGE_COUNT = "image_count"  # the text places another number of images than the question has
    TEXT_UNREADABLE = "text_unreadable"  # the text is no Unicode
    PROMPT_TOO_LONG = "prompt_too_long"  # they leave no room for an answer in the context
    OUT_OF_MEMORY = "out_of_memory"  # the device has not enough memory for the question alone
    NOT_FINITE = "not_finite"  # the model computes NaN or infinity
    WORKER_DIED = "worker_died"  # worker processes ended over it
    WORKER_HUNG = "worker_hung"  # worker processes computed nothing over it, and were ended
    NO_ANSWER = "no_answer"  # it has a score, but no answer that counts
    JUDGE_REFUSED = "judge_refused"  # the judge gives no text about the answer, however often
    JUDGE_SILENT = "judge_silent"  # the judge's endpoint gave no reply about it in all attempts
    JUDGE_UNREAD = "judge_unread"  # the judge's reply does not say what the answer is worth
    ERROR = "error"  # anything else; the message names it

    __str__ = str.__str__  # else a table shows the name of the member, in some versions of Python


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A question that could not be answered.

    Attributes:
        key: The question's key.
        cause: A `Cause`, or whatever an older or foreign file calls it.
        message: What happened, for a person.
    """

    key: str
    cause: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The judgment of one question.

    Attributes:
        key: The question's key.
        question_id: The benchmark's own id.
        cluster: See `Sample.cluster`.
        value: 0..1, unrounded.
        answer: The prediction as compared; None where none was given or none could be read.
        answered: Whether a prediction was given at all, and judged where a judge model does that.
        groups: Breakdown fields, written beside the score.
        details: What the benchmark's own figures need beside the value; not written to disk.
        failure: Why a judge model has not judged the prediction; None if it has, or need not.
    """

    key: str
    question_id: str | int
    cluster: str
    value: float
    answer: str | None
    answered: bool
    groups: Mapping[str, str | None] = field(default_factory=dict)
    details: Any = None
    failure: Failure | None = None

    def to_line(self) -> dict[str, Any]:
        """The object that `scores.jsonl` holds for this question."""
        return {
            "question_id": self.question_id,
            "key": self.key,
            "cluster": self.cluster,
            "score": self.value,
            "answer": self.answer,
            **self.groups,
        }


IN_RESULTS = frozenset(["question_id", "key", "cluster", "score", "answer"])
"""What lines of results hold in any case, so that no breakdown field can be called so."""

Judgment = tuple[float, str | None]
"""What an answer is worth, 0 to 1, and what was compared; None if nothing could be read."""


def score_of(sample: Sample, judgment: Judgment | None, details: Any = None) -> Score:
    """The score of a question.

    Args:
        sample: The question.
        judgment: Of its answer; None if it has none.
        details: What the figures need beside the value; None for the details of the question.
    """
    value, answer = (0.0, None) if judgment is None else judgment
    return Score(
        key=sample.key,
        question_id=sample.question_id,
        cluster=sample.cluster,
        value=float(value) if isinstance(value, int) else value,
        answer=answer,
        answered=judgment is not None,
        groups=sample.groups,
        details=sample.details if details is None else details,
    )


class Unit(str, Enum):
    """What a figure is counted in, which decides how it is printed."""

    SHARE = "share"  # of 1, printed in percent
    POINTS = "points"
    NUMBER = "number"  # of another kind, such as a distance between distributions


LARGEST_FIGURE = 1e6
"""No benchmark gives as many points; NaN and infinity are not below it either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The scale of a metric. It is the benchmark's to say: no value tells it.

    Attributes:
        unit: What it is counted in.
        largest: Its largest possible value; None where there is none.

    Raises:
        ValueError: the largest value is none that a figure can have.
    """

    unit: Unit = Unit.SHARE
    largest: float | None = 1.0

    def __post_init__(self) -> None:
        if self.largest is not None and not 0 < self.largest < LARGEST_FIGURE:
            raise ValueError(
                f"`largest` of a `Scale` must be a number above 0 and below {LARGEST_FIGURE:,.0f}, "
                f"or None, but is {self.largest!r}"
            )

    def in_print(self, value: float) -> float:
        """Returns a value, or a difference of two, in the unit in which it is printed.

        >>> Scale().in_print(0.5), Scale(unit=Unit.POINTS, largest=10.0).in_print(0.5)
        (50.0, 0.5)
        """
        return 100 * value if self.unit is Unit.SHARE else value


SHARE = Scale()
"""The scale of most metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """The figures of a set of scores.

    Attributes:
        metrics: Metric name to value: 0..1, or points where the benchmark defines points; None
            where the metric cannot be computed (no such file, empty group).
        breakdowns: Field to group to `{metric: value, "num_questions": n}`.
        num_unparsed: Answers given from which nothing could be read.
        scales: The scale of each metric that is no share of 1, see `Scale`.
        averaged_groups: The groups over which the primary metric is a mean of figures; over fewer
            of them it would be another figure. Empty where it is none.
    """

    metrics: Mapping[str, float | None]
    breakdowns: Mapping[str, Mapping[str, Mapping[str, float | int | None]]] = field(
        default_factory=dict
    )
    num_unparsed: int = 0
    scales: Mapping[str, Scale] = field(default_factory=dict)
    averaged_groups: frozenset[str] = frozenset()
