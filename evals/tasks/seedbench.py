r"""SEED-Bench: multiple choice on images and video frames (Li et al., arXiv:2307.16125).

Files, in `data_dir`: `SEED-Bench.json`, images in `SEED-Bench-image/<data_id>`, the middle frame of
each video in `SEED-Bench-video-image/<data_id>`; LLaVA's `llava-seed-bench.jsonl` gives prompts and
image names where it is there. Mirror: `lmms-lab/SEED-Bench` (fewer videos).

One question: `{"question_id": "101669", "question": "How many towels are in the image?",
"choice_a": "One", ..., "choice_d": "Four", "answer": "A", "data_id": "1454426_2591111986",
"data_type": "image", "question_type_id": 5}`; the prompt: the question, one lettered line a choice,
and a line that asks for the letter.

Metric: accuracy; the answer must be the bare letter. Official code: haotian-liu/LLaVA @ c121f043,
`convert_seed_for_submission.py`. The benchmark's own script ranks the choices by likelihood
instead.

Known deviations: a type without any right answer has accuracy 0, where the script fails.

Published: LLaVA-1.5-7B 58.6, 13B 61.6 (images and videos).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
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
from evals.reading.questions import (
    LETTER_SUFFIX,
    Question,
    check_same_ids,
    read_questions,
    replace_suffix,
)
from evals.reading.releases import Release
from evals.records import Aggregate, Prediction, Sample, Score

ORIGIN = "https://huggingface.co/datasets/AILab-CVC/SEED-Bench"
LLAVA_ORIGIN = "eval.zip in https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md"
_FOLDERS = {"image": "SEED-Bench-image", "video": "SEED-Bench-video-image"}
_LETTERS = "ABCD"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedQuestion:
    """One entry of the official file.

    Attributes:
        question_id: The id as it stands there.
        text: The prompt with the official suffix.
        answer: The right letter.
        data_type: `image` or `video`.
        image_name: The image's path relative to `data_dir`.
        groups: The question's type by its name.
        place: File and entry, for messages.
        row: The row in the hub's table, -1 for files.
    """

    question_id: str | int
    text: str
    answer: str
    data_type: str
    image_name: str
    groups: Mapping[str, str | None]
    place: str
    row: int


class SeedBench:
    """SEED-Bench, version 1.

    Args:
        data_dir: The folder with the benchmark's files.
        prompt_suffix: What follows the choices in the prompt.
        source: `files`, or `hub` for the mirror.
        max_new_tokens: The answer length that LLaVA's script uses.

    Raises:
        ValueError: there is no such source.
    """

    name = "seedbench"
    split = "v1"
    definition = "seedbench_letter/1"
    primary_metric = "accuracy"
    primary_is_mean = True
    has_annotations = True
    grouped_metrics: frozenset[str] = frozenset()
    submission_suffix = ".jsonl"
    submission_server = "https://huggingface.co/spaces/AILab-CVPR/SEED-Bench_Leaderboard"
    releases: Mapping[str, Release] = {
        "v1": Release(
            num_questions=19_242,
            files={
                "SEED-Bench.json": ORIGIN,
                "llava-seed-bench.jsonl": LLAVA_ORIGIN,
                "SEED-Bench-image": ORIGIN,
                "SEED-Bench-video-image": f"{ORIGIN} (frames are cut by LLaVA's script)",
            },
            other_releases={
                17_990: "that is the mirror with 3,757 of the 5,009 video questions. Fetch "
                f"{ORIGIN}, or set check_counts=false."
            },
        )
    }

    def __init__(
        self,
        *,
        data_dir: str | Path,
        prompt_suffix: str = LETTER_SUFFIX,
        source: str = "files",
        max_new_tokens: int = 128,
    ) -> None:
        check_source(self.name, source)
        self.data_dir = Path(data_dir)
        self.prompt_suffix = prompt_suffix
        self.max_new_tokens = max_new_tokens
        self._path = self.data_dir / "SEED-Bench.json"
        self._llava_path = self.data_dir / "llava-seed-bench.jsonl"
        self._hub: HubTable | None = None
        if source == "hub":
            self._hub = HubTable("lmms-lab/SEED-Bench", None, "test", self.data_dir)

    def data_files(self) -> list[Path]:
        """The annotation and question files that are there."""
        if self._hub is not None:
            return self._hub.data_files()
        return find_all([self._llava_path, self._path])

    def samples(self) -> list[Sample]:
        """All questions, in the order of the official file.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        questions = self._questions
        lines = {key: _as_line(question) for key, question in questions.items()}
        if self._hub is None and find_optional(self._llava_path):
            read = {line.key: line for line in read_questions(self._llava_path)}
            check_same_ids(read, self._llava_path, questions, self._path)
            lines = {key: read[key] for key in questions}
        return [self._sample(key, question, lines[key]) for key, question in questions.items()]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key; the last of an id wins, foreign ids are ignored.

        Raises:
            DataError: all ids are foreign, or a file is missing or malformed.
        """
        ids = {key: question.question_id for key, question in self._questions.items()}
        return match_by_id(answers, ids, task=self.name, foreign_is_error=False)

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a question, in the order of the official file.

        Raises:
            DataError: a file is missing or malformed, or a prediction's key is foreign.
        """
        check_keys(predictions, self._questions, self.name)
        return [
            _score(key, question, predictions.get(key)) for key, question in self._questions.items()
        ]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The accuracy over all, over images and videos, and by question type.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        metrics = {"accuracy": mean_score(scores)}
        for kind in _FOLDERS:
            members = [score for score in scores if score.details["data_type"] == kind]
            metrics[f"accuracy_{kind}"] = mean_score(members)
        return Aggregate(
            metrics=metrics, breakdowns=break_down_all(scores, ["question_type"], "accuracy")
        )

    def submission_ids(self) -> tuple[list[str], frozenset[str]]:
        """The ids that the upload lists, in its order, and those that must have an answer.

        Raises:
            DataError: a file is missing or malformed.
        """
        return list(self._questions), frozenset(self._questions)

    def render_submission(self, texts: Mapping[str, str]) -> bytes:
        """The upload: one JSON object a line with id and prediction.

        Args:
            texts: The answer to every question by its id.
        """
        lines = [
            json.dumps({"question_id": question.question_id, "prediction": texts[key]})
            for key, question in self._questions.items()
        ]
        return "".join(line + "\n" for line in lines).encode()

    @cached_property
    def _questions(self) -> dict[str, SeedQuestion]:
        if self._hub is not None:
            names: dict[int, str] = {}
            rows = self._hub.rows
        else:
            content = read_json(self._path, ORIGIN)
            where = str(self._path)
            names = {
                number: name
                for name, number in require(content, "question_type", dict, where).items()
            }
            records = require(content, "questions", list, where)
            rows = [(f"{where}: questions[{n}]", record) for n, record in enumerate(records)]
        if not rows:
            raise DataError(f"{self._path}: `questions` is empty. Fetch the file again.")
        found = [self._parse(place, row, n, names) for n, (place, row) in enumerate(rows)]
        check_unique((str(question.question_id) for question in found), rows[0][0])
        return {str(question.question_id): question for question in found}

    def _parse(
        self, place: str, record: dict[str, Any], row: int, names: Mapping[int, str]
    ) -> SeedQuestion:
        type_id = require(record, "question_type_id", int, place)
        data_type = require(record, "data_type", str, place)
        answer = require(record, "answer", str, place)
        is_letter = len(answer) == 1 and answer in _LETTERS
        if data_type not in _FOLDERS or (names and type_id not in names) or not is_letter:
            raise DataError(
                f"{place}: `data_type` must be image or video, `question_type_id` a type of the "
                f"file and `answer` a letter, but they are {data_type!r}, {type_id} and "
                f"{answer!r}. Mend the entry."
            )
        choices = [require(record, f"choice_{letter.lower()}", str, place) for letter in _LETTERS]
        lines = [require(record, "question", str, place)]
        lines += [f"{letter}. {text}" for letter, text in zip(_LETTERS, choices, strict=True)]
        data_id = require(record, "data_id", str, place)
        return SeedQuestion(
            question_id=require_id(record, "question_id", place),
            text="\n".join(lines) + LETTER_SUFFIX,
            answer=answer,
            data_type=data_type,
            image_name=f"{_FOLDERS[data_type]}/{data_id}",
            groups={"question_type": names.get(type_id, str(type_id))},
            place=place,
            row=row if self._hub is not None else -1,
        )

    def _sample(self, key: str, question: SeedQuestion, line: Question) -> Sample:
        if len(line.image_names) != 1:
            raise DataError(f"{line.where}: `image` must be one file name. Mend the line.")
        name = line.image_names[0]
        image: ImageSource = image_in(self.data_dir, name)
        if self._hub is not None:
            image = self._hub.image(question.row, name)
        prompt = replace_suffix(line, LETTER_SUFFIX, self.prompt_suffix)
        return Sample(
            key=key,
            question_id=question.question_id,
            text=prompt,
            prompt=prompt,
            images=(image,),
            target=question.answer,
            cluster=question.image_name,
            groups=question.groups,
        )


def _as_line(question: SeedQuestion) -> Question:
    return Question(
        question_id=question.question_id,
        text=question.text,
        image_names=(question.image_name,),
        where=question.place,
        fields={},
    )


def _score(key: str, question: SeedQuestion, prediction: Prediction | None) -> Score:
    answer = None if prediction is None else prediction.text
    return Score(
        key=key,
        question_id=question.question_id,
        cluster=question.image_name,
        value=float(answer == question.answer),
        answer=answer,
        answered=prediction is not None,
        groups=question.groups,
        details={"data_type": question.data_type},
    )
