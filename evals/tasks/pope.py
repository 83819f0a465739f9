r"""POPE: is an object in the image, or imagined by the model (Li et al., arXiv:2305.10355).

Files, in `data_dir`: `coco/coco_pope_{random,popular,adversarial}.json` with one JSON object a
line, images in `val2014/`; LLaVA's `llava_pope_test.jsonl` gives prompts, ids and order where it is
there. Mirror: `lmms-lab/POPE` (9,000 questions).

One question: `{"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a
snowboard in the image?", "label": "yes"}`; the prompt: the question and a line that asks for a
single word or phrase.

Metric: F1 of finding the objects that are there, the mean over the three categories. Official code:
haotian-liu/LLaVA @ c121f043, `eval_pope.py`.

Known deviations: answers find their labels by category, image and question; the official script
pairs them by position. A figure whose denominator is 0 is None, where the official script stops.

Published: LLaVA-1.5-7B 85.9, 13B 85.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.figures.metrics import group_by, mean, require_scores
from evals.reading.answers import check_keys, match_by_id
from evals.reading.files import find_all, find_optional, read_jsonl, require
from evals.reading.hub import HubTable, check_source
from evals.reading.images import ImageSource, image_in
from evals.reading.questions import SHORT_ANSWER_SUFFIX, Question, read_questions, replace_suffix
from evals.reading.releases import Release
from evals.records import Aggregate, Prediction, Sample, Score
from evals.scorers.yes_no import binary_figures, count_missing_as_wrong, parse_pope

CATEGORIES = {"adversarial": 0, "random": 10_000_000, "popular": 20_000_000}
"""The categories in the order of LLaVA's file, and what it adds to the ids of each."""

ORIGIN = "https://github.com/RUCAIBox/POPE/tree/e3e39262/output/coco"
LATER_ORIGIN = "https://github.com/RUCAIBox/POPE/tree/main/output/coco"
LLAVA_ORIGIN = "eval.zip in https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md"
COCO_ORIGIN = "http://images.cocodataset.org/zips/val2014.zip"
_NUM_QUESTIONS = (8_910, 9_000)
_LATER = (
    "that is the later release with 3,000 random questions. Fetch the files from "
    f"{ORIGIN}, or set questions=9000 to evaluate on that release."
)
_EARLIER = "that is the release of the published figures. Set questions=8910 to evaluate on it."


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectQuestion:
    """One question with its label.

    Attributes:
        question_id: The id in answer files.
        category: How the object was chosen.
        image: The image's file name.
        text: The prompt with the official suffix.
        label: Whether the object is there, `yes` or `no`.
        place: File and line, for messages.
        source: The image.
    """

    question_id: int | str
    category: str
    image: str
    text: str
    label: str
    place: str
    source: ImageSource


class POPE:
    """POPE on COCO images.

    Args:
        data_dir: The folder with the benchmark's files.
        questions: 8910 for the release of the published figures, 9000 for the later one.
        prompt_suffix: What follows the question in the prompt.
        source: `files`, or `hub` for the mirror.
        max_new_tokens: The answer length that LLaVA's script uses.

    Raises:
        ValueError: there is no such release or source.
    """

    name = "pope"
    split = "coco"
    primary_metric = "f1"
    upload = None
    grading = None
    primary_is_mean = False
    has_annotations = True
    grouped_metrics: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        data_dir: str | Path,
        questions: int | str = 8_910,
        prompt_suffix: str = SHORT_ANSWER_SUFFIX,
        source: str = "files",
        max_new_tokens: int = 128,
    ) -> None:
        if str(questions) not in map(str, _NUM_QUESTIONS):
            raise ValueError(
                f"`questions` of pope must be one of {list(_NUM_QUESTIONS)}, but is {questions}."
            )
        questions = int(questions)  # text in the manifests of earlier versions
        check_source(self.name, source)
        self.data_dir = Path(data_dir)
        self.definition = "pope_llava/1" if questions == 8_910 else f"pope_llava_{questions}/1"
        self.prompt_suffix = prompt_suffix
        self.max_new_tokens = max_new_tokens
        self._llava_path = self.data_dir / "llava_pope_test.jsonl"
        self._hub: Mapping[str, HubTable] = {}
        if source == "hub":
            self._hub = {
                category: HubTable("lmms-lab/POPE", "Full", category, self.data_dir)
                for category in CATEGORIES
            }
        labels = ORIGIN if questions == 8_910 else LATER_ORIGIN
        files = {f"coco/coco_pope_{category}.json": labels for category in CATEGORIES}
        self.releases: Mapping[str, Release] = {
            "coco": Release(
                num_questions=questions,
                num_images=500,
                files={**files, "llava_pope_test.jsonl": LLAVA_ORIGIN, "val2014": COCO_ORIGIN},
                other_releases={9_000: _LATER} if questions == 8_910 else {8_910: _EARLIER},
            )
        }

    def data_files(self) -> list[Path]:
        """The question and label files that are there."""
        if self._hub:
            return [path for table in self._hub.values() for path in table.data_files()]
        return find_all([self._llava_path, *map(self._label_path, CATEGORIES)])

    def samples(self) -> list[Sample]:
        """All questions, in the order of LLaVA's file.

        Raises:
            DataError: a file is missing or malformed, the files do not belong together, or they
                are of another release.
        """
        questions = self._questions
        return [self._sample(key, question) for key, question in questions.items()]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key; the last of an id wins.

        Raises:
            DataError: an answer's id is foreign, or a file is missing or malformed.
        """
        ids = {key: question.question_id for key, question in self._questions.items()}
        return match_by_id(answers, ids, task=self.name, foreign_is_error=True)

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a question, in the order of LLaVA's file.

        Raises:
            DataError: a file is missing or malformed, or a prediction's key is foreign.
        """
        check_keys(predictions, self._questions, self.name)
        return [
            _score(key, question, predictions.get(key)) for key, question in self._questions.items()
        ]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The mean F1 of the categories, and the figures of each.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        table = {
            category: binary_figures(
                count_missing_as_wrong(score.answer, score.details["label"]) for score in group
            )
            for category, group in group_by(scores, "category").items()
        }
        f1 = [row["f1"] for row in table.values()]
        known = [value for value in f1 if value is not None]
        return Aggregate(
            metrics={"f1": mean(known) if len(known) == len(f1) else None},
            breakdowns={"category": table},
            averaged_groups=frozenset(table),
        )

    def _label_path(self, category: str) -> Path:
        return self.data_dir / "coco" / f"coco_pope_{category}.json"

    @cached_property
    def _questions(self) -> dict[str, ObjectQuestion]:
        labeled = [
            question for category in CATEGORIES for question in self._read_category(category)
        ]
        by_content: dict[tuple[str, str, str], ObjectQuestion] = {}
        for question in labeled:
            content = _content(question.category, question.image, question.text)
            if content in by_content:
                raise DataError(f"{question.place} repeats {content!r}. Fetch the file again.")
            by_content[content] = question
        if not self._hub and find_optional(self._llava_path):
            labeled = self._join(read_questions(self._llava_path), by_content)
        return {str(question.question_id): question for question in labeled}

    def _read_category(self, category: str) -> list[ObjectQuestion]:
        questions = []
        for row, (place, record) in enumerate(self._records(category)):
            number = _parse_number(require(record, "question_id", (int, str), place), place)
            image = require(record, "image", str, place)
            source: ImageSource = image_in(self.data_dir / "val2014", image)
            if self._hub:
                source = self._hub[category].image(row, image)
            questions.append(
                ObjectQuestion(
                    question_id=CATEGORIES[category] + number,
                    category=category,
                    image=image,
                    text=require(record, "text", str, place) + SHORT_ANSWER_SUFFIX,
                    label=require(record, "label", str, place),
                    place=place,
                    source=source,
                )
            )
        if not questions:
            raise DataError(f"{self._label_path(category)} is empty. Fetch the file again.")
        return questions

    def _records(self, category: str) -> list[tuple[str, dict[str, Any]]]:
        if self._hub:
            rows = self._hub[category].rows
            return [
                (place, _from_hub(row, f"{category}-{n}")) for n, (place, row) in enumerate(rows)
            ]
        path = self._label_path(category)
        return [(f"{path}:{number}", record) for number, record in read_jsonl(path, ORIGIN)]

    def _join(
        self, lines: list[Question], labeled: Mapping[tuple[str, str, str], ObjectQuestion]
    ) -> list[ObjectQuestion]:
        """The questions of LLaVA's file with the labels of the official ones."""
        joined, used = [], set()
        for line in lines:
            category = require(line.fields, "category", str, line.where)
            image = line.image_names[0] if line.image_names else ""
            content = _content(category, image, line.text)
            official = labeled.get(content)
            if official is None or content in used:
                raise DataError(
                    f"{line.where}: {category} {image} {content[2]!r} has no label of its own in "
                    f"{self._label_path(category)}. Both files must be of one release ({ORIGIN})."
                )
            used.add(content)
            joined.append(
                ObjectQuestion(
                    question_id=line.question_id,
                    category=category,
                    image=image,
                    text=line.text,
                    label=official.label,
                    place=line.where,
                    source=official.source,
                )
            )
        if len(used) < len(labeled):
            raise DataError(
                f"{self._llava_path} lacks {len(labeled) - len(used):,} of the {len(labeled):,} "
                f"questions in {self.data_dir / 'coco'}. Both must be of one release ({ORIGIN})."
            )
        return joined

    def _sample(self, key: str, question: ObjectQuestion) -> Sample:
        line = Question(
            question_id=question.question_id,
            text=question.text,
            image_names=(question.image,),
            where=question.place,
            fields={},
        )
        prompt = replace_suffix(line, SHORT_ANSWER_SUFFIX, self.prompt_suffix)
        return Sample(
            key=key,
            question_id=question.question_id,
            text=prompt,
            prompt=prompt,
            images=(question.source,),
            target=question.label,
            cluster=question.image,
            groups={"category": question.category},
        )


def _parse_number(question_id: int | str, place: str) -> int:
    if isinstance(question_id, str) and not question_id.isdecimal():
        raise DataError(f"{place}: `question_id` must be a number, but is {question_id!r}.")
    return int(question_id)


def _content(category: str, image: str, text: str) -> tuple[str, str, str]:
    return category, image, text.split("\n", maxsplit=1)[0]


def _from_hub(row: dict[str, Any], name: str) -> dict[str, Any]:
    """A row of the mirror in the official form; without the image's name every row has its own."""
    image = row.get("image_source") or name
    return {
        "question_id": row.get("question_id"),
        "image": image if str(image).endswith(".jpg") else f"{image}.jpg",
        "text": row.get("question"),
        "label": row.get("answer"),
    }


def _score(key: str, question: ObjectQuestion, prediction: Prediction | None) -> Score:
    answer = None if prediction is None else parse_pope(prediction.text)
    label = "no" if question.label == "no" else "yes"
    return Score(
        key=key,
        question_id=question.question_id,
        cluster=question.image,
        value=float(answer == label),
        answer=answer,
        answered=prediction is not None,
        groups={"category": question.category},
        details={"label": label},
    )
