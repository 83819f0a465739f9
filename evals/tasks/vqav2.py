"""VQAv2: open questions about COCO images (Goyal et al., arXiv:1612.00837).

Files, in `data_dir`: `v2_OpenEnded_mscoco_<subtype>_questions.json` and, for val and demo,
`v2_mscoco_<subtype>_annotations.json`; images in `<subtype>/COCO_<subtype>_%012d.jpg` (test-dev2015
is a part of test2015 and shares its images). LLaVA's `llava_vqav2_mscoco_<subtype>.jsonl` is read
for the prompts where it is there.

One question: `{"image_id": 262148, "question": "Where is he looking?", "question_id": 262148000}`;
its annotation: `{"question_id": 262148000, "image_id": 262148, "question_type": "none of the
above", "answer_type": "other", "multiple_choice_answer": "down", "answers": [{"answer": "down",
"answer_confidence": "yes", "answer_id": 1}, ...]}`; the prompt: `Where is he looking?` and a line
that asks for a single word or phrase.

Metric: soft accuracy over the annotators. Unless the annotators all agree, answers are normalized
first; if they do, nothing is, so that `Yes` against ten `yes` scores 0. Official code:
GT-Vision-Lab/VQA @ a013f004, `vqaEval.py`. Test splits are scored by the server only.

Known deviations: figures are not rounded; the official script rounds to two decimals of a percent.
A missing answer scores 0 and is counted, where the official script stops.

Published: LLaVA-1.5-7B 78.5, 13B 80.0 (test-dev).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.answers import check_keys, match_by_id
from evals.errors import DataError
from evals.metrics import break_down_all, mean_score, require_scores
from evals.normalize import clean_whitespace, normalize_vqa
from evals.questions import (
    SHORT_ANSWER_SUFFIX,
    Question,
    check_same_ids,
    read_questions,
    replace_suffix,
)
from evals.records import Aggregate, Prediction, Sample, Score
from evals.scorers.vqa_accuracy import score_soft_accuracy
from evals.sources import check_unique, find_optional, image_in, read_json, require, require_id

ORIGIN = "https://visualqa.org/download.html"
_SUBTYPES = {
    "val": "val2014",
    "test-dev2015": "test-dev2015",
    "test2015": "test2015",
    "demo": "demo",
}
_IMAGE_SUBTYPES = {"test-dev2015": "test2015"}
_ANNOTATED = frozenset(["val", "demo"])
_PUBLISHED_COUNTS = {"val": 214_354, "test-dev2015": 107_394, "test2015": 447_793}
_FIELDS = ("answer_type", "question_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What the annotators said to one question.

    Attributes:
        question_id: The official id.
        image_id: The number of the COCO image.
        answers: One record an annotator, as in the file.
        groups: Answer type and question type.
    """

    question_id: int | str
    image_id: int
    answers: list[dict[str, Any]]
    groups: Mapping[str, str | None]


def score_vqa(text: str, answers: Sequence[Mapping[str, Any]]) -> tuple[float, str]:
    """The soft accuracy of an answer, and the answer in the form in which it was compared.

    Args:
        text: The model's answer.
        answers: One record an annotator, with the text under `answer`; at least one.

    >>> score_vqa("Yes", [{"answer": "yes", "answer_id": n} for n in range(10)])
    (0.0, 'Yes')
    >>> mixed = [{"answer": "yes" if n else "no", "answer_id": n} for n in range(10)]
    >>> score_vqa("Yes.", mixed)
    (1.0, 'yes')
    """
    text = clean_whitespace(text)
    targets = [{**record, "answer": clean_whitespace(record["answer"])} for record in answers]
    if len({target["answer"] for target in targets}) > 1:
        text = normalize_vqa(text)
        targets = [{**target, "answer": normalize_vqa(target["answer"])} for target in targets]
    return score_soft_accuracy(text, targets), text


class VQAv2:
    """VQAv2 on one split.

    Args:
        data_dir: The folder with the benchmark's files.
        split: `val`, `test-dev2015`, `test2015` or `demo`.
        prompt_suffix: What follows the question in the prompt.
        max_new_tokens: The answer length that LLaVA's script uses.
        check_counts: Whether the published number of questions is expected.

    Raises:
        ValueError: there is no such split.
    """

    name = "vqav2"
    definition = "vqa_official/1"
    primary_metric = "vqa_accuracy"
    primary_is_mean = True

    def __init__(
        self,
        *,
        data_dir: str | Path,
        split: str = "test-dev2015",
        prompt_suffix: str = SHORT_ANSWER_SUFFIX,
        max_new_tokens: int = 128,
        check_counts: bool = True,
    ) -> None:
        if split not in _SUBTYPES:
            raise ValueError(f"`split` of vqav2 must be one of {list(_SUBTYPES)}, but is {split}.")
        self.data_dir = Path(data_dir)
        self.split = split
        self.prompt_suffix = prompt_suffix
        self.max_new_tokens = max_new_tokens
        self.check_counts = check_counts
        subtype = _SUBTYPES[split]
        self._image_subtype = _IMAGE_SUBTYPES.get(subtype, subtype)
        self._question_path = self.data_dir / f"v2_OpenEnded_mscoco_{subtype}_questions.json"
        self._annotation_path = self.data_dir / f"v2_mscoco_{subtype}_annotations.json"
        self._llava_path = self.data_dir / f"llava_vqav2_mscoco_{subtype}.jsonl"

    @property
    def expected_num_questions(self) -> int | None:
        """The published number of questions."""
        return _PUBLISHED_COUNTS.get(self.split) if self.check_counts else None

    @property
    def has_annotations(self) -> bool:
        """Whether the split's answers are public."""
        return self.split in _ANNOTATED

    @property
    def grouped_metrics(self) -> frozenset[str]:
        """None: every figure is a mean over questions."""
        return frozenset()

    def data_files(self) -> list[Path]:
        """The question and annotation files that are there."""
        paths = [self._llava_path, self._question_path]
        paths += [self._annotation_path] if self.has_annotations else []
        return [found for path in paths if (found := find_optional(path))]

    def samples(self) -> list[Sample]:
        """All questions; in the order of the annotations, or of the question file without them.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        questions = {question.key: question for question in self._questions()}
        if not self.has_annotations:
            return [self._sample(question, None) for question in questions.values()]
        annotations = self._annotations
        path = self._llava_path if find_optional(self._llava_path) else self._question_path
        check_same_ids(questions, path, annotations, self._annotation_path)
        return [self._sample(questions[key], annotations[key]) for key in annotations]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key; the last of an id wins.

        Raises:
            DataError: an answer's id is not of the split, or a file is missing or malformed.
        """
        if self.has_annotations:
            ids = {key: annotation.question_id for key, annotation in self._annotations.items()}
        else:
            ids = {question.key: question.question_id for question in self._questions()}
        return match_by_id(answers, ids, task=self._title, foreign_is_error=True)

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a question, in the order of the annotation file.

        Raises:
            DataError: the split has no annotations, a file is missing or malformed, or a
                prediction's key is not of the split.
        """
        if not self.has_annotations:
            raise DataError(
                f"{self._title} has no public annotations, so that its answers cannot be scored "
                "here. Write the file for the server with runners.submit."
            )
        check_keys(predictions, self._annotations, self._title)
        return [
            self._score(key, annotation, predictions.get(key))
            for key, annotation in self._annotations.items()
        ]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The accuracy over all scores and by answer type and question type.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        return Aggregate(
            metrics={"vqa_accuracy": mean_score(scores)},
            breakdowns=break_down_all(scores, _FIELDS, "vqa_accuracy"),
        )

    @property
    def _title(self) -> str:
        return f"{self.name} {self.split}"

    def _image_name(self, image_id: int) -> str:
        return f"COCO_{self._image_subtype}_{image_id:012d}.jpg"

    def _questions(self) -> list[Question]:
        if find_optional(self._llava_path):
            return read_questions(self._llava_path)
        return [
            Question(
                question_id=require_id(record, "question_id", where),
                text=require(record, "question", str, where) + SHORT_ANSWER_SUFFIX,
                image_names=(self._image_name(require(record, "image_id", int, where)),),
                where=where,
                fields=record,
            )
            for where, record in self._records(self._question_path, "questions")
        ]

    def _records(self, path: Path, field: str) -> list[tuple[str, dict[str, Any]]]:
        """The entries of an official file's list, each with its place for messages."""
        content = read_json(
            path, f"{ORIGIN} (LLaVA's {self._llava_path.name} serves for questions)"
        )
        records = require(content, field, list, str(path))
        if not records:
            raise DataError(f"{path}: `{field}` is empty. Fetch the file again.")
        pairs = [(f"{path}: {field}[{index}]", record) for index, record in enumerate(records)]
        check_unique(
            (str(require_id(record, "question_id", where)) for where, record in pairs),
            str(path),
        )
        return pairs

    @cached_property
    def _annotations(self) -> dict[str, Annotation]:
        annotations = {}
        for where, record in self._records(self._annotation_path, "annotations"):
            annotation = _parse_annotation(record, where)
            annotations[str(annotation.question_id)] = annotation
        if find_optional(self._question_path):
            questions = self._records(self._question_path, "questions")
            check_same_ids(
                [str(record["question_id"]) for _, record in questions],
                self._question_path,
                annotations,
                self._annotation_path,
            )
        return annotations

    def _sample(self, question: Question, annotation: Annotation | None) -> Sample:
        text = replace_suffix(question, SHORT_ANSWER_SUFFIX, self.prompt_suffix)
        folder = self.data_dir / self._image_subtype
        return Sample(
            key=question.key,
            question_id=question.question_id,
            text=text,
            prompt=text,
            images=tuple(image_in(folder, name) for name in question.image_names),
            target=[record["answer"] for record in annotation.answers] if annotation else None,
            cluster=",".join(question.image_names) or question.key,
            groups=annotation.groups if annotation else {},
        )

    def _score(self, key: str, annotation: Annotation, prediction: Prediction | None) -> Score:
        value, answer = 0.0, None
        if prediction is not None:
            value, answer = score_vqa(prediction.text, annotation.answers)
        return Score(
            key=key,
            question_id=annotation.question_id,
            cluster=self._image_name(annotation.image_id),
            value=value,
            answer=answer,
            answered=prediction is not None,
            groups=annotation.groups,
        )


def _parse_annotation(record: dict[str, Any], where: str) -> Annotation:
    answers = require(record, "answers", list, where)
    if not answers or not all(
        isinstance(answer, dict) and isinstance(answer.get("answer"), str) for answer in answers
    ):
        raise DataError(
            f"{where}: `answers` must be a list of at least one object with a text under `answer`, "
            "one an annotator. Fetch the file again."
        )
    return Annotation(
        question_id=require_id(record, "question_id", where),
        image_id=require(record, "image_id", int, where),
        answers=answers,
        groups={name: require(record, name, str, where) for name in _FIELDS},
    )
