"""What a benchmark has to offer: its questions, a judgment for each answer, figures over all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from evals.benchmark import Upload
from evals.grading import Grading
from evals.reading.releases import Release
from evals.records import Aggregate, Prediction, Sample, Score


class Task(Protocol):
    """One benchmark on one split. Construction reads nothing; each method reads what it needs.

    Attributes:
        name: The task's name, for example `gqa`.
        split: The split as it is named in summaries.
        definition: Name and version of the metric's definition, for example `vqa_official/1`.
        primary_metric: The metric that stands in tables.
        primary_is_mean: Whether that metric is the plain mean of the scores' values.
        max_new_tokens: The answer length that LLaVA-1.5's scripts used for this benchmark.
        has_annotations: Whether answers of this split can be scored here.
        grouped_metrics: Metrics over whole groups, meaningless when `limit` cuts groups.
        releases: The published data of each split that has any.
        upload: What the benchmark's server takes, if it has one.
        grading: How a judge model grades the answers, if one does.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def split(self) -> str: ...  # noqa: D102

    @property
    def definition(self) -> str: ...  # noqa: D102

    @property
    def primary_metric(self) -> str: ...  # noqa: D102

    @property
    def primary_is_mean(self) -> bool: ...  # noqa: D102

    @property
    def max_new_tokens(self) -> int: ...  # noqa: D102

    @property
    def has_annotations(self) -> bool: ...  # noqa: D102

    @property
    def upload(self) -> Upload | None: ...  # noqa: D102

    @property
    def grading(self) -> Grading | None: ...  # noqa: D102

    @property
    def releases(self) -> Mapping[str, Release]: ...  # noqa: D102

    @property
    def grouped_metrics(self) -> frozenset[str]: ...  # noqa: D102

    def data_files(self) -> list[Path]:
        """The question and annotation files that decide questions and scores, for hashing."""

    def samples(self) -> list[Sample]:
        """All questions of the split, in the benchmark's order.

        Raises:
            DataError: a file is missing or malformed.
        """

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Foreign answer lines (`question_id`, `text`, `prompt`) by key; the last of an id wins.

        Needs the annotation files only, neither images nor question files.

        Raises:
            DataError: the answers belong to another benchmark or split.
        """

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a question of the split, in the benchmark's order.

        A question without a prediction scores 0 with `answered` false. Needs the annotation files
        only.

        Raises:
            DataError: a file is missing or malformed, or a prediction's key is not of the split.
        """

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The figures over any non-empty subset of the scores that `score` gave.

        Raises:
            ValueError: `scores` is empty.
        """
