"""VQAv2's official file format: lists of questions and of annotations.

Format: GT-Vision-Lab/VQA @ a013f004, README and `vqa.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.reading.entries import Entry, mirror_entries, reword
from evals.reading.files import find_optional, iterate_json_list, require, require_id
from evals.reading.hub import HubTable
from evals.reading.images import image_in
from evals.reading.questions import (
    SHORT_ANSWER_SUFFIX,
    check_same_ids,
    read_questions,
    sample_of,
)
from evals.records import Sample

FIELDS = ("answer_type", "question_type")
"""What questions are grouped by."""

_NUM_NAMES = 4096


class VQAFiles:
    """The official files of one split, each of which is read once.

    Args:
        folder: The folder that they lie in.
        subtype: The split as file names have it.
        image_subtype: The same for its images, which may be those of a larger split.
        origin: Where the files are to be had, for messages.
    """

    def __init__(self, folder: Path, subtype: str, image_subtype: str, origin: str) -> None:
        self.questions = folder / f"v2_OpenEnded_mscoco_{subtype}_questions.json"
        self.annotations = folder / f"v2_mscoco_{subtype}_annotations.json"
        self.prompts = folder / f"llava_vqav2_mscoco_{subtype}.jsonl"
        self.images = folder / image_subtype
        self._image_subtype = image_subtype
        self._origin = f"{origin} (LLaVA's {self.prompts.name} serves for questions)"

    def image_name(self, image_id: int) -> str:
        """The file name of an image by its number."""
        return f"COCO_{self._image_subtype}_{image_id:012d}.jpg"

    def read_questions(self) -> list[Sample]:
        """The questions of a split without annotations, of LLaVA's file if it is there.

        Raises:
            DataError: the file is missing or malformed.
        """
        if find_optional(self.prompts):
            return [sample_of(line, self.images) for line in read_questions(self.prompts)]
        image = partial(image_in, self.images)
        found = iterate_json_list(self.questions, "questions", self._origin)
        return _parse_questions((Entry(*entry, image) for entry in found), self.image_name)

    def read_annotations(self) -> list[Sample]:
        """What the annotators said to each question; the file of the questions is not needed.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        found = iterate_json_list(self.annotations, "annotations", self._origin)
        texts = self._texts if find_optional(self.questions) else {}
        samples = _parse_annotations(found, self.image_name, texts)
        if texts:
            keys = [sample.key for sample in samples]
            check_same_ids(texts, self.questions, keys, self.annotations)
        return samples

    def ask(self, annotated: Mapping[str, Sample]) -> list[Sample]:
        """Annotated questions with their texts and images.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        if find_optional(self.prompts):
            return reword(
                annotated, prompts=self.prompts, annotations=self.annotations, images=self.images
            )
        asked = []
        for key, sample in annotated.items():
            text = self._texts[key] + SHORT_ANSWER_SUFFIX
            image = image_in(self.images, sample.cluster)
            asked.append(replace(sample, text=text, prompt=text, images=(image,)))
        return asked

    @cached_property
    def _texts(self) -> dict[str, str]:
        """The questions by id."""
        texts: dict[str, str] = {}
        for place, record in iterate_json_list(self.questions, "questions", self._origin):
            key = str(require_id(record, "question_id", place))
            if key in texts:
                raise DataError(f"{place}: the id {key!r} occurs twice. Every id must occur once.")
            texts[key] = require(record, "question", str, place)
        return texts


def read_mirror(
    mirror: HubTable, image_name: Callable[[int], str], *, has_annotations: bool
) -> list[Sample]:
    """The questions of a mirror, whose rows hold question and, if the split has any, annotation.

    `image_name` gives the file name of an image by its number.

    Raises:
        DataError: the mirror cannot be had, or a row lacks a field.
    """
    entries = mirror_entries(mirror)
    questions = _parse_questions(entries, image_name)
    if not has_annotations:
        return questions
    said = ((entry.place, entry.record) for entry in entries)
    annotated = _parse_annotations(said, image_name, {})
    return [
        replace(question, target=said.target, groups=said.groups, details=said.details)
        for question, said in zip(questions, annotated, strict=True)
    ]


def _parse_questions(entries: Iterable[Entry], image_name: Callable[[int], str]) -> list[Sample]:
    """The questions as they are put, without what the annotators said."""
    samples = []
    for place, record, image in entries:
        question_id = require_id(record, "question_id", place)
        name = image_name(require(record, "image_id", int, place))
        text = require(record, "question", str, place) + SHORT_ANSWER_SUFFIX
        sample = Sample(
            key=str(question_id),
            question_id=question_id,
            text=text,
            prompt=text,
            images=(image(name),),
            cluster=name,
        )
        samples.append(sample)
    return samples


def _parse_annotations(
    entries: Iterable[tuple[str, dict[str, Any]]],
    image_name: Callable[[int], str],
    texts: Mapping[str, str],
) -> list[Sample]:
    """What the annotators said to each question, whose image stands elsewhere.

    `texts` has the questions by id, with which stored prompts are compared. The target is what each
    annotator said. Where two of them cannot be told apart by their ids, `details` holds their
    records as well.
    """
    # Hundreds of thousands of questions share few groups and images: each is one object in all.
    groups: dict[tuple[str, str], Mapping[str, str | None]] = {}
    name_of = lru_cache(_NUM_NAMES)(image_name)
    samples = []
    for place, record in entries:
        question_id = require_id(record, "question_id", place)
        answers, records = parse_annotators(record, place)
        types = (require(record, FIELDS[0], str, place), require(record, FIELDS[1], str, place))
        group = groups.get(types)
        if group is None:
            group = groups[types] = dict(zip(FIELDS, types, strict=True))
        sample = Sample(
            key=str(question_id),
            question_id=question_id,
            text="",
            prompt=texts.get(str(question_id), ""),
            target=answers,
            cluster=name_of(require(record, "image_id", int, place)),
            groups=group,
            details=records,
        )
        samples.append(sample)
    return samples


def parse_annotators(
    record: dict[str, Any], place: str
) -> tuple[tuple[str, ...], list[dict[str, Any]] | None]:
    """What each annotator says in an annotation, and their records if ids do not tell them apart.

    Raises:
        DataError: `answers` is no list of at least one record with a text.
    """
    records = require(record, "answers", list, place)
    try:
        answers = tuple([sys.intern(answer["answer"]) for answer in records])
        ids = {answer.get("answer_id") for answer in records}
    except (TypeError, KeyError, AttributeError):
        answers, ids = (), set()
    if not answers:
        raise DataError(
            f"{place}: `answers` must be a list of at least one object with a text under `answer`, "
            "one an annotator. Fetch the file again."
        )
    return answers, None if len(ids) == len(records) else records
