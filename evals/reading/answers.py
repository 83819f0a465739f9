"""Answer files in LLaVA's format: reading them, and finding the question of each answer."""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from evals.errors import DataError, ForeignAnswerError
from evals.reading.files import (
    collection_paused,
    describe_json_error,
    find_file,
    iterate_lines,
    whole_json,
)
from evals.reading.matching import foreign_ids_message, plain_id
from evals.records import Prediction

logger = logging.getLogger(__name__)

_SHOWN = 3
_KIND = re.compile(r":\d+ ((?:is|has) no[^:]*)")  # what is wrong with a line, after its place
_OTHER_FIELDS = 5
_EXACT = 2.0**53  # below it a float is the number that was meant


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFile:
    """What an answer file holds.

    Attributes:
        answers: The answer lines in the order of the file, each with `question_id` and `text`.
        failed: Lines that record a failure instead of an answer (`metadata.error`).
        unreadable: One message for each line that is no answer, with file and line number.
        numbers: The number of the line of each of the answers.
    """

    answers: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    unreadable: list[str]
    numbers: list[int] = field(default_factory=list)

    def line_of(self, question_id: str | int) -> int | None:
        """The number of the first line with an answer to a question, by one of its id's forms."""
        plain = plain_id(str(question_id))
        lines = zip(self.numbers, self.answers, strict=True)
        return next((n for n, one in lines if plain_id(str(one["question_id"])) == plain), None)

    def complaints(self) -> list[str]:
        """What is said of unreadable lines: of many alike the first ones, and how many there are.

        >>> lines = [f"a.jsonl:{number} is no JSON object" for number in range(1, 2_001)]
        >>> AnswerFile(answers=[], failed=[], unreadable=lines).complaints()[2:]
        ['a.jsonl:3 is no JSON object', '1,997 more lines like this one: is no JSON object']
        """
        alike: defaultdict[str, list[str]] = defaultdict(list)
        for message in self.unreadable:
            found = _KIND.search(message)
            alike[found[1] if found else message].append(message)
        told = []
        for kind, messages in alike.items():
            told += messages[:_SHOWN]
            if len(messages) > _SHOWN:
                told.append(f"{len(messages) - _SHOWN:,} more lines like this one: {kind}")
        return told


def read_answers(path: str | Path) -> AnswerFile:
    """The answers in a JSONL file in LLaVA's format; unreadable lines are listed, not fatal.

    Raises:
        DataError: the file is missing, holds no answer at all, or is one JSON value as a whole.
    """
    path = find_file(path)
    found = AnswerFile(answers=[], failed=[], unreadable=[])
    wanted = "must hold one JSON object a line with `question_id` and `text`."
    with collection_paused():
        for position, (number, line) in enumerate(iterate_lines(path)):
            _sort_line(line, path, number, found)
            if position == 0 and found.unreadable and (kind := whole_json(path)):
                raise DataError(f"{path} is one JSON {kind}, but {wanted} Convert it.")
    if not found.answers and not found.failed:
        seen = f", such as {found.unreadable[0]}" if found.unreadable else ""
        raise DataError(
            f"{path} holds no answer ({len(found.unreadable):,} unreadable lines{seen}). It "
            f"{wanted}"
        )
    return found


def _sort_line(line: bytes, path: Path, number: int, found: AnswerFile) -> None:
    place = f"{path}:{number}"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested too deep
        found.unreadable.append(f"{place} is not JSON: {describe_json_error(error)}")
        return
    if problem := _problem(record):
        found.unreadable.append(f"{place} {problem}")
        return
    if isinstance(record["question_id"], float):
        record["question_id"] = int(record["question_id"])
    metadata = record.get("metadata")
    is_failure = isinstance(metadata, dict) and metadata.get("error")
    if is_failure:
        found.failed.append(record)
    else:
        found.answers.append(record)
        found.numbers.append(number)


def _problem(record: Any) -> str:
    if not isinstance(record, dict):
        return "is no JSON object"
    question_id = record.get("question_id")
    if isinstance(question_id, float) and abs(question_id) < _EXACT and question_id.is_integer():
        question_id = int(question_id)  # so do tables write whole numbers
    if not isinstance(question_id, (str, int)) or isinstance(question_id, bool):
        return f"has no `question_id` that is a text or a whole number{_fields_of(record)}"
    if not isinstance(record.get("text"), str):
        return f"has no `text` that is a text{_fields_of(record)}"
    if record.get("round_id") and "option_char" in record:  # of `model_vqa_mmbench.py --all-rounds`
        return f"is no answer to the options as they are: round {record['round_id']} rotates them"
    return ""


def _fields_of(record: Mapping[str, Any]) -> str:
    """The fields that a line has instead, for messages."""
    return f": its fields are {', '.join(list(record)[:_OTHER_FIELDS])[:120]}" if record else ""


def match_by_id(  # noqa: PLR0913 - what is to be known of ids, and one exception
    answers: Iterable[Mapping[str, Any]],
    question_ids: Mapping[str, str | int],
    *,
    task: str,
    foreign_is_error: bool,
    may_be_none: bool = False,
    find: Callable[[Mapping[str, Any]], str] | None = None,
    note: str = "",
    repeat_mark: str = "",
) -> dict[str, Prediction]:
    """Answer lines (`question_id`, `text`, if there is one `prompt`) by key; the last one wins.

    Args:
        answers: The lines.
        question_ids: Every key of the split, with the id as the benchmark writes it.
        task: Name of task and split, for messages.
        foreign_is_error: As of a benchmark.
        may_be_none: Whether all ids may be foreign.
        find: The key of an answer's question; None where it is the id as text.
        note: What is said of the benchmark's ids where some are foreign.
        repeat_mark: As of a benchmark.

    Raises:
        ForeignAnswerError: an id is foreign, or all of them are, and must not be.
    """
    predictions: dict[str, Prediction] = {}
    foreign: dict[str, None] = {}
    with collection_paused():
        for answer in answers:
            key = str(answer["question_id"]) if find is None else find(answer)
            if key not in question_ids:
                foreign[str(answer["question_id"])] = None
                continue
            base = key
            if repeat_mark and key in predictions:
                numbered = (f"{key}{repeat_mark}{number}" for number in count(2))
                key = next(new for new in numbered if new not in predictions)
            predictions[key] = prediction_of(key, answer, question_ids[base])
    if foreign and (foreign_is_error or not (predictions or may_be_none)):
        message = foreign_ids_message(foreign, map(str, question_ids.values()), task, note)
        raise ForeignAnswerError(message, next(iter(foreign)))
    if foreign:
        logger.warning(
            "%d ids are not of this split and are ignored, such as %s", len(foreign), min(foreign)
        )
    return predictions


def prediction_of(
    key: str, answer: Mapping[str, Any], question_id: str | int | None = None
) -> Prediction:
    """The answer of a line under a key; `question_id` is the one of the line unless it is given."""
    return Prediction(
        key=key,
        question_id=answer["question_id"] if question_id is None else question_id,
        prompt=str(answer.get("prompt") or ""),
        text=answer["text"],
        answer_ids=tuple(filter(None, [str(answer.get("answer_id") or "")])),
    )


def check_keys(
    predictions: Mapping[str, Prediction], keys: Mapping[str, object] | set[str], task: str
) -> None:
    """Checks that every prediction belongs to a question of the split.

    Raises:
        DataError: a key is not among `keys`.
    """
    foreign = [key for key in predictions if key not in keys]
    if foreign:
        some = ", ".join(foreign[:3])
        raise DataError(
            f"{len(foreign):,} predictions have keys that are not in {task} (for example {some}). "
            "The stored answers and the data files do not belong together."
        )
