"""ScienceQA: multiple-choice questions from school science (Lu et al., arXiv:2209.09513).

Files, in `data_dir`: `problems.json`, `pid_splits.json`, images in `images/<split>/<id>/image.png`;
LLaVA's `llava_<split>_CQM-A.json` is read for the prompts where it is there. Mirror:
`lmms-lab/ScienceQA`, without ids, so that the row's number is the id.

One problem, by its id: `{"11": {"question": "What is the name of the colony shown?", "choices":
["Maryland", "New Hampshire", "Rhode Island", "Vermont"], "answer": 1, "hint": "", "image":
"image.png", "subject": "social science", "topic": "us-history", "grade": "grade4", "split":
"test", ...}}`; the prompt: the hint after `Context: ` if there is one, the question, one lettered
line a choice, and a line that asks for the letter.

Metric: accuracy over all problems of the split, by the letter that LLaVA's script reads;
`accuracy_image`, the published figure, is the one over answers whose stored prompt holds an image
placeholder; an answer without a prompt counts there if its problem has an image. The rows by
subject, context and grade follow lupantech/ScienceQA @ 2cbf8318. Official code:
haotian-liu/LLaVA @ c121f043, `eval_science_qa.py`.

Variants: `unparsed="random"` draws a choice, by the problem's id, where none can be read, as the
original script of lupantech/ScienceQA does; it counts for 3 points on GPT-3's published outputs.

Known deviations: the rows are taken over the problems of the split, where the official script
takes those of test. A row is None if a problem lacks the field, or if it is empty (official: -1).

Published: LLaVA-1.5-7B 66.8, 13B 71.6 (test, accuracy_image).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.figures.metrics import break_down_all, mean_score, require_scores
from evals.reading.answers import check_keys, match_by_id
from evals.reading.files import (
    check_unique,
    find_all,
    find_optional,
    read_json,
    require,
    require_id,
)
from evals.reading.hub import HubTable, check_source
from evals.reading.images import ImageSource, image_in
from evals.reading.questions import LETTER_SUFFIX, check_same_ids
from evals.reading.releases import Release
from evals.records import Aggregate, Prediction, Sample, Score
from evals.scorers.choice import LETTERS, choice_index, parse_choice

ORIGIN = "https://github.com/lupantech/ScienceQA (data/scienceqa)"
IMAGE_PLACEHOLDER = "<image>"
LLAVA_ORIGIN = "eval.zip in https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md"
_FILES = {"problems.json": ORIGIN, "pid_splits.json": ORIGIN, "images": ORIGIN}
_HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_UNPARSED = {"wrong": "scienceqa_llava/1", "random": "scienceqa_random/1"}
_IMAGE_SPLITS = {"minitrain": "train", "minival": "val", "minitest": "test"}
_GRADES_1_6 = frozenset(f"grade{number}" for number in range(1, 7))
_GRADES_7_12 = frozenset(f"grade{number}" for number in range(7, 13))


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One entry of the official problem file.

    Attributes:
        key: The problem's id.
        question: Its text.
        choices: The texts of its two to five choices.
        answer: The index of the right choice.
        hint: The context, empty if there is none.
        image_name: The image's path relative to the split's image folder, None without an image.
        image_split: The split whose folder holds the image.
        subject: The subject, None if the file has none.
        grade: The grade, `grade1` to `grade12`, None if the file has none.
        topic: The topic, None if the file has none.
    """

    key: str
    question: str
    choices: tuple[str, ...]
    answer: int
    hint: str
    image_name: str | None
    image_split: str
    subject: str | None
    grade: str | None
    topic: str | None


# Row of the official table to the membership of a problem; None where the problem cannot tell.
_CLASSES: Mapping[str, Callable[[Problem], bool | None]] = {
    "NAT": lambda problem: _equals(problem.subject, "natural science"),
    "SOC": lambda problem: _equals(problem.subject, "social science"),
    "LAN": lambda problem: _equals(problem.subject, "language science"),
    "TXT": lambda problem: bool(problem.hint),
    "IMG": lambda problem: problem.image_name is not None,
    "NO": lambda problem: not problem.hint and problem.image_name is None,
    "G1-6": lambda problem: _is_among(problem.grade, _GRADES_1_6),
    "G7-12": lambda problem: _is_among(problem.grade, _GRADES_7_12),
}


def _equals(value: str | None, wanted: str) -> bool | None:
    return None if value is None else value == wanted


def _is_among(value: str | None, wanted: frozenset[str]) -> bool | None:
    return None if value is None else value in wanted


def render_problem(question: str, choices: Sequence[str], hint: str) -> str:
    r"""The prompt of a problem without image placeholder and without suffix.

    >>> render_problem("Which  is it?", ["a frog", "ice "], "Look.")
    'Context: Look.\nWhich is it?\nA. a frog\nB. ice'
    """
    lines = [f"Context: {hint}"] if hint else []
    lines.append(question)
    lines += [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join(lines).replace("  ", " ").strip()


class ScienceQA:
    """ScienceQA on one split.

    Args:
        data_dir: The folder with the benchmark's files.
        split: A split of `pid_splits.json`.
        prompt_suffix: What follows the choices in the prompt.
        unparsed: What an answer counts as from which no choice can be read: `wrong` or `random`.
        source: `files`, or `hub` for the mirror.
        max_new_tokens: The answer length that LLaVA's script uses.

    Raises:
        ValueError: there is no such rule or source, or the mirror has no such split.
    """

    name = "scienceqa"
    primary_metric = "accuracy"
    upload = None
    grading = None
    primary_is_mean = True
    has_annotations = True
    grouped_metrics: frozenset[str] = frozenset()
    releases: Mapping[str, Release] = {
        "train": Release(num_questions=12_726, files=_FILES),
        "val": Release(num_questions=4_241, num_images=2_097, files=_FILES),
        "test": Release(
            num_questions=4_241,
            num_images=2_017,
            files={**_FILES, "llava_test_CQM-A.json": LLAVA_ORIGIN},
        ),
    }

    def __init__(
        self,
        *,
        data_dir: str | Path,
        split: str = "test",
        prompt_suffix: str = LETTER_SUFFIX,
        unparsed: str = "wrong",
        source: str = "files",
        max_new_tokens: int = 1024,
    ) -> None:
        if unparsed not in _UNPARSED:
            raise ValueError(f"`unparsed` must be one of {list(_UNPARSED)}, but is {unparsed}.")
        check_source(self.name, source)
        if source == "hub" and split not in _HUB_SPLITS:
            known = list(_HUB_SPLITS)
            raise ValueError(f"`split` must be one of {known} on the hub, but is {split}.")
        self.data_dir = Path(data_dir)
        self.split = split
        self.prompt_suffix = prompt_suffix
        self.max_new_tokens = max_new_tokens
        self.definition = _UNPARSED[unparsed]
        self._title = f"{self.name} {split}"
        self._draws = unparsed == "random"
        self._problem_path = self.data_dir / "problems.json"
        self._split_path = self.data_dir / "pid_splits.json"
        self._llava_path = self.data_dir / f"llava_{split}_CQM-A.json"
        self._hub: HubTable | None = None
        if source == "hub":
            self._hub = HubTable(
                "lmms-lab/ScienceQA", "ScienceQA-FULL", _HUB_SPLITS[split], self.data_dir
            )

    def data_files(self) -> list[Path]:
        """The question, problem and split files that are there."""
        if self._hub is not None:
            return self._hub.data_files()
        return find_all([self._llava_path, self._problem_path, self._split_path])

    def samples(self) -> list[Sample]:
        """All questions of the split, in the order of `pid_splits.json`.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        problems = self._problems
        if self._hub is None and find_optional(self._llava_path):
            prompts = self._read_prompts()
            check_same_ids(prompts, self._llava_path, problems, self._split_path)
        else:
            prompts = {
                key: render_problem(problem.question, problem.choices, problem.hint)
                for key, problem in problems.items()
            }
        return [self._sample(problem, prompts[key]) for key, problem in problems.items()]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key; the last of an id wins, foreign ids are ignored.

        Raises:
            DataError: all ids are foreign, or a file is missing or malformed.
        """
        ids = {key: key for key in self._problems}
        return match_by_id(answers, ids, task=self._title, foreign_is_error=False)

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a question, in the order of `pid_splits.json`.

        Raises:
            DataError: a file is missing or malformed, or a prediction's key is not of the split.
        """
        problems = self._problems
        check_keys(predictions, problems, self._title)
        return [
            _score_problem(problem, predictions.get(key), draws=self._draws)
            for key, problem in problems.items()
        ]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The accuracies, the official table's rows, and the accuracy by topic.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        metrics = {
            "accuracy": mean_score(scores),
            "accuracy_image": mean_score(s for s in scores if s.details["prompt_has_image"]),
            **{row: _mean_of_class(scores, row) for row in _CLASSES},
        }
        return Aggregate(
            metrics=metrics,
            breakdowns=break_down_all(scores, ["topic"], "accuracy"),
            num_unparsed=sum(s.answered and s.details["is_unparsed"] for s in scores),
        )

    @cached_property
    def _problems(self) -> dict[str, Problem]:
        """The problems of the split by id, in the order of the split file."""
        if self._hub is not None:
            rows = enumerate(self._hub.rows)
            return {str(n): self._parse_row(n, place, row) for n, (place, row) in rows}
        splits = read_json(self._split_path, ORIGIN)
        where = str(self._split_path)
        if isinstance(splits, dict) and self.split not in splits:
            raise DataError(
                f"{where} has no split {self.split!r}, only {', '.join(map(repr, splits))}. "
                "Choose one of them."
            )
        keys = [str(key) for key in require(splits, self.split, list, where)]
        check_unique(keys, f"{where}: {self.split}")
        if not keys:
            raise DataError(f"{where}: split {self.split!r} is empty. Fetch the file again.")
        records = read_json(self._problem_path, ORIGIN)
        place = str(self._problem_path)
        return {key: self._parse(key, require(records, key, dict, place)) for key in keys}

    def _parse_row(self, number: int, place: str, row: dict[str, Any]) -> Problem:
        """A problem of the mirror; its rows have no ids."""
        has_image = self._hub is not None and self._hub.image(number, "").exists()
        record = {**row, "image": "image.png" if has_image else None}
        return self._parse(str(number), record, place)

    def _parse(self, key: str, record: dict[str, Any], place: str = "") -> Problem:
        where = place or f"{self._problem_path}: problem {key}"
        choices = require(record, "choices", list, where)
        answer = require(record, "answer", int, where)
        if not 2 <= len(choices) <= len(LETTERS) or not 0 <= answer < len(choices):
            raise DataError(
                f"{where}: `choices` must be two to five texts and `answer` the index of one, but "
                f"there are {len(choices)} choices and the index is {answer}. Fetch the file again."
            )
        image = require(record, "image", (str, type(None)), where)
        image_split = _IMAGE_SPLITS.get(self.split, self.split)
        if self.split == "trainval":
            image_split = require(record, "split", str, where)
        subject, grade, topic = (
            None if record.get(name) is None else require(record, name, str, where)
            for name in ("subject", "grade", "topic")
        )
        return Problem(
            key=key,
            question=require(record, "question", str, where),
            choices=tuple(str(choice) for choice in choices),
            answer=answer,
            hint=require(record, "hint", (str, type(None)), where) or "",
            image_name=f"{key}/{image}" if image else None,
            image_split=image_split,
            subject=subject,
            grade=grade,
            topic=topic,
        )

    def _read_prompts(self) -> dict[str, str]:
        """The prompts of LLaVA's conversation file by id, without placeholder and suffix."""
        lines = read_json(self._llava_path)
        where = str(self._llava_path)
        if not isinstance(lines, list):
            raise DataError(f"{where} must be a list of conversations. Fetch the file again.")
        prompts = {}
        for index, line in enumerate(lines):
            place = f"{where}: entry {index}"
            key = str(require_id(line, "id", place))
            turns = require(line, "conversations", list, place)
            if not turns or key in prompts:
                raise DataError(
                    f"{place} must have a conversation and an id of its own (id {key!r}). "
                    "Mend or remove the entry."
                )
            text = require(turns[0], "value", str, place)
            prompts[key] = text.replace(IMAGE_PLACEHOLDER, "").strip()
        return prompts

    def _sample(self, problem: Problem, prompt: str) -> Sample:
        text = prompt + self.prompt_suffix
        stored = text
        images: tuple[ImageSource, ...] = ()
        if problem.image_name is not None:
            folder = self.data_dir / "images" / problem.image_split
            stored = f"{IMAGE_PLACEHOLDER}\n{text}"
            # The script gives the model the image in the mode in which it is stored.
            images = (image_in(folder, problem.image_name, convert_rgb=False),)
            if self._hub is not None:
                row = int(problem.key)
                images = (self._hub.image(row, problem.image_name, convert_rgb=False),)
        return Sample(
            key=problem.key,
            question_id=problem.key,
            text=text,
            prompt=stored,
            images=images,
            target=LETTERS[problem.answer],
            cluster=problem.image_name or problem.key,
            groups={"topic": problem.topic},
        )


def _score_problem(problem: Problem, prediction: Prediction | None, *, draws: bool) -> Score:
    letter = None if prediction is None else parse_choice(prediction.text)
    index = choice_index(letter, len(problem.choices))
    is_unparsed = index < 0
    if is_unparsed and draws and prediction is not None:
        index = random.Random(problem.key).randrange(len(problem.choices))
    return Score(
        key=problem.key,
        question_id=problem.key,
        cluster=problem.image_name or problem.key,
        value=float(index == problem.answer),
        answer=letter,
        answered=prediction is not None,
        groups={"topic": problem.topic},
        details={
            "choice_index": index,
            "is_unparsed": is_unparsed,
            "prompt_has_image": prediction is not None and _shows_image(prediction, problem),
            "classes": {row: is_member(problem) for row, is_member in _CLASSES.items()},
        },
    )


def _shows_image(prediction: Prediction, problem: Problem) -> bool:
    """Whether a problem was asked with an image; without a stored prompt, whether it has one."""
    if not prediction.prompt:
        return problem.image_name is not None
    return IMAGE_PLACEHOLDER in prediction.prompt


def _mean_of_class(scores: Sequence[Score], row: str) -> float | None:
    """The mean over the members of a row; None if one score's membership is not known."""
    memberships = [score.details["classes"][row] for score in scores]
    if any(membership is None for membership in memberships):
        return None
    return mean_score(
        score for score, is_member in zip(scores, memberships, strict=True) if is_member
    )
