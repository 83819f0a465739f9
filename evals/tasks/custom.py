"""Own questions in LLaVA's question format, answered and, where they have targets, scored.

Files: a question file with one JSON object a line, and a folder with the images.

One question: `{"question_id": 7, "image": "cat.jpg", "text": "What animal is it?", "answer":
"cat"}`. `image` may be a list of several names, or absent. The prompt is `text` as it stands. What
a scorer compares with stands in `answer` or `label`, for `vqa_accuracy` in `answers`.

Metric: by the scorer. `exact`: the share of answers that equal their target, both stripped of
surrounding white space and nothing else. `vqa_accuracy`: VQAv2's soft accuracy over a list of
answers. `yes_no`: POPE's reading of the answer and its figures. `choice`: ScienceQA's reading of a
letter. `none`: nothing is scored.

Known deviations: none, there is no official definition; the readings are the official ones.

Published: nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from evals.errors import DataError
from evals.figures.metrics import mean_score, require_scores
from evals.reading.answers import check_keys, match_by_id
from evals.reading.files import find_all
from evals.reading.images import image_in
from evals.reading.questions import Question, read_questions
from evals.reading.releases import Release
from evals.records import Aggregate, Prediction, Sample, Score
from evals.scorers.choice import LETTERS, parse_choice
from evals.scorers.exact import score_exact
from evals.scorers.vqa_accuracy import score_vqa
from evals.scorers.yes_no import binary_figures, count_missing_as_wrong, parse_pope

Judgment = tuple[float, str | None]
"""The score of an answer and what was compared; None if nothing could be read."""


def _judge_exact(text: str, target: str) -> Judgment:
    return score_exact(text.strip(), target), text.strip()


def _judge_vqa(text: str, target: Sequence[str]) -> Judgment:
    records = [{"answer": answer, "answer_id": n} for n, answer in enumerate(target)]
    return score_vqa(text, records)


def _judge_yes_no(text: str, target: str) -> Judgment:
    answer = parse_pope(text)
    return score_exact(answer, target), answer


def _judge_choice(text: str, target: str) -> Judgment:
    letter = parse_choice(text)
    return float(letter == target), letter


_SCORERS: Mapping[str, Callable[[str, Any], Judgment] | None] = {
    "none": None,
    "exact": _judge_exact,
    "vqa_accuracy": _judge_vqa,
    "yes_no": _judge_yes_no,
    "choice": _judge_choice,
}


class Custom:
    """The user's own questions.

    Args:
        questions: The question file.
        images: The folder that the image names are relative to; not needed without images.
        scorer: `none` (or None) to answer only, `exact`, `vqa_accuracy`, `yes_no` or `choice`.
        name: The task's name in tables and folders.
        max_new_tokens: The answer length.

    Raises:
        ValueError: there is no such scorer.
    """

    upload = None
    grading = None
    primary_is_mean = True
    grouped_metrics: frozenset[str] = frozenset()
    releases: Mapping[str, Release] = MappingProxyType({})

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
        self.primary_metric = "vqa_accuracy" if scorer == "vqa_accuracy" else "accuracy"
        self.max_new_tokens = max_new_tokens
        self.has_annotations = scorer != "none"

    def data_files(self) -> list[Path]:
        """The question file, if it is there."""
        return find_all([self.questions])

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
        judge = _SCORERS[self.scorer]
        if judge is None:
            raise DataError(
                f"{self._title} cannot be scored without a scorer. Set scorer=exact and give every "
                "question an `answer`."
            )
        check_keys(predictions, self._questions, self._title)
        return [
            self._score(key, question, predictions.get(key), judge)
            for key, question in self._questions.items()
        ]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The figures of the scorer.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        metrics: dict[str, float | None] = {self.primary_metric: mean_score(scores)}
        if self.scorer == "yes_no":
            figures = binary_figures(
                count_missing_as_wrong(score.answer, score.details["target"]) for score in scores
            )
            metrics |= {name: figures[name] for name in ("precision", "recall", "f1", "yes_ratio")}
        return Aggregate(
            metrics=metrics,
            num_unparsed=sum(score.answered and score.answer is None for score in scores),
        )

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
            target=self._target(question) if self.has_annotations else None,
            cluster=_cluster(question),
        )

    def _target(self, question: Question) -> Any:
        if self.scorer == "vqa_accuracy":
            return _read_answers(question)
        target = _read_target(question)
        if self.scorer == "yes_no":
            target = target.lower()
        allowed = {"yes_no": ("yes", "no"), "choice": tuple(LETTERS)}.get(self.scorer)
        if allowed and target not in allowed:
            raise DataError(
                f"{question.where}: the target must be one of {', '.join(allowed)} for "
                f"scorer={self.scorer}, but is {target!r}. Mend the line."
            )
        return target

    def _score(
        self,
        key: str,
        question: Question,
        prediction: Prediction | None,
        judge: Callable[[str, Any], Judgment],
    ) -> Score:
        target = self._target(question)
        value, answer = (0.0, None) if prediction is None else judge(prediction.text, target)
        return Score(
            key=key,
            question_id=question.question_id,
            cluster=_cluster(question),
            value=value,
            answer=answer,
            answered=prediction is not None,
            details={"target": target},
        )


def _cluster(question: Question) -> str:
    return ",".join(question.image_names) or question.key


def _read_target(question: Question) -> str:
    for name in ("answer", "label"):
        value = question.fields.get(name)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return str(value).strip()
    raise DataError(
        f"{question.where} lacks an `answer` (or `label`) that is a text or a number. Add it, or "
        "set scorer=none."
    )


def _read_answers(question: Question) -> list[str]:
    answers = question.fields.get("answers")
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) for a in answers):
        raise DataError(
            f"{question.where} lacks `answers`, a list of at least one text. Add it, or choose "
            "another scorer."
        )
    return answers
