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

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

from evals.benchmark import Benchmark, Questions, as_read, each, rebuildable
from evals.errors import DataError, check_choice
from evals.figures.metrics import mean_figures
from evals.normalize import normalize_m4c
from evals.reading.entries import (
    Entry,
    file_entries,
    files_of,
    has_answers,
    mirror_entries,
    question_about,
)
from evals.reading.files import find_optional, read_json, require, require_id
from evals.reading.hub import HubLocation, find_mirror
from evals.reading.questions import SHORT_ANSWER_SUFFIX
from evals.reading.releases import LLAVA_ORIGIN, Release
from evals.reading.textvqa import (
    Wording,
    name_ocr_tokens,
    question_key,
    question_of_prompt,
    read_ocr_tokens,
    render_question,
    reword_by_content,
)
from evals.records import Judgment, Sample
from evals.scorers.vqa_accuracy import score_matches

ORIGIN = "https://textvqa.org/dataset"
RELEASES: Mapping[str, Release] = {
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
_IMAGE_FOLDERS = {"train": "train_images", "val": "train_images", "test": "test_images"}
_HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_NUM_ANNOTATORS = 10


@rebuildable
def TextVQA(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    split: str = "val",
    prompt_suffix: str = SHORT_ANSWER_SUFFIX,
    ocr_tokens: bool = True,
    source: str = "files",
    max_new_tokens: int = 128,
) -> Benchmark:
    """TextVQA on `val`, `train` or `test`.

    `ocr_tokens` has the prompt name the words that were read in the image.
    """
    check_choice("`split` of textvqa", split, _IMAGE_FOLDERS)
    is_annotated, folder = split != "test", Path(data_dir)  # as published
    path = folder / f"TextVQA_0.5.1_{split}.json"
    ocr = folder / f"TextVQA_Rosetta_OCR_v0.2_{split}.json"
    prompts = folder / f"llava_textvqa_{split}_v051_ocr.jsonl"
    table = HubLocation(repo="lmms-lab/textvqa", split=_HUB_SPLITS[split])
    mirror = find_mirror("textvqa", source, table, folder)

    def read() -> list[Sample]:
        if mirror is not None:
            # Where no column of the mirror names the image, the question's id does.
            entries = mirror_entries(
                mirror, lambda row: {"image_id": row.get("question_id"), **row}
            )
        else:
            content = read_json(path, ORIGIN)
            entries = file_entries(content, "data", path, folder / _IMAGE_FOLDERS[split])
        annotated = is_annotated or any(has_answers(entry.record) for entry in entries)
        return [_parse(entry, has_annotations=annotated) for entry in entries]

    def ask(questions: Questions) -> list[Sample]:
        if not ocr_tokens:
            return as_read(questions)
        if mirror is not None:
            return name_ocr_tokens(questions, {})
        if find_optional(prompts):
            return reword_by_content(questions, prompts, path)
        origin = f"{ORIGIN} (LLaVA's {prompts.name} serves as well: {LLAVA_ORIGIN})"
        return name_ocr_tokens(questions, read_ocr_tokens(ocr, origin))

    title = f"textvqa {split}"
    return Benchmark(
        name="textvqa",
        split=split,
        hub=table,
        definition="textvqa_m4c/1",
        primary_metric="vqa_accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(mirror, prompts, path, ocr),
        read=read,
        ask=ask,
        judge=each(_judge),
        targets_tell=not is_annotated,
        figures=partial(mean_figures, metric="vqa_accuracy"),
        unscored="has no public annotations, so that its answers cannot be scored here. Score the "
        "split val.",
        releases=RELEASES,
        official_suffix=SHORT_ANSWER_SUFFIX,
        prompt_suffix=prompt_suffix,
        find=partial(_find, title),
        repeat_mark="~",
    )


def _parse(entry: Entry, *, has_annotations: bool) -> Sample:
    place, record, image = entry
    answers = None
    if has_annotations:
        answers = tuple(require(record, "answers", list, place))
        if len(answers) != _NUM_ANNOTATORS or not all(isinstance(a, str) for a in answers):
            raise DataError(
                f"{place}: `answers` must be {_NUM_ANNOTATORS} texts, but are {len(answers)} "
                "entries. Fetch the file again."
            )
    tokens, own_id = record.get("ocr_tokens"), record.get("question_id")
    image_id = str(require_id(record, "image_id", place))
    question = require(record, "question", str, place)
    sample = question_about(
        image(f"{image_id}.jpg"),
        image_id,
        render_question(question, None) + SHORT_ANSWER_SUFFIX,
        key=question_key(image_id, question),
        target=answers,
        details=Wording(question, None if tokens is None else tuple(map(str, tokens)), place),
    )
    return sample if own_id is None else replace(sample, aliases=(str(own_id),))


def _find(title: str, questions: Questions, answer: Mapping[str, Any]) -> str:
    """The key of an answer's question, which its prompt tells."""
    image_id, prompt = str(answer["question_id"]), str(answer.get("prompt") or "")
    question = question_of_prompt(prompt)
    if question is None:
        raise DataError(
            f"The answer to {image_id!r} has the prompt {prompt[:200]!r}, from which its "
            f"question cannot be read. Answers to {title} must carry the prompt in one of the "
            "layouts of LLaVA's question files."
        )
    key = question_key(image_id, question)
    if key not in questions:
        key = question_key(image_id, normalize("NFC", question))
    if key not in questions:
        raise DataError(
            f"{title} has no question {question!r} about the image {image_id!r}. The "
            "`question_id` of an answer must be the id of its image, or TextVQA's own id of the "
            "question. Score the answers with the task and split that they were given for."
        )
    return key


def _judge(text: str, question: Sample) -> Judgment:
    answer = normalize_m4c(text)
    targets = [normalize_m4c(target) for target in question.target]
    return score_matches(targets.count(answer), len(targets)), answer
