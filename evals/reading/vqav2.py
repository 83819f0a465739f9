"""VQAv2's official file format: lists of questions and of annotations.

Format: GT-Vision-Lab/VQA @ a013f004, README and `vqa.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.reading.files import collection_paused, require, require_id
from evals.reading.json_lists import iterate_json_list

FIELDS = ("answer_type", "question_type")
"""What questions are grouped by."""

Entry = tuple[str, dict[str, Any]]
"""One entry of a list, after its place for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What the annotators said to one question.

    Attributes:
        question_id: The official id.
        image_id: The number of the COCO image.
        answers: What each annotator said.
        records: One record an annotator, as in the file, where two of them cannot be told apart by
            their ids; otherwise None.
        groups: Answer type and question type.
    """

    question_id: int | str
    image_id: int
    answers: tuple[str, ...]
    records: list[dict[str, Any]] | None
    groups: Mapping[str, str | None]


def read_entries(path: Path, field: str, origin: str) -> Iterator[Entry]:
    """The entries of an official file's list in its order; they are not all held at once.

    Args:
        path: The file.
        field: The name of the list, `questions` or `annotations`.
        origin: Where the file is to be had, for messages.

    Raises:
        DataError: the file is missing or malformed, has an entry without an id, or an id twice.
    """
    return check_ids(iterate_json_list(path, field, origin))


def check_ids(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The same entries.

    Raises:
        DataError: one has no id, or an id occurs twice.
    """
    seen = set()
    for place, record in entries:
        key = str(require_id(record, "question_id", place))
        if key in seen:
            raise DataError(f"{place}: the id {key!r} occurs twice. Every id must occur once.")
        seen.add(key)
        yield place, record


def parse_annotations(entries: Iterable[Entry]) -> dict[str, Annotation]:
    """The annotations of entries by question id, in their order.

    Raises:
        DataError: an entry lacks a field.
    """
    groups: dict[tuple[str, ...], Mapping[str, str | None]] = {}
    annotations = (_parse_annotation(record, place, groups) for place, record in entries)
    with collection_paused():
        return {str(annotation.question_id): annotation for annotation in annotations}


def _parse_annotation(
    record: dict[str, Any],
    place: str,
    groups: dict[tuple[str, ...], Mapping[str, str | None]],
) -> Annotation:
    """One annotation; equal texts and equal groups are one object in all of them."""
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
    names = (require(record, FIELDS[0], str, place), require(record, FIELDS[1], str, place))
    return Annotation(
        question_id=record["question_id"],
        image_id=require(record, "image_id", int, place),
        answers=answers,
        records=None if len(ids) == len(records) else records,
        groups=groups.get(names) or groups.setdefault(names, dict(zip(FIELDS, names, strict=True))),
    )
