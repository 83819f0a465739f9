"""HallusionBench's questions, in the form of the official file and of the hub."""

from __future__ import annotations

from types import NoneType
from typing import NamedTuple

from evals.errors import DataError
from evals.reading.entries import Entry, question_about
from evals.reading.files import require
from evals.records import Sample
from evals.scorers.hallusionbench import Place

_KNOWN = {"category": ("VD", "VS"), "visual_input": ("0", "1", "2"), "gt_answer": ("0", "1")}
_WORDS = {"0": "no", "1": "yes"}


class Target(NamedTuple):
    """The right word, and what the judge is told to be right."""

    word: str
    reference: str


def parse_entry(entry: Entry) -> Sample:
    """The question of an entry, by the names and numbers of its `Place`, which are its details.

    Raises:
        DataError: a field is missing, or has a value that none has.
    """
    where, record, image = entry
    place = Place(*(require(record, name, str, where) for name in Place._fields))
    for field, known in _KNOWN.items():
        if (value := require(record, field, str, where)) not in known:
            raise DataError(
                f"{where}: `{field}` must be one of {', '.join(known)}, but is {value[:80]!r}. "
                "Fetch the file again."
            )
    file = require(record, "filename", (str, NoneType), where)
    reference = require(record, "gt_answer_details", str, where)
    return question_about(
        () if file is None else image(file),
        "_".join(place[:-1]),
        require(record, "question", str, where),
        target=Target(_WORDS[record["gt_answer"]], reference),
        groups={"category": place.category, "subcategory": "_".join(place[:2])},
        details=place,
    )
