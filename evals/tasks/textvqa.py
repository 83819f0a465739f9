r"""TextVQA: questions about text in images (Singh et al., arXiv:1904.08920).

Files, in `data_dir`: `TextVQA_0.5.1_<split>.json`, images in `train_images/<image_id>.jpg` (val is
a part of the training images); for the prompts LLaVA's `llava_textvqa_val_v051_ocr.jsonl` or,
without it, `TextVQA_Rosetta_OCR_v0.2_<split>.json`. Mirror: `lmms-lab/textvqa`.

One question: `{"question_id": 34602, "image_id": "003a8ae2ef43b901", "question": "what is the brand
of this camera?", "answers": ["nous les gosses", "dakota", ...], ...}`; the prompt: the question
with a capital first letter, the line `Reference OCR token: DAKOTA, DIGITAL, ...`, and a line that
asks for a single word or phrase. Answer files carry the image id as `question_id`, so that a
question is told by its image and its text.

Metric: soft accuracy over ten annotators after the M4C normalization of both sides. Official code:
haotian-liu/LLaVA @ c121f043, `eval_textvqa.py` and `m4c_evaluator.py`.

Known deviations: a question without an answer scores 0 and is counted; the official script leaves
it out, which is what `metrics_answered` shows. A question that is answered twice counts twice, as
there.

Published: LLaVA-1.5-7B 58.2, 13B 61.3 (val).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.figures.metrics import mean_score, require_scores
from evals.normalize import normalize_m4c
from evals.reading.answers import check_keys
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
    SHORT_ANSWER_SUFFIX,
    check_same_ids,
    read_question_lines,
    replace_suffix,
)
from evals.reading.releases import Release
from evals.records import Aggregate, Prediction, Sample, Score
from evals.scorers.vqa_accuracy import score_matches

ORIGIN = "https://textvqa.org/dataset"
LLAVA_ORIGIN = "eval.zip in https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md"
_NUM_ANNOTATORS = 10
_IMAGE_FOLDERS = {"train": "train_images", "val": "train_images", "test": "test_images"}
_HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_OCR_LINE = "Reference OCR token:"
_REPEAT = "~"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextQuestion:
    """One entry of the official file.

    Attributes:
        image_id: The image, which is also the id in answer files.
        question: The text.
        answers: What the annotators said; None for a test split.
        ocr_tokens: The words that were read in the image; None if they are not known.
        place: File and entry, for messages.
        row: The row in the hub's table, -1 for files.
    """

    image_id: str
    question: str
    answers: tuple[str, ...] | None
    ocr_tokens: tuple[str, ...] | None
    place: str
    row: int

    @property
    def key(self) -> str:
        """The image id with a hash of the question."""
        return question_key(self.image_id, self.question)


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
    if prompt.startswith("OCR tokens: "):
        _, found, rest = prompt.partition("Question: ")
        question, ended, _ = rest.partition(" Short answer:")
        return question if found and ended else None
    lines = prompt.split("\n")
    if f"{_OCR_LINE} " in prompt and len(lines) == 3:
        return lines[1] if lines[0].startswith(_OCR_LINE) else lines[0]
    return lines[0] if len(lines) == 2 else None


class TextVQA:
    """TextVQA on one split.

    Args:
        data_dir: The folder with the benchmark's files.
        split: `val`, `train` or `test`.
        prompt_suffix: What follows the question in the prompt.
        ocr_tokens: Whether the prompt names the words that were read in the image.
        source: `files`, or `hub` for the mirror.
        max_new_tokens: The answer length that LLaVA's script uses.

    Raises:
        ValueError: there is no such split or source.
    """

    name = "textvqa"
    primary_metric = "vqa_accuracy"
    upload = None
    grading = None
    primary_is_mean = True
    grouped_metrics: frozenset[str] = frozenset()
    releases: Mapping[str, Release] = {
        "train": Release(num_questions=34_602, files={"TextVQA_0.5.1_train.json": ORIGIN}),
        "val": Release(
            num_questions=5_000,
            num_images=3_166,
            files={
                "TextVQA_0.5.1_val.json": ORIGIN,
                "llava_textvqa_val_v051_ocr.jsonl": LLAVA_ORIGIN,
                "train_images": ORIGIN,
            },
        ),
        "test": Release(num_questions=5_734, files={"TextVQA_0.5.1_test.json": ORIGIN}),
    }

    def __init__(
        self,
        *,
        data_dir: str | Path,
        split: str = "val",
        prompt_suffix: str = SHORT_ANSWER_SUFFIX,
        ocr_tokens: bool = True,
        source: str = "files",
        max_new_tokens: int = 128,
    ) -> None:
        if split not in _IMAGE_FOLDERS:
            known = list(_IMAGE_FOLDERS)
            raise ValueError(f"`split` of textvqa must be one of {known}, but is {split}.")
        check_source(self.name, source)
        self.data_dir = Path(data_dir)
        self.split = split
        self.definition = "textvqa_m4c/1"
        self.prompt_suffix = prompt_suffix
        self.ocr_tokens = ocr_tokens
        self.max_new_tokens = max_new_tokens
        self.has_annotations = split != "test"
        self._title = f"{self.name} {split}"
        self._path = self.data_dir / f"TextVQA_0.5.1_{split}.json"
        self._ocr_path = self.data_dir / f"TextVQA_Rosetta_OCR_v0.2_{split}.json"
        self._llava_path = self.data_dir / f"llava_textvqa_{split}_v051_ocr.jsonl"
        self._hub: HubTable | None = None
        if source == "hub":
            self._hub = HubTable("lmms-lab/textvqa", None, _HUB_SPLITS[split], self.data_dir)

    def data_files(self) -> list[Path]:
        """The annotation, question and OCR files that are there."""
        if self._hub is not None:
            return self._hub.data_files()
        return find_all([self._llava_path, self._path, self._ocr_path])

    def samples(self) -> list[Sample]:
        """All questions, in the order of the official file.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        questions = self._questions
        if self._hub is None and self.ocr_tokens and find_optional(self._llava_path):
            prompts = self._read_prompts()
            check_same_ids(prompts, self._llava_path, questions, self._path)
        else:
            tokens = self._read_ocr_tokens() if self.ocr_tokens else {}
            prompts = {
                key: render_question(question.question, tokens.get(key)) + self.prompt_suffix
                for key, question in questions.items()
            }
        return [self._sample(key, question, prompts[key]) for key, question in questions.items()]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key, in their order; a repeated question keeps each of its lines.

        Raises:
            DataError: an answer's prompt has no official layout, its question is not of the
                split, or a file is missing or malformed.
        """
        predictions: dict[str, Prediction] = {}
        for answer in answers:
            image_id, prompt = str(answer["question_id"]), str(answer.get("prompt") or "")
            question = question_of_prompt(prompt)
            if question is None:
                raise DataError(
                    f"The answer to {image_id!r} has the prompt {prompt[:200]!r}, from which its "
                    f"question cannot be read. Answers to {self._title} must carry the prompt in "
                    "one of the layouts of LLaVA's question files."
                )
            key = question_key(image_id, question)
            if key not in self._questions:
                raise DataError(
                    f"{self._title} has no question {question!r} about the image {image_id!r}. "
                    "Score the answers with the task and split that they were given for."
                )
            number, unique = 1, key
            while unique in predictions:
                number += 1
                unique = f"{key}{_REPEAT}{number}"
            predictions[unique] = Prediction(
                key=unique, question_id=image_id, prompt=prompt, text=answer["text"]
            )
        return predictions

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a prediction, in their order, then one a question without a prediction.

        Raises:
            DataError: the split has no annotations, a file is missing or malformed, or a
                prediction's key is not of the split.
        """
        if not self.has_annotations:
            raise DataError(
                f"{self._title} has no public annotations, so that its answers cannot be scored "
                "here. Score the split val."
            )
        questions = self._questions
        given = {key: key.split(_REPEAT)[0] for key in predictions}
        check_keys({base: predictions[key] for key, base in given.items()}, questions, self._title)
        scores = [_score(key, questions[base], predictions[key]) for key, base in given.items()]
        answered = set(given.values())
        scores += [
            _score(key, question, None)
            for key, question in questions.items()
            if key not in answered
        ]
        return scores

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The accuracy.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        return Aggregate(metrics={"vqa_accuracy": mean_score(scores)})

    @cached_property
    def _questions(self) -> dict[str, TextQuestion]:
        if self._hub is not None:
            rows = self._hub.rows
        else:
            content = read_json(self._path, ORIGIN)
            records = require(content, "data", list, str(self._path))
            rows = [(f"{self._path}: data[{n}]", record) for n, record in enumerate(records)]
        questions = [self._parse(place, row, n) for n, (place, row) in enumerate(rows)]
        if not questions:
            raise DataError(f"{self._path}: `data` is empty. Fetch the file again.")
        check_unique((question.key for question in questions), rows[0][0])
        return {question.key: question for question in questions}

    def _parse(self, place: str, record: dict[str, Any], row: int) -> TextQuestion:
        answers = None
        if self.has_annotations:
            answers = tuple(require(record, "answers", list, place))
            if len(answers) != _NUM_ANNOTATORS or not all(isinstance(a, str) for a in answers):
                raise DataError(
                    f"{place}: `answers` must be {_NUM_ANNOTATORS} texts, but are {len(answers)} "
                    "entries. Fetch the file again."
                )
        tokens = record.get("ocr_tokens")
        # A mirror without the column is told apart by its question ids.
        id_field = "question_id" if self._hub and "image_id" not in record else "image_id"
        return TextQuestion(
            image_id=str(require_id(record, id_field, place)),
            question=require(record, "question", str, place),
            answers=answers,
            ocr_tokens=None if tokens is None else tuple(map(str, tokens)),
            place=place,
            row=row if self._hub is not None else -1,
        )

    def _read_ocr_tokens(self) -> dict[str, tuple[str, ...]]:
        """The words of every question's image by the question's key."""
        by_image: dict[str, tuple[str, ...]] = {}
        if self._hub is None:
            origin = f"{ORIGIN} (LLaVA's {self._llava_path.name} serves as well: {LLAVA_ORIGIN})"
            content = read_json(self._ocr_path, origin)
            where = str(self._ocr_path)
            for record in require(content, "data", list, where):
                words = require(record, "ocr_tokens", list, where)
                by_image[str(require_id(record, "image_id", where))] = tuple(map(str, words))
        tokens = {}
        for key, question in self._questions.items():
            known = by_image.get(question.image_id, question.ocr_tokens)
            if known is None:
                raise DataError(
                    f"{question.place}: the OCR tokens of the image {question.image_id!r} are not "
                    "known. Fetch the files again, or set ocr_tokens=false."
                )
            tokens[key] = known
        return tokens

    def _read_prompts(self) -> dict[str, str]:
        """The prompts of LLaVA's question file by key."""
        prompts: dict[str, str] = {}
        for line in read_question_lines(self._llava_path):
            question = question_of_prompt(line.text)
            if question is None:
                raise DataError(f"{line.where}: the text has no known layout. Mend the line.")
            key = question_key(line.key, question)
            if key in prompts:
                raise DataError(f"{line.where} repeats a question. Remove the line.")
            prompts[key] = replace_suffix(line, SHORT_ANSWER_SUFFIX, self.prompt_suffix)
        return prompts

    def _sample(self, key: str, question: TextQuestion, prompt: str) -> Sample:
        name = f"{question.image_id}.jpg"
        image: ImageSource
        if self._hub is not None:
            image = self._hub.image(question.row, name)
        else:
            image = image_in(self.data_dir / _IMAGE_FOLDERS[self.split], name)
        return Sample(
            key=key,
            question_id=question.image_id,
            text=prompt,
            prompt=prompt,
            images=(image,),
            target=question.answers,
            cluster=name,
        )


def _score(key: str, question: TextQuestion, prediction: Prediction | None) -> Score:
    value, answer = 0.0, None
    if prediction is not None:
        answer = normalize_m4c(prediction.text)
        targets = [normalize_m4c(target) for target in question.answers or ()]
        value = score_matches(targets.count(answer), len(targets))
    return Score(
        key=key,
        question_id=question.image_id,
        cluster=f"{question.image_id}.jpg",
        value=value,
        answer=answer,
        answered=prediction is not None,
    )
