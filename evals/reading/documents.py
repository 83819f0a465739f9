"""The files of DocVQA and InfographicVQA, which have one format.

Format: rrc.cvc.uab.es, challenge 17.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.reading.entries import Entry, file_entries, mirror_entries, question_about
from evals.reading.files import is_number, read_json, require, require_id, require_texts
from evals.reading.hub import HubTable
from evals.reading.questions import SHORT_ANSWER_SUFFIX
from evals.records import Sample

SERVER = "https://rrc.cvc.uab.es/?ch=17"
"""Where answers to the test splits are scored, and the files are to be had."""

ImageName = Callable[[dict[str, Any], str], str]
"""Gives the name of an entry's image, from its record and its place."""


def document_entries(table: HubTable | None, path: Path, origin: str) -> list[Entry]:
    """The entries of the table, or without one of the official file, whose images lie beside it.

    Raises:
        DataError: they cannot be had, or are malformed.
    """
    if table is not None:
        return mirror_entries(table)
    return file_entries(read_json(path, origin), "data", path, path.parent)


def parse_document(
    entry: Entry, image_name: ImageName, fields: Iterable[str], *, has_answers: bool
) -> Sample:
    """The question of an entry; its details are its labels in each of some fields.

    Raises:
        DataError: a field is missing or malformed, or there must be answers and are none.
    """
    place, record, image = entry
    labels = {
        field: require_texts(record, field, place)
        for field in fields
        if record.get(field) is not None  # only some files have them
    }
    answers = require_texts(record, "answers", place) if has_answers else None
    if has_answers and not answers:
        raise DataError(f"{place}: `answers` must not be empty. Fetch the file again.")
    return question_about(
        image(image_name(record, place)),
        require_id(record, "questionId", place),
        require(record, "question", str, place) + SHORT_ANSWER_SUFFIX,
        target=answers,
        groups={field: ", ".join(words) or None for field, words in labels.items()},
        details=labels,
    )


def render_upload(questions: Mapping[str, Sample], texts: Mapping[str, str]) -> bytes:
    """The server's file: a JSON array of ids, as numbers, and answers.

    Raises:
        DataError: an id is no number.
    """
    entries = []
    for key, question in questions.items():
        if not is_number(key):
            raise DataError(
                f"The server takes numbers for ids, but a question has the id {key[:80]!r}. Fetch "
                "the question file again."
            )
        entries.append({"questionId": int(question.question_id), "answer": texts[key]})
    return json.dumps(entries).encode()
