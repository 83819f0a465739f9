"""GQA's official file format: questions, and the files that some of its figures need.

Format and rules: the Stanford `eval.py` as in junayednaushad/Relation-Network-VQA @ 64f6c6a0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any

from evals.errors import DataError
from evals.reading.files import check_unique, find_optional, read_json, require, require_id
from evals.reading.hub import HubTable
from evals.reading.images import ImageSource
from evals.reading.questions import SHORT_ANSWER_SUFFIX
from evals.records import Sample
from evals.scorers.gqa import Box, score_grounding

# What the official script does not count as a step of reasoning.
_NO_STEPS = ("exist", "query: name", "choose name")
_COMMON_CHOICES = ("color", "material", "shape")


@dataclass(frozen=True, slots=True, kw_only=True)
class GQADetails:
    """What the figures need to know about a question beside its answer, type and length.

    Attributes:
        is_balanced: Whether the question is scored.
        entailed: Ids of other questions whose answers follow from this one's.
        global_group: Its group for the distribution figure, if it has one.
        asks_common: Whether it asks what two things have in common.
        object_ids: The objects that the question and its full answer speak of; None if unknown.
    """

    is_balanced: bool
    entailed: tuple[str, ...]
    global_group: str | None
    asks_common: bool
    object_ids: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GQAEvidence:
    """The optional files of a split; the content of each is None where the file is not there.

    Attributes:
        paths: The paths of the three, for messages.
        choices: Question id to its valid and plausible answers.
        scenes: Image id to its scene graph.
        attentions: Question id to the model's attention.
    """

    paths: tuple[Path, Path, Path]
    choices: Mapping[str, Any] | None
    scenes: Mapping[str, Any] | None
    attentions: Mapping[str, Any] | None

    def is_choice(self, question: Sample, answer: str | None, kind: str) -> float | None:
        """1.0 if the answer is among the `valid` or `plausible` ones, else 0.0; None if unknown.

        Raises:
            DataError: the file lacks the question.
        """
        if self.choices is None:
            return None
        if question.details.asks_common:
            return float(answer in _COMMON_CHOICES)
        where = str(self.paths[0])
        entry = require(self.choices, question.key, dict, where)
        return float(answer in require(entry, kind, list, f"{where}: question {question.key}"))

    def grounding(self, question: Sample) -> float | None:
        """The attention on the question's objects; None if unknown.

        Raises:
            DataError: a file lacks the question, its image or one of its objects, or a number.
        """
        object_ids = question.details.object_ids
        if self.attentions is None or self.scenes is None or object_ids is None:
            return None
        image_id = question.cluster.removesuffix(".jpg")
        scene = require(self.scenes, image_id, dict, str(self.paths[1]))
        where = f"{self.paths[1]}: image {image_id}"
        regions = [_region(scene, object_id, where) for object_id in object_ids]
        attention = require(self.attentions, question.key, list, str(self.paths[2]))
        rows = [row for row in attention if isinstance(row, list) and len(row) == len(attention)]
        if not rows or len(rows) < len(attention) or not all(map(_is_finite, chain(*rows))):
            raise DataError(
                f"{self.paths[2]}: the attention of question {question.key} must be a square grid "
                "of numbers. Write the file again."
            )
        return score_grounding(attention, regions)


def _region(scene: Mapping[str, Any], object_id: str, where: str) -> Box:
    width, height = (require(scene, side, int, where) for side in ("width", "height"))
    box = require(require(scene, "objects", dict, where), object_id, dict, where)
    x, y, w, h = (require(box, side, (int, float), where) for side in ("x", "y", "w", "h"))
    if width < 1 or height < 1:
        raise DataError(f"{where} must have a size, but is {width} x {height}. Mend the entry.")
    if not all(map(_is_finite, (x, y, w, h))):
        raise DataError(f"{where}: the box of object {object_id} must be numbers. Mend the entry.")
    return x / width, y / height, (x + w) / width, (y + h) / height


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < math.inf


def read_gqa_questions(path: Path, origin: str) -> list[Sample]:
    """The questions of an official file, without their images, in its order.

    Raises:
        DataError: the file is missing or malformed.
    """
    content = read_json(path, origin)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} must be an object of questions by id. Fetch the file again.")
    return [
        _parse_question(key, record, f"{path}: question {key}") for key, record in content.items()
    ]


def read_gqa_mirror(mirror: HubTable) -> list[Sample]:
    """The questions of the mirror, without their images, in its order.

    The mirror holds the official fields but writes entailed ids and objects in another form, so
    that consistency and grounding cannot be had from it.

    Raises:
        DataError: the mirror cannot be had, or a row lacks a field.
    """
    samples = []
    for place, row in mirror.rows:
        balanced = bool(row.get("isBalanced", True))
        record = {**row, "isBalanced": balanced, "entailed": [], "annotations": {}}
        samples.append(_parse_question(str(require_id(row, "id", place)), record, place))
    return samples


def mirror_images(
    images: HubTable, elsewhere: Callable[[str], ImageSource]
) -> Callable[[str], ImageSource]:
    """What finds an image by its file name in the mirror, whose images have a table of their own.

    `elsewhere` finds an image that the table lacks.
    """

    @cache
    def rows() -> dict[str, int]:
        places = enumerate(images.rows)
        return {f"{require_id(row, 'id', place)}.jpg": n for n, (place, row) in places}

    def find(name: str) -> ImageSource:
        row = rows().get(name)
        return elsewhere(name) if row is None else images.image(row, name)

    return find


def read_gqa_evidence(choices: Path, scenes: Path, attentions: Path) -> GQAEvidence:
    """The optional files of a split, as far as they are there.

    Raises:
        DataError: a file is malformed.
    """
    paths = (choices, scenes, attentions)
    content = [read_json(path) if find_optional(path) else None for path in paths]
    maps, where = content[2], str(attentions)
    if maps is not None:
        if not isinstance(maps, list):
            raise DataError(f"{where} must be a list of attention maps. Write the file again.")
        keys = [str(require_id(entry, "questionId", where)) for entry in maps]
        check_unique(keys, where)
        found = [require(entry, "attention", list, where) for entry in maps]
        maps = dict(zip(keys, found, strict=True))
    return GQAEvidence(paths=paths, choices=content[0], scenes=content[1], attentions=maps)


def _parse_question(key: str, record: Any, where: str) -> Sample:
    types = require(record, "types", dict, where)
    groups = require(record, "groups", dict, where)
    question = require(record, "question", str, where)
    annotations = require(record, "annotations", dict, where)
    text = question + SHORT_ANSWER_SUFFIX
    return Sample(
        key=key,
        question_id=key,
        text=text,
        prompt=text,
        target=require(record, "answer", str, where),
        cluster=require(record, "imageId", str, where) + ".jpg",
        groups={
            "structural": require(types, "structural", str, f"{where}: `types`"),
            "semantic": require(types, "semantic", str, f"{where}: `types`"),
            "steps": str(_num_steps(require(record, "semantic", list, where), where)),
            "words": str(len(question.split())),
        },
        details=GQADetails(
            is_balanced=require(record, "isBalanced", bool, where),
            entailed=tuple(map(str, require(record, "entailed", list, where))),
            global_group=require(groups, "global", (str, NoneType), f"{where}: `groups`"),
            asks_common="Common" in require(types, "detailed", str, f"{where}: `types`"),
            object_ids=_object_ids(annotations, f"{where}: `annotations`") if annotations else None,
        ),
    )


def _object_ids(annotations: dict[str, Any], where: str) -> tuple[str, ...]:
    parts = [require(annotations, part, dict, where) for part in ("question", "fullAnswer")]
    return tuple(map(str, chain.from_iterable(part.values() for part in parts)))


def _num_steps(program: list[Any], where: str) -> int:
    steps = [
        f"{require(step, 'operation', str, where)}: {require(step, 'argument', str, where)}"
        for step in program
    ]
    return sum(not any(phrase in step for phrase in _NO_STEPS) for step in steps)
