"""MME's official files: the released questions, and the result files of its scoring tool.

Source: `eval_tool` in BradyFU/Awesome-Multimodal-Large-Language-Models @ dd295090, and the
converter in haotian-liu/LLaVA @ c121f043.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from evals.errors import DataError, MissingFileError
from evals.reading.entries import Entry, question_about
from evals.reading.files import iterate_lines, require, visible
from evals.reading.images import IMAGE_PLACEHOLDER, image_in
from evals.reading.questions import SHORT_ANSWER_SUFFIX, read_question_lines, without_prompts
from evals.records import Sample

PERCEPTION = (
    *("existence", "count", "position", "color", "posters"),
    *("celebrity", "scene", "landmark", "artwork", "OCR"),
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
CATEGORIES = (*PERCEPTION, *COGNITION)
MAX_SCORE = 200.0
"""The points of a category in which every answer is right."""
YES_NO_REQUEST = "Please answer yes or no."
_LABELS = frozenset(["yes", "no"])


def bare_question(text: str) -> str:
    r"""The question without what asks for a form of answer, as it is compared.

    >>> bare_question("Is it red?  Please answer yes or no.")
    'Is it red?'
    >>> bare_question("Is it red?\nAnswer the question using a single word or phrase.")
    'Is it red?'
    >>> bare_question("<image>\nIs it red?")
    'Is it red?'
    """
    for said in (IMAGE_PLACEHOLDER, SHORT_ANSWER_SUFFIX.strip(), YES_NO_REQUEST):
        text = text.replace(said, "")
    return text.strip()


def question_key(question_id: str, text: str) -> str:
    """The key of a question: the image's id, and a hash of the bare question."""
    content = bare_question(text).encode("utf-8", "surrogatepass")
    return f"{question_id}#{hashlib.sha256(content).hexdigest()[:12]}"


def parse_question(entry: Entry) -> Sample:
    """The question of an entry of the release or of the mirror.

    Raises:
        DataError: the entry lacks a field, or is of no category.
    """
    place, record, image = entry
    question_id = require(record, "question_id", str, place)
    category = require(record, "category", str, place)
    if category not in CATEGORIES:
        raise DataError(f"{place}: `category` must be one of MME's, but is {category!r}.")
    text = bare_question(require(record, "question", str, place)) + SHORT_ANSWER_SUFFIX
    return question_about(
        image(question_id),
        question_id,
        text,
        key=question_key(question_id, text),
        target=require(record, "answer", str, place),
        groups={"category": category},
    )


def read_release(folder: Path, origin: str) -> list[Entry]:
    """The questions of the release, by category in the official order, then by file name.

    Their fields are those of the mirror; an image that does not lie there is taken for a `.jpg`.
    `folder` is `MME_Benchmark_release_version`, whose categories hold their files flat or in
    `images` and `questions_answers_YN`.

    Raises:
        MissingFileError: a category is missing.
        DataError: a file is malformed.
    """
    missing = [name for name in CATEGORIES if not (folder / name).is_dir()]
    if missing:
        raise MissingFileError(
            f"{folder} lacks the categories {', '.join(missing)}. It is to be had from {origin}."
        )
    return [question for name in CATEGORIES for question in _read_category(folder, name)]


def _read_category(folder: Path, category: str) -> list[Entry]:
    nested = folder / category / "questions_answers_YN"
    image_dir = folder / category / "images" if nested.is_dir() else folder / category
    text_dir = nested if nested.is_dir() else folder / category
    images = {}
    if image_dir.is_dir():
        pictures = visible(path for path in image_dir.iterdir() if path.suffix not in (".txt", ""))
        images = {path.stem: path.relative_to(folder).as_posix() for path in pictures}
    entries = []
    for path in visible(text_dir.glob("*.txt")):
        name = images.get(path.stem, f"{category}/{path.stem}.jpg")
        for question, label in _read_pairs(path):
            record = {"question_id": name, "category": category}
            record |= {"question": question, "answer": label}
            entries.append(Entry(str(path), record, partial(image_in, folder)))
    if not entries:
        raise DataError(f"{text_dir} holds no question. Fetch the release again.")
    return entries


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for number, line in iterate_lines(path):
        place = f"{path}:{number}"
        try:
            fields = line.decode().strip().split("\t")
        except UnicodeDecodeError as error:
            raise DataError(f"{place} is not UTF-8 text: {error}. Fetch the file again.") from error
        if len(fields) != 2 or fields[1].lower() not in _LABELS:
            raise DataError(
                f"{place} must be a question, a tab, and Yes or No, but is {fields!r}. "
                "Fetch the release again."
            )
        pairs.append((fields[0], fields[1]))
    if len(pairs) != 2:
        raise DataError(
            f"{path} must hold two questions, but holds {len(pairs)}. Fetch the release again."
        )
    return pairs


def join_prompts(samples: Iterable[Sample], prompts: Path, release: Path) -> list[Sample]:
    """The questions of the folder `release` as LLaVA's file words, names and orders them.

    Raises:
        DataError: LLaVA's file is malformed, or of another release.
    """
    official = {}
    for sample in samples:
        stem = PurePosixPath(str(sample.question_id)).stem
        official[sample.groups["category"], stem, bare_question(sample.text)] = sample
    joined = []
    for line in read_question_lines(prompts):
        category, stem = line.key.split("/")[0], PurePosixPath(line.key).stem
        content = (category, stem, bare_question(line.text))
        if content not in official or len(line.image_names) != 1:
            raise DataError(
                f"{line.where}: the question {content[2]!r} about {line.key} is not in {release}. "
                f"Both must be of one release. {without_prompts(prompts)}"
            )
        sample = replace(
            official.pop(content),
            key=question_key(line.key, line.text),
            question_id=line.key,
            text=line.text,
            prompt=line.text,
            images=(image_in(release, line.image_names[0]),),
            cluster=line.key,
        )
        joined.append(sample)
    if official:
        raise DataError(
            f"{prompts} lacks {len(official):,} questions of {release} (for example "
            f"{next(iter(official))}). Both must be of one release. "
            f"{without_prompts(prompts)}"
        )
    return joined


def check_pairs(samples: Iterable[Sample], folder: Path) -> None:
    """Checks that two different questions are asked about every image.

    Raises:
        DataError: an image has fewer or more.
    """
    keys = defaultdict(list)
    for sample in samples:
        keys[sample.question_id].append(sample.key)
    for name, pair in keys.items():
        if len(pair) != 2 or pair[0] == pair[1]:
            raise DataError(
                f"{folder}: every image of MME must have two different questions, but {name} has "
                "not. Fetch the files again."
            )


def one_line(text: str) -> str:
    r"""The answer on one line, as a result file can hold it: tabs and line ends are spaces.

    >>> one_line("yes\tit\nis")
    'yes it is'
    """
    return text.replace("\t", " ").replace("\n", " ").replace("\r", " ")


def pair_figures(images: Sequence[Sequence[bool]]) -> dict[str, float | int | None]:
    """Accuracy, accuracy+ and score of a category, by which questions of each image were right.

    >>> pair_figures([[True, True], [True, False]])["score"]
    125.0
    """
    answers = [right for image in images for right in image]
    accuracy = sum(answers) / len(answers)
    accuracy_plus = sum(len(image) == 2 and all(image) for image in images) / len(images)
    return {
        "score": accuracy * 100 + accuracy_plus * 100,
        "accuracy": accuracy,
        "accuracy_plus": accuracy_plus,
        "num_questions": len(answers),
    }


def sum_scores(
    table: Mapping[str, Mapping[str, float | int | None]], categories: Iterable[str]
) -> float | None:
    """The sum of the categories' scores; None unless all are there."""
    scores = [table.get(category, {}).get("score") for category in categories]
    known = [score for score in scores if score is not None]
    return sum(known) if len(known) == len(scores) else None
