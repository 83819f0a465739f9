"""Figures over many scores: means, and means by group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import fsum

from evals.reading.files import is_number
from evals.records import Aggregate, Score

Breakdown = dict[str, dict[str, float | int | None]]


def mean(values: Iterable[float]) -> float | None:
    """The mean, exactly rounded; None if there are no values.

    >>> mean([0.1] * 10), mean([])
    (0.1, None)
    """
    values = list(values)
    return fsum(values) / len(values) if values else None


def mean_of_all(values: Iterable[float | None]) -> float | None:
    """The mean; None if there are no values, or one of them is None."""
    values = list(values)
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def mean_score(scores: Iterable[Score]) -> float | None:
    """The mean of the values of the scores; None if there are none."""
    return mean(score.value for score in scores)


def count_unread(scores: Iterable[Score]) -> int:
    """The number of answers from which nothing could be read."""
    return sum(score.answered and score.answer is None for score in scores)


def group_by(scores: Iterable[Score], field: str) -> dict[str, list[Score]]:
    """The scores by the value of one of their breakdown fields, sorted; without it left out."""
    groups = defaultdict(list)
    for score in scores:
        group = score.groups.get(field)
        if group is not None:
            groups[group].append(score)
    return {group: groups[group] for group in sorted(groups, key=_numbers_in_order)}


def _numbers_in_order(group: str) -> tuple[int, str]:
    return (int(group) if is_number(group) else 0, group)  # 2 before 10


def tabulate(groups: Mapping[str, Sequence[float]], metric: str) -> Breakdown:
    """The mean and the number of the values of every group, by name.

    >>> tabulate({"b": [1.0], "a": [0.0, 1.0]}, "accuracy")["a"]
    {'accuracy': 0.5, 'num_questions': 2}
    """
    return {
        group: {metric: mean(groups[group]), "num_questions": len(groups[group])}
        for group in sorted(groups, key=_numbers_in_order)
    }


def break_down_all(
    scores: Sequence[Score], fields: Iterable[str], metric: str
) -> Mapping[str, Breakdown]:
    """The mean score and the number of questions of every group of some fields.

    A field that no score has is left out.
    """
    return {
        field: tabulate({name: [one.value for one in groups[name]] for name in groups}, metric)
        for field in fields
        if (groups := group_by(scores, field))
    }


def break_down_labels(
    scores: Sequence[Score], fields: Iterable[str], metric: str
) -> Mapping[str, Breakdown]:
    """The same where a question has several labels in a field, and counts in each of these groups.

    The details of every score are its question's labels by field. A field without any label is left
    out.
    """
    tables: dict[str, defaultdict[str, list[float]]] = {name: defaultdict(list) for name in fields}
    for score in scores:
        for field, groups in tables.items():
            for label in dict.fromkeys(score.details.get(field, ())):
                groups[label].append(score.value)
    return {field: tabulate(groups, metric) for field, groups in tables.items() if groups}


def mean_figures(scores: Sequence[Score], metric: str, fields: Iterable[str] = ()) -> Aggregate:
    """The mean score, over all scores and by each of some breakdown fields, as the only metric."""
    return Aggregate(
        metrics={metric: mean_score(scores)}, breakdowns=break_down_all(scores, fields, metric)
    )


def mean_figures_by_label(scores: Sequence[Score], metric: str, fields: Iterable[str]) -> Aggregate:
    """The same where a question has several labels in a field, see `break_down_labels`."""
    return Aggregate(
        metrics={metric: mean_score(scores)}, breakdowns=break_down_labels(scores, fields, metric)
    )
