"""Answer files in LLaVA's format: reading them, and finding the question of each answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.reading.files import collection_paused, find_file, iterate_lines
from evals.records import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFile:
    """What an answer file holds.

    Attributes:
        answers: The answer lines in the order of the file, each with `question_id` and `text`.
        failed: Lines that record a failure instead of an answer (`metadata.error`).
        unreadable: One message for each line that is no answer, with file and line number.
    """

    answers: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    unreadable: list[str]


def read_answers(path: str | Path) -> AnswerFile:
    """The answers in a JSONL file in LLaVA's format; unreadable lines are listed, not fatal.

    Raises:
        DataError: the file is missing, or holds no answer at all.
    """
    path = find_file(path)
    found = AnswerFile(answers=[], failed=[], unreadable=[])
    with collection_paused():
        for number, line in iterate_lines(path):
            _sort_line(line, f"{path}:{number}", found)
    if not found.answers and not found.failed:
        raise DataError(
            f"{path} holds no answer ({len(found.unreadable)} unreadable lines). It must hold one "
            "JSON object a line with `question_id` and `text`."
        )
    return found


def _sort_line(line: bytes, place: str, found: AnswerFile) -> None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested too deep
        found.unreadable.append(f"{place} is not JSON: {error}")
        return
    if problem := _problem(record):
        found.unreadable.append(f"{place} {problem}")
        return
    metadata = record.get("metadata")
    is_failure = isinstance(metadata, dict) and metadata.get("error")
    (found.failed if is_failure else found.answers).append(record)


def _problem(record: Any) -> str:
    if not isinstance(record, dict):
        return "is no JSON object"
    question_id = record.get("question_id")
    if not isinstance(question_id, (str, int)) or isinstance(question_id, bool):
        return "has no `question_id` that is a text or a whole number"
    if not isinstance(record.get("text"), str):
        return "has no `text` that is a text"
    return ""


def match_by_id(
    answers: Iterable[Mapping[str, Any]],
    question_ids: Mapping[str, str | int],
    *,
    task: str,
    foreign_is_error: bool,
    find: Callable[[Mapping[str, Any]], str] | None = None,
    repeat_mark: str = "",
) -> dict[str, Prediction]:
    """Answer lines (`question_id`, `text`, if there is one `prompt`) by key; the last one wins.

    Args:
        answers: The lines.
        question_ids: Every key of the split, with the id as the benchmark writes it.
        task: Name of task and split, for messages.
        foreign_is_error: As of a benchmark.
        find: The key of an answer's question; None where it is the id as text.
        repeat_mark: As of a benchmark.

    Raises:
        DataError: an id is foreign and must not be, or all of them are.
    """
    predictions: dict[str, Prediction] = {}
    foreign: dict[str, None] = {}
    with collection_paused():
        for answer in answers:
            key = str(answer["question_id"]) if find is None else find(answer)
            if key not in question_ids:
                foreign[str(answer["question_id"])] = None
                continue
            question_id = question_ids[key]
            if repeat_mark and key in predictions:
                numbered = (f"{key}{repeat_mark}{number}" for number in count(2))
                key = next(new for new in numbered if new not in predictions)
            prompt = str(answer.get("prompt") or "")
            predictions[key] = Prediction(
                key=key, question_id=question_id, prompt=prompt, text=answer["text"]
            )
    if foreign and (foreign_is_error or not predictions):
        some = ", ".join(list(foreign)[:3])
        raise DataError(
            f"{len(foreign):,} question ids of the answers are not in {task} (for example {some}). "
            "Score the answers with the task and split that they were given for."
        )
    return predictions


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
