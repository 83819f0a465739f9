"""POPE: is an object in the image, or imagined by the model (Li et al., arXiv:2305.10355).

Files, in `data_dir`: `coco/coco_pope_{random,popular,adversarial}.json` with one JSON object a
line, images in `val2014/`; LLaVA's `llava_pope_test.jsonl` gives prompts, ids and order where it is
there, of the release with 8,910 questions. Mirror: `lmms-lab/POPE` (9,000 questions).

One question: `{"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a
snowboard in the image?", "label": "yes"}`; the prompt: the question and a line that asks for a
single word or phrase.

Metric: F1 of finding the objects that are there, the mean over the three categories. Official code:
haotian-liu/LLaVA @ c121f043, `eval_pope.py`.

Known deviations: answers find their labels by category, image and question; the official script
pairs them by position. Whatever holds no negation is a yes; without the word it counts as unparsed
as well. A figure whose denominator is 0 is None, where the official script stops.

Published: LLaVA-1.5-7B 85.9, 13B 85.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from evals.benchmark import Benchmark, rebuildable
from evals.errors import DataError, check_choice
from evals.figures.metrics import group_by, mean_of_all
from evals.reading.entries import Entry, files_of, mirror_entries, question_about
from evals.reading.files import find_all, find_optional, is_number, read_jsonl, require, require_id
from evals.reading.hub import HubLocation, HubTable, find_mirror
from evals.reading.images import image_in
from evals.reading.questions import SHORT_ANSWER_SUFFIX, read_questions
from evals.reading.releases import LLAVA_ORIGIN, Release
from evals.records import Aggregate, Sample, Score
from evals.scorers.yes_no import (
    binary_figures,
    count_missing_as_wrong,
    judge_yes_no,
)

Content = tuple[str, str, str]
"""What tells a question from all others: its category, its image, and its words."""

CATEGORIES = {"adversarial": 0, "random": 10_000_000, "popular": 20_000_000}
"""The categories in the order of LLaVA's file, and what it adds to the ids of each."""

ORIGIN = "https://github.com/RUCAIBox/POPE/tree/e3e39262/output/coco"
LATER_ORIGIN = "https://github.com/RUCAIBox/POPE/tree/main/output/coco"
COCO_ORIGIN = "http://images.cocodataset.org/zips/val2014.zip"
_LATER = (
    "that is the later release with 3,000 random questions. Fetch the files from "
    f"{ORIGIN}, or set tasks.pope.questions=9000 to evaluate on that release."
)
_EARLIER = (
    "that is the release of the published figures. Set tasks.pope.questions=8910 to evaluate on it."
)
_PROMPTS = "llava_pope_test.jsonl"
_NUM_ASKED_BY_LLAVA = 8_910
"""Its file is of this release; the questions of the other one are asked in the same words."""
_DEFINITIONS = {"8910": "pope_llava/1", "9000": "pope_llava_9000/1"}


def _release(num_questions: int, origin: str, other_releases: Mapping[int, str]) -> Release:
    prompts = {_PROMPTS: LLAVA_ORIGIN} if num_questions == _NUM_ASKED_BY_LLAVA else {}
    labels = {f"coco/coco_pope_{category}.json": origin for category in CATEGORIES}
    return Release(
        num_questions=num_questions,
        num_images=500,
        files={**labels, **prompts, "val2014": COCO_ORIGIN},
        other_releases=other_releases,
        renumbered=frozenset(other_releases),
    )


_RELEASES = {
    "8910": _release(8_910, ORIGIN, {9_000: _LATER}),
    "9000": _release(9_000, LATER_ORIGIN, {8_910: _EARLIER}),
}

_TABLES = {
    name: HubLocation(repo="lmms-lab/POPE", config="Full", split=name) for name in CATEGORIES
}


@rebuildable
def POPE(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    questions: int | str = 8_910,
    prompt_suffix: str = SHORT_ANSWER_SUFFIX,
    source: str = "files",
    max_new_tokens: int = 128,
) -> Benchmark:
    """POPE on COCO images; `questions` is 8910 as in the published figures, or the later 9000."""
    release = str(questions)  # stored manifests may hold a number or a text
    check_choice("`questions` of pope", release, _RELEASES)
    folder = Path(data_dir)
    prompts = folder / _PROMPTS if _PROMPTS in _RELEASES[release].files else None
    mirrors = {name: find_mirror("pope", source, table, folder) for name, table in _TABLES.items()}

    def data_files() -> list[Path]:
        finders = [files_of(mirror, _labels(folder, name)) for name, mirror in mirrors.items()]
        found = find_all([prompts] if prompts and source == "files" else [])
        return found + [path for find in finders for path in find()]

    def read() -> list[Sample]:
        labeled: dict[Content, Sample] = {}
        for category, mirror in mirrors.items():
            entries = _lines(folder, category) if mirror is None else _rows(mirror, category)
            _parse(entries, category, labeled)
        if prompts and source == "files" and find_optional(prompts):
            return _join(prompts, labeled)
        return list(labeled.values())

    return Benchmark(
        name="pope",
        split="coco",
        hub=next(iter(_TABLES.values())),
        definition=_DEFINITIONS[release],
        primary_metric="f1",
        max_new_tokens=max_new_tokens,
        data_files=data_files,
        read=read,
        judge=judge_yes_no,
        figures=_figures,
        releases={"coco": _RELEASES[release]},
        official_suffix=SHORT_ANSWER_SUFFIX,
        prompt_suffix=prompt_suffix,
        primary_is_mean=False,
        ids_note="The releases with 8,910 and 9,000 questions number their questions differently.",
    )


def _labels(folder: Path, category: str) -> Path:
    return folder / "coco" / f"coco_pope_{category}.json"


def _lines(folder: Path, category: str) -> list[Entry]:
    """The entries of an official file."""
    path, image = _labels(folder, category), partial(image_in, folder / "val2014")
    lines = [Entry(f"{path}:{number}", line, image) for number, line in read_jsonl(path, ORIGIN)]
    if not lines:
        raise DataError(f"{path} is empty. Fetch the file again.")
    return lines


def _rows(mirror: HubTable, category: str) -> list[Entry]:
    """The rows of a mirror in the official form."""
    entries = []
    for number, entry in enumerate(mirror_entries(mirror)):
        row = entry.record
        # Without its image's name a row is taken to have an image of its own.
        name = str(row.get("image_source") or f"{category}-{number}")
        record = {
            "question_id": row.get("question_id"),
            "image": name if name.endswith(".jpg") else f"{name}.jpg",
            "text": row.get("question"),
            "label": row.get("answer"),
        }
        entries.append(entry._replace(record=record))
    return entries


def _parse(entries: Iterable[Entry], category: str, labeled: dict[Content, Sample]) -> None:
    """Adds the questions of a category to the labeled ones."""
    for place, record, image in entries:
        number = require_id(record, "question_id", place)
        if isinstance(number, str) and not is_number(number):
            raise DataError(f"{place}: `question_id` must be a number, but is {number[:80]!r}.")
        name = require(record, "image", str, place)
        question = require(record, "text", str, place)
        content = _content(category, name, question)
        if content in labeled:
            raise DataError(f"{place} repeats {content!r}. Fetch the file again.")
        label = require(record, "label", str, place)
        labeled[content] = question_about(
            image(name),
            CATEGORIES[category] + int(number),
            question + SHORT_ANSWER_SUFFIX,
            target=label,
            groups={"category": category},
        )


def _content(category: str, image: str, text: str) -> Content:
    return category, image, text.split("\n", maxsplit=1)[0]


def _join(prompts: Path, labeled: Mapping[Content, Sample]) -> list[Sample]:
    """The questions of LLaVA's file with the labels of the official ones."""
    joined: dict[Content, Sample] = {}
    for line in read_questions(prompts):
        category = require(line.fields, "category", str, line.where)
        image = line.image_names[0] if line.image_names else ""
        content = _content(category, image, line.text)
        if content not in labeled or content in joined:
            raise DataError(
                f"{line.where}: {category} {image} {content[2]!r} has no label of its own in "
                f"{_labels(prompts.parent, category)}. Both files must be of one release "
                f"({ORIGIN})."
            )
        asked = replace(labeled[content], text=line.text, prompt=line.text)
        joined[content] = replace(asked, key=line.key, question_id=line.question_id)
    if len(joined) < len(labeled):
        raise DataError(
            f"{prompts} lacks {len(labeled) - len(joined):,} of the {len(labeled):,} questions in "
            f"{prompts.parent / 'coco'}. Both must be of one release ({ORIGIN})."
        )
    return list(joined.values())


def _figures(scores: Sequence[Score]) -> Aggregate:
    """The mean F1 of the categories, and the figures of each."""
    table = {
        category: binary_figures(
            count_missing_as_wrong(score.answer, score.details.label) for score in group
        )
        for category, group in group_by(scores, "category").items()
    }
    return Aggregate(
        metrics={"f1": mean_of_all(row["f1"] for row in table.values())},
        breakdowns={"category": table},
        num_unparsed=sum(score.details.is_unparsed for score in scores),
        averaged_groups=frozenset(table),
    )
