"""VQAv2: open questions about COCO images (Goyal et al., arXiv:1612.00837).

Files, in `data_dir`: `v2_OpenEnded_mscoco_<subtype>_questions.json` and, for val and demo,
`v2_mscoco_<subtype>_annotations.json`; images in `<subtype>/COCO_<subtype>_%012d.jpg` (test-dev2015
is a part of test2015 and shares its images). LLaVA's `llava_vqav2_mscoco_<subtype>.jsonl` is read
for the prompts where it is there. Mirror: `lmms-lab/VQAv2`.

One question: `{"image_id": 262148, "question": "Where is he looking?", "question_id": 262148000}`;
its annotation: `{"question_id": 262148000, "image_id": 262148, "question_type": "none of the
above", "answer_type": "other", "multiple_choice_answer": "down", "answers": [{"answer": "down",
"answer_confidence": "yes", "answer_id": 1}, ...]}`; the prompt: `Where is he looking?` and a line
that asks for a single word or phrase.

Metric: soft accuracy over the annotators. Unless the annotators all agree, answers are normalized
first; if they do, nothing is, so that `Yes` against ten `yes` scores 0. Official code:
GT-Vision-Lab/VQA @ a013f004, `vqaEval.py`. Test splits are scored by the server only.

Variants: `normalization="always"` normalizes in every case, as other harnesses do.

Known deviations: figures are not rounded; the official script rounds to two decimals of a percent.
A missing answer scores 0 and is counted, where the official script stops.

Published: LLaVA-1.5-7B 78.5, 13B 80.0 (test-dev).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.figures.metrics import break_down_all, mean_score, require_scores
from evals.normalize import normalize_m4c
from evals.reading.answers import check_keys, match_by_id
from evals.reading.files import collection_paused, find_all, find_optional, require, require_id
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
from evals.reading.vqav2 import (
    FIELDS,
    Annotation,
    Entry,
    check_ids,
    parse_annotations,
    read_entries,
)
from evals.records import Aggregate, Prediction, Sample, Score
from evals.scorers.vqa_accuracy import score_vqa, score_vqa_texts

ORIGIN = "https://visualqa.org/download.html"
LLAVA_ORIGIN = "eval.zip in https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md"
COCO_ORIGIN = "http://images.cocodataset.org/zips"
_SUBTYPES = {
    "val": "val2014",
    "test-dev2015": "test-dev2015",
    "test2015": "test2015",
    "demo": "demo",
}
_IMAGE_SUBTYPES = {"test-dev2015": "test2015"}
_ANNOTATED = frozenset(["val", "demo"])
_HUB_SPLITS = {"val": "validation", "test-dev2015": "testdev", "test2015": "test"}
_NORMALIZATIONS = {"official": "vqa_official/1", "always": "vqa_always_normalized/1"}


class VQAv2:
    """VQAv2 on one split.

    Args:
        data_dir: The folder with the benchmark's files.
        split: `val`, `test-dev2015`, `test2015` or `demo`.
        prompt_suffix: What follows the question in the prompt.
        normalization: `official`, or `always` for answers on which all annotators agree too.
        source: `files`, or `hub` for the mirror.
        max_new_tokens: The answer length that LLaVA's script uses.

    Raises:
        ValueError: there is no such split, normalization or source.
    """

    name = "vqav2"
    primary_metric = "vqa_accuracy"
    primary_is_mean = True
    grouped_metrics: frozenset[str] = frozenset()
    submission_suffix = ".json"
    submission_server = "https://eval.ai/web/challenges/challenge-page/830/my-submission"
    releases: Mapping[str, Release] = {
        "val": Release(
            num_questions=214_354,
            num_images=40_504,
            files={
                "v2_OpenEnded_mscoco_val2014_questions.json": ORIGIN,
                "v2_mscoco_val2014_annotations.json": ORIGIN,
                "val2014": f"{COCO_ORIGIN}/val2014.zip",
            },
        ),
        "test-dev2015": Release(
            num_questions=107_394,
            files={
                "v2_OpenEnded_mscoco_test-dev2015_questions.json": ORIGIN,
                "llava_vqav2_mscoco_test-dev2015.jsonl": LLAVA_ORIGIN,
                "test2015": f"{COCO_ORIGIN}/test2015.zip",
            },
        ),
        "test2015": Release(
            num_questions=447_793,
            num_images=81_434,
            files={
                "v2_OpenEnded_mscoco_test2015_questions.json": ORIGIN,
                "llava_vqav2_mscoco_test2015.jsonl": LLAVA_ORIGIN,
                "test2015": f"{COCO_ORIGIN}/test2015.zip",
            },
        ),
    }

    def __init__(
        self,
        *,
        data_dir: str | Path,
        split: str = "test-dev2015",
        prompt_suffix: str = SHORT_ANSWER_SUFFIX,
        normalization: str = "official",
        source: str = "files",
        max_new_tokens: int = 128,
    ) -> None:
        if split not in _SUBTYPES:
            raise ValueError(f"`split` of vqav2 must be one of {list(_SUBTYPES)}, but is {split}.")
        if normalization not in _NORMALIZATIONS:
            known = list(_NORMALIZATIONS)
            raise ValueError(f"`normalization` must be one of {known}, but is {normalization}.")
        check_source(self.name, source)
        self.data_dir = Path(data_dir)
        self.split = split
        self.definition = _NORMALIZATIONS[normalization]
        self.prompt_suffix = prompt_suffix
        self.normalization = normalization
        self.max_new_tokens = max_new_tokens
        self.has_annotations = split in _ANNOTATED
        self._title = f"{self.name} {split}"
        subtype = _SUBTYPES[split]
        self._image_subtype = _IMAGE_SUBTYPES.get(subtype, subtype)
        self._question_path = self.data_dir / f"v2_OpenEnded_mscoco_{subtype}_questions.json"
        self._annotation_path = self.data_dir / f"v2_mscoco_{subtype}_annotations.json"
        self._llava_path = self.data_dir / f"llava_vqav2_mscoco_{subtype}.jsonl"
        self._hub: HubTable | None = None
        if source == "hub" and split in _HUB_SPLITS:
            self._hub = HubTable("lmms-lab/VQAv2", None, _HUB_SPLITS[split], self.data_dir)

    def data_files(self) -> list[Path]:
        """The question and annotation files that are there."""
        if self._hub is not None:
            return self._hub.data_files()
        paths = [self._llava_path, self._question_path]
        return find_all([*paths, self._annotation_path] if self.has_annotations else paths)

    def samples(self) -> list[Sample]:
        """All questions; in the order of the annotations, or of the question file without them.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        questions = {question.key: question for question in self.questions()}
        if not self.has_annotations:
            return [self._sample(question, None) for question in questions.values()]
        annotations = self._annotations
        if self._hub is not None:
            return [self._sample(questions[key], annotations[key]) for key in annotations]
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
            ids = {question.key: question.question_id for question in self.questions()}
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
        with collection_paused():
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
            breakdowns=break_down_all(scores, FIELDS, "vqa_accuracy"),
        )

    def submission_ids(self) -> tuple[list[str], frozenset[str]]:
        """All ids of test2015, and those of the split; the upload of a part lists the whole.

        Without the split's own question file, no id must have an answer.

        Raises:
            DataError: there is no server for the split, or a file is missing or malformed.
        """
        if self.split not in ("test-dev2015", "test2015"):
            raise DataError(
                f"{self._title} has no server that takes answers. Set "
                "tasks.vqav2.split=test-dev2015 or tasks.vqav2.split=test2015."
            )
        listed = [question.key for question in self._whole]
        is_known = self._hub or find_all([self._llava_path, self._question_path])
        required = [question.key for question in self.questions()] if is_known else []
        return listed, frozenset(required)

    def render_submission(self, texts: Mapping[str, str]) -> bytes:
        """The upload: a JSON array of id and normalized answer over all of test2015.

        Args:
            texts: The answer to every question of test2015 by its id, empty where there is none.
        """
        entries = [
            {"question_id": question.question_id, "answer": normalize_m4c(texts[question.key])}
            for question in self._whole
        ]
        return json.dumps(entries).encode()

    @cached_property
    def _whole(self) -> list[Question]:
        """The questions of test2015, which the upload of a part of it lists too."""
        source = "files" if self._hub is None else "hub"
        return VQAv2(data_dir=self.data_dir, split="test2015", source=source).questions()

    def _image_name(self, image_id: int) -> str:
        return f"COCO_{self._image_subtype}_{image_id:012d}.jpg"

    def questions(self) -> list[Question]:
        """The questions of the split with the official prompts, in the file's order.

        Raises:
            DataError: the file is missing or malformed.
        """
        if self._hub is None and find_optional(self._llava_path):
            return read_questions(self._llava_path)
        return [
            Question(
                question_id=require_id(record, "question_id", where),
                text=require(record, "question", str, where) + SHORT_ANSWER_SUFFIX,
                image_names=(self._image_name(require(record, "image_id", int, where)),),
                where=where,
                fields=record,
            )
            for where, record in self._entries(self._question_path, "questions")
        ]

    def _entries(self, path: Path, field: str) -> Iterator[Entry]:
        """The entries of an official file's list."""
        if self._hub is not None:
            return check_ids(self._hub.rows)  # a row holds question and annotation
        origin = f"{ORIGIN} (LLaVA's {self._llava_path.name} serves for questions)"
        return read_entries(path, field, origin)

    @cached_property
    def _annotations(self) -> dict[str, Annotation]:
        annotations = parse_annotations(self._entries(self._annotation_path, "annotations"))
        if self._hub is None and find_optional(self._question_path):
            questions = self._entries(self._question_path, "questions")
            ids = (str(record["question_id"]) for _, record in questions)
            check_same_ids(ids, self._question_path, annotations, self._annotation_path)
        return annotations

    @cached_property
    def _hub_rows(self) -> dict[str, int]:
        """The row of every question of the mirror."""
        rows = self._hub.rows if self._hub is not None else []
        return {str(record["question_id"]): row for row, (_, record) in enumerate(rows)}

    def _image(self, question: Question, name: str) -> ImageSource:
        if self._hub is not None:
            return self._hub.image(self._hub_rows[question.key], name)
        return image_in(self.data_dir / self._image_subtype, name)

    def _sample(self, question: Question, annotation: Annotation | None) -> Sample:
        text = replace_suffix(question, SHORT_ANSWER_SUFFIX, self.prompt_suffix)
        return Sample(
            key=question.key,
            question_id=question.question_id,
            text=text,
            prompt=text,
            images=tuple(self._image(question, name) for name in question.image_names),
            target=list(annotation.answers) if annotation else None,
            cluster=",".join(question.image_names) or question.key,
            groups=annotation.groups if annotation else {},
        )

    def _score(self, key: str, annotation: Annotation, prediction: Prediction | None) -> Score:
        value, answer = 0.0, None
        if prediction is not None:
            always = self.normalization == "always"
            if annotation.records is None:
                value, answer = score_vqa_texts(
                    prediction.text, annotation.answers, always_normalize=always
                )
            else:
                value, answer = score_vqa(
                    prediction.text, annotation.records, always_normalize=always
                )
        return Score(
            key=key,
            question_id=annotation.question_id,
            cluster=self._image_name(annotation.image_id),
            value=value,
            answer=answer,
            answered=prediction is not None,
            groups=annotation.groups,
        )
