r"""ScienceQA's official files, its mirror, and LLaVA's conversation file.

Format and rows of the official table: lupantech/ScienceQA @ 2cbf8318. The conversation file holds
one object a problem: `{"id": "4", "conversations": [{"value": "<image>\nWhich is it? ..."}, ...]}`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from evals.errors import DataError
from evals.reading.entries import Entry, mirror_entries
from evals.reading.files import read_json, require, require_id
from evals.reading.hub import HubTable
from evals.reading.images import IMAGE_PLACEHOLDER, image_in
from evals.reading.questions import LETTER_SUFFIX, check_same_ids
from evals.records import Sample
from evals.scorers.choice import LETTERS

_IMAGE_SPLITS = {"minitrain": "train", "minival": "val", "minitest": "test"}
_GRADES_1_6 = frozenset(f"grade{number}" for number in range(1, 7))
_GRADES_7_12 = frozenset(f"grade{number}" for number in range(7, 13))


class Problem(NamedTuple):
    """What judge and figures need of a problem beside its image and topic.

    Attributes:
        answer: The index of the right choice.
        num_choices: How many choices there are.
        rows: Whether it belongs to each row of the official table; None where it does not say.
    """

    answer: int
    num_choices: int
    rows: Mapping[str, bool | None]


def read_problems(problems: Path, splits: Path, split: str, origin: str) -> list[Sample]:
    """The problems of a split, in the order of the split file; `images` lies beside the problems.

    Raises:
        DataError: a file is missing or malformed, or has no such split or problem.
    """
    content = read_json(splits, origin)
    if isinstance(content, dict) and split not in content:
        known = ", ".join(map(repr, content))
        raise DataError(f"{splits} has no split {split!r}, only {known}. Choose one of them.")
    keys = [str(key) for key in require(content, split, list, str(splits))]
    if not keys:
        raise DataError(f"{splits}: split {split!r} is empty. Fetch the file again.")
    records = read_json(problems, origin)
    samples = []
    for key in keys:
        place, record = f"{problems}: problem {key}", require(records, key, dict, str(problems))
        folder = _IMAGE_SPLITS.get(split, split)
        if split == "trainval":
            folder = require(record, "split", str, place)
        image = partial(image_in, problems.parent / "images" / folder)
        samples.append(_parse(key, Entry(place, record, image)))
    return samples


def read_problem_mirror(mirror: HubTable) -> list[Sample]:
    """The problems of the mirror, by the numbers of their rows for want of ids.

    Raises:
        DataError: the mirror or its images cannot be had, or a row lacks a field.
    """
    samples = []
    for number, entry in enumerate(mirror_entries(mirror)):
        name = "image.png" if mirror.images_of(number, "") else None
        official = entry._replace(record={**entry.record, "image": name})
        samples.append(_parse(str(number), official))
    return samples


def _parse(key: str, entry: Entry) -> Sample:
    place, record, image = entry
    choices = require(record, "choices", list, place)
    answer = require(record, "answer", int, place)
    if not 2 <= len(choices) <= len(LETTERS) or not 0 <= answer < len(choices):
        raise DataError(
            f"{place}: `choices` must be two to five texts and `answer` the index of one, but "
            f"there are {len(choices)} choices and the index is {answer}. Fetch the file again."
        )
    file_name = require(record, "image", (str, type(None)), place)
    name = f"{key}/{file_name}" if file_name else None
    hint = require(record, "hint", (str, type(None)), place) or ""
    question = require(record, "question", str, place)
    sample = Sample(
        key=key,
        question_id=key,
        text="",
        prompt="",
        # The script gives the model the image in the mode in which it is stored.
        images=(image(name, convert_rgb=False),) if name else (),
        target=LETTERS[answer],
        cluster=name or key,
        groups={"topic": _optional(record, "topic", place)},
        details=Problem(answer, len(choices), _rows(entry, hint, has_image=bool(name))),
    )
    return _put(sample, render_problem(question, list(map(str, choices)), hint))


def _rows(entry: Entry, hint: str, *, has_image: bool) -> dict[str, bool | None]:
    """Whether a problem belongs to each row of the official table; None where it does not say."""
    subject, grade = (_optional(entry.record, name, entry.place) for name in ("subject", "grade"))
    return {
        "NAT": _is_among(subject, ["natural science"]),
        "SOC": _is_among(subject, ["social science"]),
        "LAN": _is_among(subject, ["language science"]),
        "TXT": bool(hint),
        "IMG": has_image,
        "NO": not hint and not has_image,
        "G1-6": _is_among(grade, _GRADES_1_6),
        "G7-12": _is_among(grade, _GRADES_7_12),
    }


def _is_among(value: str | None, wanted: Collection[str]) -> bool | None:
    return None if value is None else value in wanted


def _optional(record: dict[str, Any], field: str, place: str) -> str | None:
    return None if record.get(field) is None else require(record, field, str, place)


def render_problem(question: str, choices: Sequence[str], hint: str) -> str:
    r"""The prompt of a problem without image placeholder and without suffix.

    >>> render_problem("Which  is it?", ["a frog", "ice "], "Look.")
    'Context: Look.\nWhich is it?\nA. a frog\nB. ice'
    """
    lines = [f"Context: {hint}"] if hint else []
    lines.append(question)
    lines += [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join(lines).replace("  ", " ").strip()


def _put(sample: Sample, prompt: str) -> Sample:
    """The problem with a prompt, which is given without image placeholder and suffix."""
    text = prompt + LETTER_SUFFIX
    stored = f"{IMAGE_PLACEHOLDER}\n{text}" if sample.images else text
    return replace(sample, text=text, prompt=stored)


def reword_problems(
    problems: Mapping[str, Sample], conversations: Path, splits: Path
) -> list[Sample]:
    """The problems by id with the prompts of LLaVA's file; `splits` is for messages.

    Raises:
        DataError: LLaVA's file is missing or malformed, or of other problems.
    """
    entries = read_json(conversations)
    if not isinstance(entries, list):
        raise DataError(f"{conversations} must be a list of conversations. Fetch the file again.")
    prompts: dict[str, str] = {}
    for number, entry in enumerate(entries):
        place = f"{conversations}: entry {number}"
        key = str(require_id(entry, "id", place))
        turns = require(entry, "conversations", list, place)
        if not turns or key in prompts:
            raise DataError(
                f"{place} must have a conversation and an id of its own (id {key!r}). "
                "Mend or remove the entry."
            )
        text = require(turns[0], "value", str, place)
        prompts[key] = text.replace(IMAGE_PLACEHOLDER, "").strip()
    check_same_ids(prompts, conversations, problems, splits, is_optional=True)
    return [_put(sample, prompts[key]) for key, sample in problems.items()]
