"""Files for the servers that score test splits, written only after the answers were checked."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from evals.benchmark import Benchmark
from evals.errors import DataError
from evals.reading.answers import AnswerFile
from evals.reading.matching import foreign_ids_message

_MAX_CELL = 32_767
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A file for a server, and what was found in the answers.

    Attributes:
        content: The file.
        suffix: The suffix that its name must have.
        num_listed: Ids that the file lists.
        num_missing: Ids without an answer that should have one.
        num_empty: Ids whose answer is empty or blank.
        num_repeated: Ids that were answered several times, differently.
        num_unreadable: Lines of the answer file that are no answer.
    """

    content: bytes
    suffix: str
    num_listed: int
    num_missing: int
    num_empty: int
    num_repeated: int
    num_unreadable: int


def build_submission(
    task: Benchmark, answers: AnswerFile, *, allow_missing: bool = False
) -> Submission:
    """The server's file for the answers of a task.

    Args:
        task: The benchmark on the split that was answered.
        answers: The answers; a line that records a failure counts as missing.
        allow_missing: Accept ids without an answer, which get an empty one, empty answers, and
            ids that were answered differently several times, of which the last answer counts.

    Raises:
        DataError: the benchmark has no server, a file is missing or malformed, the answers are
            of another task or split, or they are not complete and need not be accepted so.
    """
    title, upload = task.title, task.require_upload()
    listed, required = task.submission_ids()
    lines = task.upload_lines(answers.answers)
    texts = {str(line["question_id"]): str(line["text"]) for line in lines}
    _check_split(title, texts, dict.fromkeys(listed), required, task.ids_note)
    if not required and not allow_missing:
        raise DataError(
            f"Which questions {title} asks is not known, because its question file is not there, "
            "so that the answers cannot be checked. Put the file in place, or set "
            "allow_missing=true to send what is there."
        )
    missing = [key for key in listed if key in required and key not in texts]
    empty = [key for key in listed if key in texts and not texts[key].strip()]
    repeated = _find_repeated(lines)
    problems = {
        "have no answer": missing,
        "have an empty answer": empty,
        "have several different answers": repeated,
    }
    found = " ".join(_describe(keys, state) for state, keys in problems.items() if keys)
    if found and not allow_missing:
        unread = f" {len(answers.unreadable)} lines are unreadable." if answers.unreadable else ""
        raise DataError(
            f"The answers to {title} are not complete. {found}{unread} Answer the questions again, "
            "or set allow_missing=true to send empty answers for them and the last of several."
        )
    return Submission(
        content=task.render_submission({key: texts.get(key, "") for key in listed}),
        suffix=upload.suffix,
        num_listed=len(listed),
        num_missing=len(missing),
        num_empty=len(empty),
        num_repeated=len(repeated),
        num_unreadable=len(answers.unreadable),
    )


def _check_split(
    title: str,
    given: Collection[str],
    listed: Collection[str],
    required: Collection[str],
    note: str,
) -> None:
    """Checks that there are answers, and that all of them are of the split."""
    if not given:
        raise DataError(f"There is no answer to {title}. Check the answer file.")
    foreign = [key for key in given if key not in listed]
    if foreign:
        raise DataError(foreign_ids_message(foreign, listed, title, note))
    outside = [key for key in given if key not in required] if required else []
    if outside:
        state = f"are not in {title}, but in the larger split that its upload lists"
        raise DataError(f"{_describe(outside, state)} Name the split that was answered.")


def _find_repeated(answers: Iterable[Mapping[str, Any]]) -> list[str]:
    pairs = {(str(line["question_id"]), str(line["text"])) for line in answers}
    counts = Counter(key for key, _ in pairs)
    return sorted(key for key, number in counts.items() if number > 1)


def _describe(keys: Sequence[str], state: str) -> str:
    return f"{len(keys):,} question ids {state} (for example {', '.join(keys[:_SHOWN])})."


def render_xlsx(columns: Sequence[str], rows: Iterable[Sequence[str | int]]) -> bytes:
    """A workbook of one sheet; texts stay texts, and empty ones become empty cells.

    The first cell of a row names it in messages.

    Raises:
        DataError: a text is too long for a cell or holds characters that none can hold, or
            `openpyxl` is not installed.
    """
    try:
        openpyxl: Any = import_module("openpyxl")
        illegal: Any = import_module("openpyxl.utils.exceptions").IllegalCharacterError
    except ModuleNotFoundError as error:
        raise DataError(
            "A workbook needs the package openpyxl. Install it with `pip install openpyxl`."
        ) from error
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet.append(list(columns))
    for number, row in enumerate(rows, start=2):
        for position, value in enumerate(row, start=1):
            if value == "":
                continue
            if isinstance(value, str) and len(value) > _MAX_CELL:
                raise DataError(
                    f"Row {row[0]}: `{columns[position - 1]}` has {len(value):,} characters, but a "
                    f"cell holds {_MAX_CELL:,} at most. Shorten the answer."
                )
            try:
                cell = sheet.cell(row=number, column=position, value=value)
            except illegal as error:
                raise DataError(
                    f"Row {row[0]}: `{columns[position - 1]}` holds a control character, which no "
                    "workbook can hold. Remove it from the answer."
                ) from error
            if isinstance(value, str):
                cell.data_type = "s"  # never a formula, whatever the answer begins with
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()
