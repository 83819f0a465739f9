r"""VizWiz-VQA: questions that blind people asked about their photos (Gurari et al., CVPR 2018).

Files, in `data_dir`: `<split>.json`, images in `<split>/VizWiz_<split>_%08d.jpg`; LLaVA's
`llava_<split>.jsonl` is read for the prompts where it is there. Mirror: `lmms-lab/VizWiz-VQA`.

One question: `{"image": "VizWiz_val_00000012.jpg", "question": "What is this?", "answers":
[{"answer": "clif bar", "answer_confidence": "yes"}, ...], "answer_type": "other", "answerable":
1}`; its id is the number in the image's name; the prompt: the question with a capital first letter,
a line that asks for `Unanswerable` where the image does not tell, and a line that asks for a single
word or phrase.

Metric: soft accuracy; the answer is always normalized, the annotators' answers never are. Official
code: the VizWiz VQA evaluator as in TRI-ML/vlm-evaluation @ d9f58967. Test is scored by the server.

Known deviations: figures are not rounded; a missing answer scores 0 and is counted.

Published: LLaVA-1.5-7B 50.0, 13B 53.6 (test-dev).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.benchmark import Upload
from evals.errors import DataError
from evals.figures.metrics import break_down_all, mean_score, require_scores
from evals.normalize import normalize_m4c, normalize_vizwiz
from evals.reading.answers import check_keys, match_by_id
from evals.reading.files import check_unique, find_all, find_optional, read_json, require
from evals.reading.hub import HubTable, check_source
from evals.reading.images import ImageSource, image_in
from evals.reading.questions import (
    SHORT_ANSWER_SUFFIX,
    Question,
    check_same_ids,
    read_questions,
    replace_suffix,
)
from evals.reading.releases import Release
from evals.records import Aggregate, Prediction, Sample, Score
from evals.scorers.vqa_accuracy import score_matches

ORIGIN = "https://vizwiz.org/tasks-and-datasets/vqa"
LLAVA_ORIGIN = "eval.zip in https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md"
UNANSWERABLE_HINT = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
_SPLITS = ("train", "val", "test")
_ANNOTATED = frozenset(["train", "val"])
_NUMBER = re.compile(r"(\d+)\.[^.]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoQuestion:
    """One entry of the official file.

    Attributes:
        question_id: The number in the image's name, or the id in LLaVA's question file.
        image: The image's file name.
        text: The prompt with the official suffix.
        answers: What the annotators said; None for a test split.
        answer_type: The type of the most common answer, None for a test split.
        place: File and entry, for messages.
        row: The row in the hub's table, -1 for files.
    """

    question_id: int | str
    image: str
    text: str
    answers: tuple[str, ...] | None
    answer_type: str | None
    place: str
    row: int


class VizWiz:
    """VizWiz-VQA on one split.

    Args:
        data_dir: The folder with the benchmark's files.
        split: `test`, `val` or `train`.
        prompt_suffix: What follows the question in the prompt.
        source: `files`, or `hub` for the mirror.
        max_new_tokens: The answer length that LLaVA's script uses.

    Raises:
        ValueError: there is no such split or source.
    """

    name = "vizwiz"
    definition = "vizwiz_official/1"
    primary_metric = "vqa_accuracy"
    primary_is_mean = True
    grouped_metrics: frozenset[str] = frozenset()
    grading = None
    releases: Mapping[str, Release] = {
        "val": Release(
            num_questions=4_319, num_images=4_319, files={"val.json": ORIGIN, "val": ORIGIN}
        ),
        "test": Release(
            num_questions=8_000,
            num_images=8_000,
            files={"test.json": ORIGIN, "llava_test.jsonl": LLAVA_ORIGIN, "test": ORIGIN},
        ),
    }

    def __init__(
        self,
        *,
        data_dir: str | Path,
        split: str = "test",
        prompt_suffix: str = UNANSWERABLE_HINT + SHORT_ANSWER_SUFFIX,
        source: str = "files",
        max_new_tokens: int = 128,
    ) -> None:
        if split not in _SPLITS:
            raise ValueError(f"`split` of vizwiz must be one of {list(_SPLITS)}, but is {split}.")
        check_source(self.name, source)
        self.data_dir = Path(data_dir)
        self.split = split
        self.prompt_suffix = prompt_suffix
        self.max_new_tokens = max_new_tokens
        self.has_annotations = split in _ANNOTATED
        self._title = f"{self.name} {split}"
        self._path = self.data_dir / f"{split}.json"
        self._llava_path = self.data_dir / f"llava_{split}.jsonl"
        self._hub: HubTable | None = None
        if source == "hub":
            self._hub = HubTable("lmms-lab/VizWiz-VQA", None, split, self.data_dir)

    def data_files(self) -> list[Path]:
        """The annotation and question files that are there."""
        if self._hub is not None:
            return self._hub.data_files()
        return find_all([self._llava_path, self._path])

    def samples(self) -> list[Sample]:
        """All questions, in the order of the official file.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        questions = self._questions
        prompts = {key: self._replace_suffix(question) for key, question in questions.items()}
        if self.has_annotations and self._hub is None and find_optional(self._llava_path):
            lines = {line.key: line for line in read_questions(self._llava_path)}
            check_same_ids(lines, self._llava_path, questions, self._path)
            prompts = {key: self._replace_suffix(_from_line(lines[key], -1)) for key in questions}
        return [self._sample(key, question, prompts[key]) for key, question in questions.items()]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key; the last of an id wins.

        Raises:
            DataError: an answer's id is not of the split, or a file is missing or malformed.
        """
        ids = {key: question.question_id for key, question in self._questions.items()}
        return match_by_id(answers, ids, task=self._title, foreign_is_error=True)

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a question, in the order of the official file.

        Raises:
            DataError: the split has no annotations, a file is missing or malformed, or a
                prediction's key is not of the split.
        """
        if not self.has_annotations:
            raise DataError(
                f"{self._title} has no public annotations, so that its answers cannot be scored "
                "here. Write the file for the server with runners.submit."
            )
        check_keys(predictions, self._questions, self._title)
        return [
            _score(key, question, predictions.get(key)) for key, question in self._questions.items()
        ]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The accuracy over all scores and by answer type.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        return Aggregate(
            metrics={"vqa_accuracy": mean_score(scores)},
            breakdowns=break_down_all(scores, ["answer_type"], "vqa_accuracy"),
        )

    @property
    def upload(self) -> Upload:
        """What the server takes."""
        return Upload(
            suffix=".json",
            server="https://eval.ai/web/challenges/challenge-page/2185/my-submission",
            render=lambda _, texts: self.render_submission(texts),
        )

    def submission_ids(self) -> tuple[list[str], frozenset[str]]:
        """The ids that the upload lists, in its order, and those that must have an answer.

        Raises:
            DataError: a file is missing or malformed.
        """
        return list(self._questions), frozenset(self._questions)

    def render_submission(self, texts: Mapping[str, str]) -> bytes:
        """The upload: a JSON array of image and normalized answer.

        Args:
            texts: The answer to every question by its id.
        """
        entries = [
            {"image": question.image, "answer": normalize_m4c(texts[key])}
            for key, question in self._questions.items()
        ]
        return json.dumps(entries).encode()

    @cached_property
    def _questions(self) -> dict[str, PhotoQuestion]:
        if self._hub is not None:
            found = [self._parse(p, _from_hub(row), n) for n, (p, row) in enumerate(self._hub.rows)]
        elif not self.has_annotations and find_optional(self._llava_path):
            found = [_from_line(line, -1) for line in read_questions(self._llava_path)]
        else:
            origin = f"{ORIGIN} (LLaVA's {self._llava_path.name} serves for a test split)"
            records = read_json(self._path, origin)
            if not isinstance(records, list) or not records:
                raise DataError(f"{self._path} must be a list of questions. Fetch the file again.")
            places = (f"{self._path}: [{number}]" for number in range(len(records)))
            pairs = zip(places, records, strict=True)
            found = [self._parse(place, record, -1) for place, record in pairs]
        questions = {str(question.question_id): question for question in found}
        if len(questions) != len(found):
            check_unique((question.question_id for question in found), self._title)
        return questions

    def _parse(self, place: str, record: Any, row: int) -> PhotoQuestion:
        image = require(record, "image", str, place)
        answers = answer_type = None
        if self.has_annotations:
            records = require(record, "answers", list, place)
            answers = tuple(require(answer, "answer", str, place) for answer in records)
            answer_type = require(record, "answer_type", str, place)
            if not answers:
                raise DataError(f"{place}: `answers` must not be empty. Fetch the file again.")
        text = require(record, "question", str, place).capitalize()
        return PhotoQuestion(
            question_id=_number_of(image, place),
            image=image,
            text=text + UNANSWERABLE_HINT + SHORT_ANSWER_SUFFIX,
            answers=answers,
            answer_type=answer_type,
            place=place,
            row=row,
        )

    def _replace_suffix(self, question: PhotoQuestion) -> str:
        line = Question(
            question_id=question.question_id,
            text=question.text,
            image_names=(question.image,),
            where=question.place,
            fields={},
        )
        return replace_suffix(line, UNANSWERABLE_HINT + SHORT_ANSWER_SUFFIX, self.prompt_suffix)

    def _sample(self, key: str, question: PhotoQuestion, prompt: str) -> Sample:
        image: ImageSource
        if self._hub is not None:
            image = self._hub.image(question.row, question.image)
        else:
            image = image_in(self.data_dir / self.split, question.image)
        return Sample(
            key=key,
            question_id=question.question_id,
            text=prompt,
            prompt=prompt,
            images=(image,),
            target=question.answers,
            cluster=question.image,
            groups={"answer_type": question.answer_type} if question.answer_type else {},
        )


def _number_of(image: str, place: str) -> int:
    found = _NUMBER.search(image)
    if found is None:
        raise DataError(
            f"{place}: `image` must end in a number and a suffix, but is {image!r}. Mend the entry."
        )
    return int(found[1])


def _from_line(line: Question, row: int) -> PhotoQuestion:
    if len(line.image_names) != 1:
        raise DataError(f"{line.where}: `image` must be one file name. Mend the line.")
    return PhotoQuestion(
        question_id=line.question_id,
        image=line.image_names[0],
        text=line.text,
        answers=None,
        answer_type=None,
        place=line.where,
        row=row,
    )


def _from_hub(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the mirror in the official form."""
    name = str(row.get("question_id"))
    return {
        "image": name if name.endswith(".jpg") else f"{name}.jpg",
        "question": row.get("question"),
        "answers": [{"answer": answer} for answer in row.get("answers") or []],
        "answer_type": row.get("category"),
    }


def _score(key: str, question: PhotoQuestion, prediction: Prediction | None) -> Score:
    value, answer = 0.0, None
    if prediction is not None and question.answers is not None:
        answer = normalize_vizwiz(prediction.text)
        value = score_matches(question.answers.count(answer), len(question.answers))
    return Score(
        key=key,
        question_id=question.question_id,
        cluster=question.image,
        value=value,
        answer=answer,
        answered=prediction is not None,
        groups={"answer_type": question.answer_type},
    )
