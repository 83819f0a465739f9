"""Own questions in LLaVA's question format, answered and, where they have targets, scored.

Files: a question file with one JSON object a line, and a folder with the images.

One question: `{"question_id": 7, "image": "cat.jpg", "text": "What animal is it?", "answer":
"cat"}`. `image` may be a list of several names, or absent. `answer`, or `label`, is needed for
`scorer="exact"` only. The prompt is `text` as it stands.

Metric: none, or the share of answers that equal their target, both stripped of surrounding white
space and nothing else.

Known deviations: none, there is no official definition.

Published: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.answers import check_keys, match_by_id
from evals.errors import DataError
from evals.metrics import mean_score, require_scores
from evals.questions import Question, read_questions
from evals.records import Aggregate, Prediction, Sample, Score
from evals.scorers.exact import score_exact
from evals.sources import find_optional, image_in

_SCORERS = ("none", "exact")


class Custom:
    """The user's own questions.

    Args:
        questions: The question file.
        images: The folder that the image names are relative to; not needed without images.
        scorer: `none` (or None) to answer only, `exact` to compare with `answer` or `label`.
        name: The task's name in tables and folders.
        max_new_tokens: The answer length.

    Raises:
        ValueError: there is no such scorer.
    """

    primary_metric = "accuracy"
    primary_is_mean = True

    def __init__(
        self,
        *,
        questions: str | Path,
        images: str | Path | None = None,
        scorer: str | None = "none",
        name: str = "custom",
        max_new_tokens: int = 128,
    ) -> None:
        scorer = scorer or "none"
        if scorer not in _SCORERS:
            raise ValueError(f"`scorer` must be one of {list(_SCORERS)}, but is {scorer}.")
        self.questions = Path(questions)
        self.images = None if images is None else Path(images)
        self.scorer = scorer
        self.name = name
        self.split = self.questions.name.removesuffix(".gz").removesuffix(".jsonl")
        self.definition = f"custom_{scorer}/1"
        self.max_new_tokens = max_new_tokens

    @property
    def expected_num_questions(self) -> int | None:
        """None: nothing is published."""
        return None

    @property
    def has_annotations(self) -> bool:
        """Whether answers are to be scored."""
        return self.scorer != "none"

    @property
    def grouped_metrics(self) -> frozenset[str]:
        """None: the only figure is a mean over questions."""
        return frozenset()

    def data_files(self) -> list[Path]:
        """The question file, if it is there."""
        found = find_optional(self.questions)
        return [found] if found else []

    def samples(self) -> list[Sample]:
        """All questions, in the order of the file.

        Raises:
            DataError: the file is missing or malformed, an image is named but no folder given, or
                a target is missing although answers are to be scored.
        """
        return [self._sample(question) for question in self._questions.values()]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key; the last of an id wins.

        Raises:
            DataError: an answer's id is not in the question file, or that is malformed.
        """
        ids = {key: question.question_id for key, question in self._questions.items()}
        return match_by_id(answers, ids, task=self._title, foreign_is_error=True)

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a question, in the order of the file.

        Raises:
            DataError: there is no scorer, the file is missing or malformed, or a prediction's key
                is not in it.
        """
        if not self.has_annotations:
            raise DataError(
                f"{self._title} cannot be scored without a scorer. Set scorer=exact and give every "
                "question an `answer`."
            )
        check_keys(predictions, self._questions, self._title)
        return [
            _score_question(question, predictions.get(key))
            for key, question in self._questions.items()
        ]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The accuracy.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        return Aggregate(metrics={"accuracy": mean_score(scores)})

    @property
    def _title(self) -> str:
        return f"{self.name} {self.split}"

    @cached_property
    def _questions(self) -> dict[str, Question]:
        return {question.key: question for question in read_questions(self.questions)}

    def _sample(self, question: Question) -> Sample:
        if question.image_names and self.images is None:
            raise DataError(
                f"{question.where} names the image {question.image_names[0]!r}, but no image "
                "folder is given. Set `images`."
            )
        folder = self.images or Path()
        return Sample(
            key=question.key,
            question_id=question.question_id,
            text=question.text,
            prompt=question.text,
            images=tuple(image_in(folder, name) for name in question.image_names),
            target=_target(question) if self.has_annotations else None,
            cluster=_cluster(question),
        )


def _cluster(question: Question) -> str:
    return ",".join(question.image_names) or question.key


def _target(question: Question) -> str:
    for name in ("answer", "label"):
        value = question.fields.get(name)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return str(value).strip()
    raise DataError(
        f"{question.where} lacks an `answer` (or `label`) that is a text or a number. Add it, or "
        "set scorer=none."
    )


def _score_question(question: Question, prediction: Prediction | None) -> Score:
    target = _target(question)
    answer = None if prediction is None else prediction.text.strip()
    return Score(
        key=question.key,
        question_id=question.question_id,
        cluster=_cluster(question),
        value=0.0 if answer is None else score_exact(answer, target),
        answer=answer,
        answered=prediction is not None,
    )
