"""The entries of a benchmark: of its official files, or of a mirror on the hub.

An entry knows where it stands and how to find its image, so that whoever parses it need not know
which of the two it is from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from evals.errors import DataError
from evals.reading.files import find_all, find_optional, require
from evals.reading.hub import HubTable
from evals.reading.images import ImageSource, image_in
from evals.reading.questions import check_same_ids, read_questions
from evals.records import Sample

logger = logging.getLogger(__name__)


class ImageFinder(Protocol):
    """Finds the image that an entry belongs to."""

    def __call__(self, name: str, /, *, convert_rgb: bool = True) -> ImageSource:
        """The image under a name; it is not opened."""


class Entry(NamedTuple):
    """One entry of an official file, or one row of a mirror.

    Attributes:
        place: File and entry, for messages.
        record: What stands there.
        image: Finds the entry's image, given the name that it has in the official files.
    """

    place: str
    record: dict[str, Any]
    image: ImageFinder


def question_about(
    image: ImageSource | Sequence[ImageSource],
    question_id: str | int,
    text: str,
    *,
    key: str = "",
    target: Any = None,
    groups: Mapping[str, str | None] | None = None,
    details: Any = None,
) -> Sample:
    """A question about an image, several or none, known by its id unless it has its own key."""
    images = tuple(image) if isinstance(image, Sequence) else (image,)
    key = key or str(question_id)
    return Sample(
        key=key,
        question_id=question_id,
        text=text,
        prompt=text,
        images=images,
        target=target,
        cluster=",".join(one.key for one in images) or key,
        groups=groups or {},
        details=details,
    )


def file_entries(content: Any, field: str, path: Path, images: Path) -> list[Entry]:
    """The entries of the list `field` in the object that the official file at `path` holds.

    `images` is the folder that image names are relative to.

    Raises:
        DataError: there is no such list, or it is empty.
    """
    records = require(content, field, list, str(path))
    if not records:
        raise DataError(f"{path}: `{field}` is empty. Fetch the file again.")
    return _entries(records, f"{path}: {field}", images)


def list_entries(content: Any, path: Path, images: Path) -> list[Entry]:
    """The entries of the list that the official file at `path` holds; `images` is as above.

    Raises:
        DataError: it is no list, or an empty one.
    """
    if not isinstance(content, list) or not content:
        raise DataError(f"{path} must be a list of questions. Fetch the file again.")
    return _entries(content, f"{path}: ", images)


def _entries(records: list[Any], place: str, images: Path) -> list[Entry]:
    image = partial(image_in, images)
    return [Entry(f"{place}[{number}]", record, image) for number, record in enumerate(records)]


def mirror_entries(
    mirror: HubTable, as_official: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> list[Entry]:
    """The rows of a mirror; `as_official` gives them the official fields where they have others.

    Raises:
        DataError: the mirror cannot be had, or is empty.
    """
    return [
        Entry(place, as_official(row), partial(mirror.image, number))
        for number, (place, row) in enumerate(mirror.rows)
    ]


def has_answers(record: Any) -> bool:
    """Whether an entry says what annotators answered: its `answers` are not all empty.

    >>> has_answers({"answers": ["cat"]}), has_answers({"answers": ["", {"answer": ""}]})
    (True, False)
    """
    answers = record.get("answers") if isinstance(record, dict) else None
    if not isinstance(answers, list):
        return False
    return any(said.get("answer") if isinstance(said, dict) else said for said in answers)


def files_of(mirror: HubTable | None, *paths: Path) -> Callable[[], list[Path]]:
    """What finds the files that decide questions and scores: the mirror's, or those at `paths`."""
    return partial(find_all, paths) if mirror is None else mirror.data_files


def reword(
    questions: Mapping[str, Sample],
    *,
    prompts: Path | None,
    annotations: Path,
    images: Path | None = None,
    key: Callable[[str], str] = str,
    spare: int | None = None,
) -> list[Sample]:
    """The questions with the texts of LLaVA's question file where that is there.

    Args:
        questions: The questions by key.
        prompts: LLaVA's question file; None where the questions are not from files.
        annotations: The official file, for messages.
        images: The folder of the images that LLaVA's file names, where they are to be taken too.
        key: The key of a question by its id in LLaVA's file.
        spare: The level at which it is logged that LLaVA's file has further questions, which are
            left out; None where it may not have any.

    Raises:
        DataError: LLaVA's file is malformed, or of other questions.
    """
    if prompts is None or find_optional(prompts) is None:
        return list(questions.values())
    lines = {key(line.key): line for line in read_questions(prompts)}
    further = [] if spare is None else [name for name in lines if name not in questions]
    if spare is not None and further:
        logger.log(
            spare,
            "%s: %d questions are not asked, since %s does not have them (for example %s)",
            prompts,
            len(further),
            annotations,
            further[0],
        )
    asked = [name for name in lines if name in questions] if further else lines
    check_same_ids(asked, prompts, questions, annotations, is_optional=True)
    reworded = []
    for name, sample in questions.items():
        line = lines[name]
        sources = sample.images if images is None else (image_in(images, line.image_name),)
        reworded.append(replace(sample, text=line.text, prompt=line.text, images=sources))
    return reworded
