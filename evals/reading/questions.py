"""LLaVA's question files: one JSON object a line with `question_id`, `image` and `text`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from evals.errors import DataError
from evals.reading.files import (
    TRAINING_HINT,
    check_unique,
    find_file,
    iterate_jsonl,
    require,
    require_id,
)
from evals.reading.images import ImageSource, image_in
from evals.records import Sample

SHORT_ANSWER_SUFFIX = "\nAnswer the question using a single word or phrase."
_NUM_GROUPS = 4096
_NO_GROUPS: Mapping[str, str | None] = {}  # one object for hundreds of thousands of questions
LETTER_SUFFIX = "\nAnswer with the option's letter from the given choices directly."
UNANSWERABLE_SUFFIX = (
    "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
    + SHORT_ANSWER_SUFFIX
)


class Question(NamedTuple):
    """One line of a question file.

    Attributes:
        question_id: The id as it stands in the file.
        text: The prompt text, suffix included.
        image_names: File names relative to the image folder; empty for a text-only question.
        path: The file.
        number: Of the line, from 1.
        fields: The whole object of the line.
    """

    question_id: str | int
    text: str
    image_names: tuple[str, ...]
    path: Path
    number: int
    fields: dict[str, Any]

    @property
    def key(self) -> str:
        """The id as text."""
        return str(self.question_id)

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.path}:{self.number}"

    @property
    def image_name(self) -> str:
        """The file name of the only image.

        Raises:
            DataError: there is none, or there are several.
        """
        if len(self.image_names) != 1:
            raise DataError(f"{self.where}: `image` must be one file name. Mend the line.")
        return self.image_names[0]


def lettered_lines(options: Sequence[str]) -> str:
    r"""One line an option, with its letter in front.

    >>> lettered_lines(["a cup", "a fox"])
    'A. a cup\nB. a fox'
    """
    return "\n".join(f"{chr(ord('A') + n)}. {option}" for n, option in enumerate(options))


def read_questions(path: str | Path, origin: str = "") -> Iterator[Question]:
    """The questions of a file, one after the other in the file's order.

    Raises where a fault is come to:
        DataError: the file is missing or empty, a line is broken or lacks a field, an id occurs
            twice.
    """
    first: dict[str, int] = {}
    for question in read_question_lines(path, origin):
        if (number := first.setdefault(question.key, question.number)) != question.number:
            raise DataError(
                f"{question.where} repeats the question id {question.key!r} of "
                f"{question.path}:{number}. Every id must occur once; rename or remove one."
            )
        yield question


def read_question_lines(path: str | Path, origin: str = "") -> Iterator[Question]:
    """The questions of a file whose ids may occur several times, in the file's order.

    Raises where a fault is come to:
        DataError: the file is missing or empty, or a line is broken or lacks a field.
    """
    path, is_empty = find_file(path, origin), True
    for number, record in iterate_jsonl(path):
        where = f"{path}:{number}"
        if lacking := [f"`{name}`" for name in ("question_id", "text") if name not in record]:
            if "conversations" in record:
                raise DataError(f"{where} is no question. {TRAINING_HINT}")
            raise DataError(
                f"{where} lacks {' and '.join(lacking)}. Each line of a question file has "
                "`question_id`, `text` and, where there is one, `image`; those of this line are "
                f"{', '.join(map(repr, record)):.200}. Rename or add them."
            )
        yield Question(
            question_id=require_id(record, "question_id", where),
            text=require(record, "text", str, where),
            image_names=_image_names(record, where),
            path=path,
            number=number,
            fields=record,
        )
        is_empty = False
    if is_empty:
        raise DataError(f"{path} holds no question. It must hold one JSON object a line.")


def _image_names(record: dict[str, Any], where: str) -> tuple[str, ...]:
    image = record.get("image")
    if type(image) is str:  # as most are
        return (image,)
    if image is None:
        return ()
    names = image if isinstance(image, list) else [image]
    if not all(isinstance(name, str) for name in names):
        raise DataError(
            f"{where}: `image` must be a file name or a list of file names, but is {image!r}. "
            "Mend the line; leave the field out for a question without an image."
        )
    return tuple(names)


def sample_of(question: Question, images: Path) -> Sample:
    """The question of a line as it is put; its image names are relative to the folder `images`."""
    key, sources = question.key, _images_in(images, question.image_names)
    return Sample(
        key=key,
        question_id=question.question_id,
        text=question.text,
        prompt=question.text,
        images=sources,
        cluster=",".join([source.key for source in sources]) or key,
        groups=_NO_GROUPS,
    )


@lru_cache(_NUM_GROUPS)  # the questions about an image stand together, and share what it is
def _images_in(folder: Path, names: tuple[str, ...]) -> tuple[ImageSource, ...]:
    return tuple(image_in(folder, name) for name in names)


def without_prompts(path: Path) -> str:
    """What can be done where LLaVA's question file is of another release than the official ones."""
    return (
        f"Without {path.name} the prompts are built from the official files: move it away where no "
        "file of the same release is to be had."
    )


def check_same_ids(
    questions: Iterable[str],
    question_path: Path,
    annotations: Iterable[str],
    path: Path,
    *,
    is_optional: bool = False,
) -> None:
    """Checks that two files speak of the same questions, in any order.

    `is_optional` says that the same can be done without the question file.

    Raises:
        DataError: a question has no annotation, or an annotation no question.
    """
    question_keys, annotated = list(questions), list(annotations)
    check_unique(question_keys, str(question_path))
    check_unique(annotated, str(path))
    remedy = "The files must be of one split and release."
    if is_optional:
        remedy += f" {without_prompts(question_path)}"
    for keys, known, holder, lacking in (
        (question_keys, set(annotated), question_path, path),
        (annotated, set(question_keys), path, question_path),
    ):
        missing = [key for key in keys if key not in known]
        if missing:
            raise DataError(
                f"{lacking} lacks {len(missing):,} question ids of {holder} (for example "
                f"{', '.join(missing[:3])}). {remedy}"
            )
