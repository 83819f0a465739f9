"""TextVQA's prompts: their layouts, the words that were read in images, and LLaVA's question file.

Answer files and LLaVA's question file carry the image id as `question_id`, so that a question is
told by its image and its text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from evals.errors import DataError
from evals.reading.files import read_json, require, require_id
from evals.reading.images import IMAGE_PLACEHOLDER
from evals.reading.questions import SHORT_ANSWER_SUFFIX, check_same_ids, read_question_lines
from evals.records import Sample

_OCR_LINE = "Reference OCR token:"


class Wording(NamedTuple):
    """What the prompt of a question is made of.

    Attributes:
        question: The question as the annotation file has it.
        ocr_tokens: The words that were read in its image; None if the file does not say.
        place: File and entry, for messages.
    """

    question: str
    ocr_tokens: Sequence[str] | None
    place: str


def question_key(image_id: str, question: str) -> str:
    """The key of a question: its image, and a hash of its text in lower case.

    >>> question_key("5d", "What time is it?") == question_key("5d", "what time is it?")
    True
    """
    digest = hashlib.sha256(question.lower().encode("utf-8", "surrogatepass")).hexdigest()
    return f"{image_id}-{digest[:12]}"


def render_question(question: str, ocr_tokens: Sequence[str] | None) -> str:
    r"""The prompt of a question without suffix; None leaves the line with the words out.

    >>> render_question("what is it?", ["ALE", "NK"])
    'What is it?\nReference OCR token: ALE, NK'
    """
    lines = [question.capitalize()]
    if ocr_tokens is not None:
        lines.append(f"{_OCR_LINE} {', '.join(ocr_tokens)}")
    return "\n".join(lines)


def question_of_prompt(prompt: str) -> str | None:
    r"""The question in a stored prompt of one of the four official layouts, None for another one.

    >>> question_of_prompt("Why?\nReference OCR token: a\nAnswer briefly.")
    'Why?'
    >>> question_of_prompt("Reference OCR token: a\nWhy?\nAnswer briefly.")
    'Why?'
    >>> question_of_prompt("OCR tokens: a. Question: Why? Short answer:")
    'Why?'
    """
    prompt = prompt.removeprefix(IMAGE_PLACEHOLDER).lstrip()
    if prompt.startswith("OCR tokens: "):
        _, found, rest = prompt.partition("Question: ")
        question, ended, _ = rest.partition(" Short answer:")
        return question if found and ended else None
    lines = prompt.split("\n")
    if f"{_OCR_LINE} " in prompt and len(lines) == 3:
        return lines[1] if lines[0].startswith(_OCR_LINE) else lines[0]
    return lines[0] if len(lines) == 2 else None


def read_ocr_tokens(path: Path, origin: str) -> dict[str, tuple[str, ...]]:
    """The words that were read in each image, by the image's id.

    Raises:
        DataError: the file is missing or malformed.
    """
    content, where = read_json(path, origin), str(path)
    tokens = {}
    for record in require(content, "data", list, where):
        words = require(record, "ocr_tokens", list, where)
        tokens[str(require_id(record, "image_id", where))] = tuple(map(str, words))
    return tokens


def name_ocr_tokens(
    questions: Mapping[str, Sample], tokens: Mapping[str, Sequence[str]]
) -> list[Sample]:
    """The questions by key, each with the words in its image.

    `tokens` has the words by the image's id; those of other images are taken from the wording.

    Raises:
        DataError: the words in an image are not known.
    """
    named = []
    for sample in questions.values():
        question, own, place = sample.details
        words = tokens.get(str(sample.question_id), own)
        if words is None:
            raise DataError(
                f"{place}: the OCR tokens of the image {sample.question_id!r} are not known. Fetch "
                "the files again, or set tasks.textvqa.ocr_tokens=false."
            )
        text = render_question(question, words) + SHORT_ANSWER_SUFFIX
        named.append(replace(sample, text=text, prompt=text))
    return named


def reword_by_content(
    questions: Mapping[str, Sample], prompts: Path, annotations: Path
) -> list[Sample]:
    """The questions by key with the texts of LLaVA's file; `annotations` is for messages.

    Raises:
        DataError: LLaVA's file is missing or malformed, or of other questions.
    """
    texts: dict[str, str] = {}
    for line in read_question_lines(prompts):
        question = question_of_prompt(line.text)
        if question is None:
            raise DataError(f"{line.where}: the text has no known layout. Mend the line.")
        key = question_key(line.key, question)
        if key in texts:
            raise DataError(f"{line.where} repeats a question. Remove the line.")
        texts[key] = line.text
    check_same_ids(texts, prompts, questions, annotations)
    return [
        replace(sample, text=texts[key], prompt=texts[key]) for key, sample in questions.items()
    ]
