"""The rows of MMBench's table: how they are asked, and where their images are.

Format and prompt: haotian-liu/LLaVA @ c121f043, `model_vqa_mmbench.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from evals.errors import DataError
from evals.reading.files import is_number
from evals.reading.hub import HubTable
from evals.reading.tsv import Base64Image, read_cell
from evals.records import Sample

LETTERS = "ABCD"
PASS = 1_000_000
"""Rows whose indices differ by multiples of it are one question, its options in another order."""

_LLAVA_EMPTY = frozenset(["nan", "none"])


class ChoiceRow(NamedTuple):
    """What the judge, the images and the upload need of a row.

    Attributes:
        question: The question.
        cells: The option cells A to D; empty where pandas would read nothing.
        split: The content of the column.
        image: The image's cell; None where the table has no such column.
        place: File and line, for messages.
    """

    question: str
    cells: tuple[str, ...]
    split: str
    image: str | None
    place: str


def shown_letters(cells: Sequence[str]) -> str:
    """The letters of the options in the prompt, which stop at the first empty one.

    >>> shown_letters(["a frog", "ice", "", "x"])
    'AB'
    """
    is_empty = [not cell or cell.lower() in _LLAVA_EMPTY for cell in cells]
    return LETTERS[: [*is_empty, True].index(True)]


def render_row(question: str, hint: str, cells: Sequence[str]) -> str:
    r"""The prompt of a row without suffix; options stop at the first empty one.

    >>> render_row("Which one?", "Look.", ["a frog", "ice", "", "x"])
    'Look.\nWhich one?\nA. a frog\nB. ice'
    """
    lines = [hint] if hint and hint.lower() not in _LLAVA_EMPTY else []
    shown = zip(shown_letters(cells), cells, strict=False)
    return "\n".join([*lines, question, *(f"{letter}. {cell}" for letter, cell in shown)])


def parse_rows(
    rows: Iterable[tuple[str, Mapping[str, Any]]], *, suffix: str, must_have_answers: bool
) -> list[Sample]:
    """The questions of rows with their places, without images.

    `suffix` follows the options in the prompt. Each row must have the right letter, unless none has
    one and none must.

    Raises:
        DataError: a row is malformed.
    """
    rows = list(rows)
    has_answers = must_have_answers or any(read_cell(record, "answer") for _, record in rows)
    return [_parse_row(*row, suffix=suffix, has_answer=has_answers) for row in rows]


def _parse_row(place: str, record: Mapping[str, Any], *, suffix: str, has_answer: bool) -> Sample:
    """The question of a row; `place` is file and line, for messages.

    Raises:
        DataError: the row is malformed.
    """
    index, answer = read_cell(record, "index"), read_cell(record, "answer")
    if not is_number(index):
        raise DataError(f"{place}: `index` must be a number, but is {index[:80]!r}. Mend the row.")
    if has_answer and (len(answer) != 1 or answer not in LETTERS):
        raise DataError(
            f"{place}: `answer` must be a letter from A to D, but is {answer!r}. Mend the row."
        )
    # The mirror writes the column of the second level with a capital letter.
    second = read_cell(record, "l2-category") or read_cell(record, "L2-category")
    row = ChoiceRow(
        question=read_cell(record, "question"),
        cells=tuple(read_cell(record, letter) for letter in LETTERS),
        split=read_cell(record, "split"),
        image=read_cell(record, "image") if "image" in record else None,
        place=place,
    )
    prompt = render_row(row.question, read_cell(record, "hint"), row.cells)
    return Sample(
        key=str(int(index)),
        question_id=int(index),
        text=prompt + suffix,
        prompt=prompt,
        target=answer or None,
        cluster=str(int(index) % PASS),
        groups={"l2-category": second or None, "category": read_cell(record, "category") or None},
        details=row,
    )


def with_table_images(path: Path, questions: Mapping[str, Sample]) -> list[Sample]:
    """The questions of a table by key with their images, which scoring can do without.

    Raises:
        DataError: the table has no images.
    """
    samples = []
    for sample in questions.values():
        if sample.details.image is None:
            raise DataError(f"{path}:1 lacks the columns image. Fetch the file again.")
        # Some releases give only the index of the row whose image it is.
        holder = questions.get(sample.details.image, sample).details
        image = Base64Image(encoded=holder.image, path=path, place=holder.place)
        samples.append(replace(sample, images=(image,)))
    return samples


def with_mirror_images(mirror: HubTable, questions: Mapping[str, Sample]) -> list[Sample]:
    """The questions of a mirror, all of them by key and in its order, with their images."""
    return [
        replace(sample, images=(mirror.image(number, sample.cluster),))
        for number, sample in enumerate(questions.values())
    ]
