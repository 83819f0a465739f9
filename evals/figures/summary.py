"""The figures of one task of a run, as `summary.json` holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from itertools import compress
from typing import Any

from evals.benchmark import Benchmark
from evals.figures.statistics import (
    Interval,
    Mask,
    clustered_standard_error,
    interval_of,
    jackknife_standard_error,
)
from evals.records import SHARE, Aggregate, Failure, Scale, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one task.

    Attributes:
        task: The task's name.
        split: The split's name.
        definition: Name and version of the metric's definition.
        metrics: Over all questions, where one without an answer scores 0; empty without
            annotations.
        metrics_answered: The same over answered questions only; empty if there are none.
        breakdowns: Field to group to figures, over all questions.
        interval: 95% interval of the primary metric, clustered by image, in its unit; None where
            the metric is None, or would be without one of the clusters (or be a mean over fewer
            groups), or where it has no limit and all clusters agree.
        interval_method: `normal`, from a standard error, or `binomial`, the exact interval over
            few clusters, or where all of them agree; None without an interval.
        num_questions: Questions of the split.
        num_answered: Those with an answer, which a judge model has judged where one scores them.
        coverage: `num_answered / num_questions`.
        num_failed: Failed questions by cause.
        num_unparsed: Answers given from which nothing could be read.
        expected_num_questions: The published number of questions, None if none is.
        primary_metric: The metric that stands in tables.
        scales: The scale of each metric that is no share of 1.
    """

    task: str
    split: str
    definition: str
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    metrics_answered: Mapping[str, float | None] = field(default_factory=dict)
    breakdowns: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    interval_method: str | None = None
    num_questions: int
    num_answered: int
    coverage: float
    num_failed: Mapping[str, int] = field(default_factory=dict)
    num_unparsed: int = 0
    expected_num_questions: int | None = None
    primary_metric: str
    scales: Mapping[str, Scale] = field(default_factory=dict)

    def scale(self, metric: str) -> Scale:
        """The scale of a metric."""
        return self.scales.get(metric, SHARE)

    def to_json(self) -> dict[str, Any]:
        """The object that `summary.json` holds, ready for `json.dumps`."""
        return asdict(self)


def summarize(
    task: Benchmark,
    scores: Sequence[Score],
    failures: Mapping[str, Failure],
    *,
    limit_cuts_groups: bool = False,
) -> Summary:
    """The figures of a task with annotations.

    Args:
        task: The task that gave the scores.
        scores: One score a question, those without an answer included.
        failures: Questions that could not be answered, by key.
        limit_cuts_groups: Whether the scores are only the first part of the split, so that metrics
            over whole groups mean nothing and become None.

    Raises:
        ValueError: there are no scores.
    """
    hidden = task.grouped_metrics if limit_cuts_groups else frozenset()
    everything = task.aggregate(scores)
    answered = [score for score in scores if score.answered]
    unjudged = {score.key: score.failure for score in scores if score.failure is not None}
    metrics = _hide(everything.metrics, hidden)
    primary = metrics.get(task.primary_metric)
    interval = None if primary is None else _interval(task, scores, primary, everything)
    return replace(
        summarize_unscored(task, len(scores), len(answered), {**failures, **unjudged}),
        metrics=metrics,
        metrics_answered=_hide(task.aggregate(answered).metrics, hidden) if answered else {},
        breakdowns={
            name: {group: _hide(row, hidden) for group, row in table.items()}
            for name, table in everything.breakdowns.items()
        },
        interval=None if interval is None else interval.ends,
        interval_method=None if interval is None else interval.method,
        num_unparsed=everything.num_unparsed,
        scales=everything.scales,
    )


def summarize_unscored(
    task: Benchmark, num_questions: int, num_answered: int, failures: Mapping[str, Failure]
) -> Summary:
    """The counts of a task whose split has no annotations.

    Raises:
        ValueError: there are no questions.
    """
    if num_questions < 1:
        raise ValueError(f"`num_questions` must be at least 1, but is {num_questions}.")
    causes = Counter(failure.cause for failure in failures.values())
    release = task.releases.get(task.split)
    return Summary(
        task=task.name,
        split=task.split,
        definition=task.definition,
        num_questions=num_questions,
        num_answered=num_answered,
        coverage=num_answered / num_questions,
        num_failed={cause: causes[cause] for cause in sorted(causes)},
        expected_num_questions=release.num_questions if release else None,
        primary_metric=task.primary_metric,
    )


def _hide(figures: Mapping[str, float | None], hidden: Set[str]) -> dict[str, float | None]:
    return {name: None if name in hidden else value for name, value in figures.items()}


def _interval(
    task: Benchmark, scores: Sequence[Score], value: float, everything: Aggregate
) -> Interval | None:
    """The interval around the primary metric, within the metric's scale."""
    name, clusters = task.primary_metric, [score.cluster for score in scores]
    if task.primary_is_mean:
        error = clustered_standard_error([score.value for score in scores], clusters)
    else:

        def compute(kept: Mask) -> float | None:
            # A mean over fewer groups is another figure, and says nothing of this one's error.
            part = task.aggregate(list(compress(scores, kept)))
            same = part.averaged_groups == everything.averaged_groups
            return part.metrics[name] if same else None

        error = jackknife_standard_error(compute, clusters)
        if error is None:
            return None
    largest = everything.scales.get(name, SHARE).largest
    return interval_of(value, error, clusters, largest=largest)
