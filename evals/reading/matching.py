"""Whether answers belong to the questions whose ids they carry: ids in other forms, stored prompts.

Ids alone do not tell: a benchmark has several releases and numberings, whose ids overlap.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import product
from pathlib import PurePosixPath
from typing import Any
from unicodedata import normalize

from evals.errors import ForeignAnswerError
from evals.reading.images import IMAGE_PLACEHOLDER
from evals.records import Prediction, Sample

logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"0*(\d+)(?:\.0+)?")
_IMAGE_SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"])
_PADDED = "numbers with zeros in front"
_WORD = re.compile(r"\w+")
_SHOWN = 3
_MANY = 0.05
"""The share of the questions that may have a line by which a question is known."""
_NEAR = 0.75
"""The share of the words of a line that are the same in one that is worded otherwise."""


def plain_id(text: str) -> str:
    """An id without what people and tools add to it: zeros in front, `.0`, or an image's suffix.

    The name of an image that is a number keeps a mark, for as such it is no id.

    >>> plain_id("00000003"), plain_id("3.0"), plain_id("images/v1_0.png"), plain_id(" 03.png")
    ('3', '3', 'v1_0', '03.*')
    """
    text = text.strip()
    if _is_image_name(text):
        stem = PurePosixPath(text).stem
        return f"{stem}.*" if _NUMBER.fullmatch(stem) else stem
    number = _NUMBER.fullmatch(text)
    return number[1] if number else text


def with_own_ids(
    answers: Iterable[Mapping[str, Any]], questions: Iterable[Sample], task: str
) -> list[Mapping[str, Any]]:
    """Answer lines, whose ids are the benchmark's own where another form of one tells which.

    Such forms are the plain id, the name of the image, and the `aliases` of a question. What could
    be several ids stays as it is, and so does the form of an id that another answer carries itself.
    `task` is the name of task and split, for the log.
    """
    answers, questions = list(answers), list(questions)
    own = {str(sample.question_id) for sample in questions}
    given = {str(answer["question_id"]) for answer in answers}
    if given <= own:  # as most are
        return answers
    forms = _ids_by_form(questions)
    renamed = {}
    for name in given - own:
        plain, bare = plain_id(name), name.strip()
        likely = {plain} if plain == bare else {plain, plain_id(f"{bare}.jpg")}  # for its zeros
        meant = {forms[form] for form in likely if form in forms}
        if len(meant) == 1 and given.isdisjoint(map(str, meant)):
            renamed[name] = meant.pop()
    if renamed:
        logger.warning(
            "%s: %d question ids are written in another form, such as %s for %s, and are taken for "
            "the same",
            task,
            len(renamed),
            *next(iter(sorted(renamed.items()))),
        )
    return [
        {**answer, "question_id": renamed[name]}
        if (name := str(answer["question_id"])) in renamed
        else answer
        for answer in answers
    ]


def _ids_by_form(questions: Iterable[Sample]) -> dict[str, str | int]:
    """The ids by each of their forms that stands for one of them only."""
    found: defaultdict[str, set[str | int]] = defaultdict(set)
    for sample in questions:
        names = {name for name in (sample.cluster, *sample.image_keys) if _is_image_name(name)}
        for form in (str(sample.question_id), *sample.aliases, *names):
            found[plain_id(form)].add(sample.question_id)
    return {form: ids.pop() for form, ids in found.items() if len(ids) == 1}


def _is_image_name(text: str) -> bool:
    return PurePosixPath(text).suffix.lower() in _IMAGE_SUFFIXES


def _kind(question_id: str) -> str:
    """In which form an id is written, for messages."""
    if _is_image_name(question_id):
        return "names of images"
    if question_id.isdecimal():
        is_padded = question_id.startswith("0") and question_id != "0"
        return _PADDED if is_padded else "numbers"
    return "texts"


def foreign_ids_message(
    foreign: Iterable[str], known: Iterable[str], task: str, note: str = ""
) -> str:
    """What is wrong with ids that are no question's, and the remedy, which their form decides.

    `note` is what is said of the benchmark's ids, if anything is to be.
    """
    foreign = list(foreign)
    some, own = ", ".join(foreign[:_SHOWN]), next(iter(known))
    kinds, wanted = sorted(set(map(_kind, foreign))), _kind(own)
    remedy = "Score the answers with the task and split that they were given for."
    if wanted not in kinds and (kinds == [_PADDED] or "names of images" in (*kinds, wanted)):
        remedy = (
            f"These are {' and '.join(kinds)}, and an answer is looked for by {wanted} such as "
            f"{own}. Write each question's own id as `question_id`, and check task and split."
        )
    return " ".join(
        part
        for part in (
            f"{len(foreign):,} question ids of the answers are not in {task} (for example {some}). "
            f"Its own are such as {own}.",
            note,
            remedy,
        )
        if part
    )


def check_prompts(
    answers: Mapping[str, Prediction],
    questions: Mapping[str, str],
    asked: Callable[[], Mapping[str, str]],
    *,
    task: str,
    suffix: str = "",
    note: str = "",
) -> None:
    """Checks the prompts that answers carry against the questions of their keys.

    Another suffix, an image placeholder, other white space and punctuation, and more words around
    it leave a question the same. What is not the same, but has a line of its question, is told and
    not refused; so is one of a few that has most of a line, and a single word without a question
    mark, which is no question. A line that many questions have, as a request for one word, does not
    count, unless it is the one that asks. Any other prompt is another question.

    Args:
        answers: The answers by key; those without a prompt say nothing.
        questions: The text of each question by key.
        asked: The same in LLaVA's wording, which is read only if it is needed.
        task: Name of task and split, for messages.
        suffix: What the texts end in.
        note: What is said of the benchmark's ids, if anything is to be.

    Raises:
        ForeignAnswerError: a prompt is another question.
    """
    bare = {key: text.removesuffix(suffix) for key, text in questions.items()}
    given = {key: answer.prompt for key, answer in answers.items() if answer.prompt.strip()}
    others = {key: text for key, text in given.items() if not _fits(text, bare[key], suffix)}
    wordings = asked() if others else {}
    others = {
        key: text
        for key, text in others.items()
        if key not in wordings or not _fits(text, wordings[key].removesuffix(suffix), suffix)
    }
    if not others:
        return
    lines = {key: _lines(text) for key, text in bare.items()}
    known = {" ".join(of_one) for of_one in lines.values()}
    counts = Counter(line for of_one in lines.values() for line in set(of_one))
    many = max(1, len(lines) * _MANY)
    own = {key: _telling(bare[key], counts, many) for key in others}
    said = {key: _lines(text.removesuffix(suffix)) for key, text in others.items()}
    swapped = [key for key, text in others.items() if _is_among(text, known)]
    unlike = [
        key
        for key, text in others.items()
        if not _share_a_line(said[key], own[key]) and (_is_word(bare[key]) or not _is_word(text))
    ]
    if 2 * len(unlike) <= len(given):  # so that the others show how the same question is worded
        unlike = [key for key in unlike if not _are_near(said[key], own[key])]
    foreign = list(dict.fromkeys([*swapped, *unlike]))
    key = (foreign or list(others))[0]
    example = (
        f"the answer with the id {answers[key].question_id!r} has the prompt {others[key][:120]!r}"
        f", but that question is {bare[key][:120]!r}"
    )
    if foreign:
        raise ForeignAnswerError(
            f"{len(foreign):,} of {len(given):,} answers carry the prompt of another question than "
            f"{task} has under their id: {example}. "
            + (f"{note} " if note else "")
            + "Score them with the data of the release that was asked. If they do answer the "
            "questions of their ids, leave `prompt` out of the answer lines.",
            answers[key].question_id,
        )
    logger.warning(
        "%s: %d of %d answers carry a prompt that is not the question of their id, and are scored "
        "by the id alone: %s",
        task,
        len(others),
        len(given),
        example,
    )


def _fits(prompt: str, question: str, suffix: str) -> bool:
    """Whether a prompt asks a question, which is given without suffix."""
    if prompt.startswith(question):  # as most do
        return True
    asked, wanted = _lines(prompt.removesuffix(suffix)), _lines(question)
    return _are_within(wanted, asked) or _are_within(asked, wanted)


def _telling(question: str, counts: Mapping[str, int], many: float) -> list[str]:
    """The lines by which a question is known: those that few have, or else the one that asks.

    `counts` says how many questions have a line, `many` how many of them are too many.
    """
    lines = _lines(question)
    if few := [line for line in lines if counts[line] <= many]:
        return few
    rarest = min((counts[line] for line in lines), default=0)
    asking = {words for line in question.split("\n") if "?" in line for words in _lines(line)}
    rare = (line for line in lines if counts[line] == rarest)
    return sorted(rare, key=lambda line: line not in asking)[:1]


def _share_a_line(asked: Sequence[str], wanted: Sequence[str]) -> bool:
    return any(_are_within([line], asked) for line in wanted) or any(
        _are_within([line], wanted) for line in asked
    )


def _are_near(asked: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether most of the words of a line follow each other in one of others too."""
    for one, other in product(map(str.split, asked), map(str.split, wanted)):
        run = SequenceMatcher(None, one, other, autojunk=False).find_longest_match().size
        if run >= _NEAR * min(len(one), len(other)):
            return True
    return False


def _is_word(text: str) -> bool:
    """Whether a text is a single word, of a script that parts words, and does not ask."""
    return text.isascii() and "?" not in text and len(_WORD.findall(text)) < 2


def _are_within(lines: Iterable[str], others: Iterable[str]) -> bool:
    """Whether the words of each line follow each other in others."""
    text = f" {' '.join(others)} "
    return all(f" {line} " in text for line in lines)


def _is_among(prompt: str, known: Container[str]) -> bool:
    """Whether the first lines of a prompt are one of the known questions."""
    lines = _lines(prompt)
    return any(" ".join(lines[:number]) in known for number in range(1, len(lines) + 1))


def _lines(text: str) -> list[str]:
    r"""The words of each line that has any, without the placeholder of an image.

    >>> _lines("<image>\n What's  it?\n(A) Red")
    ['what s it', 'a red']
    """
    lines = normalize("NFKC", text.replace(IMAGE_PLACEHOLDER, " ")).casefold().split("\n")
    return [words for line in lines if (words := " ".join(_WORD.findall(line)))]
