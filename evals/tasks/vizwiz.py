r"""VizWiz-VQA: questions that blind people asked about their photos (Gurari et al., CVPR 2018).

Files, in `data_dir`: `<split>.json`, images in `<split>/VizWiz_<split>_%08d.jpg`; LLaVA's
`llava_<split>.jsonl` is read for the prompts where it is there. Mirror: `lmms-lab/VizWiz-VQA`.

One question: `{"image": "VizWiz_val_00000012.jpg", "question": "What is this?", "answers":
[{"answer": "clif bar", "answer_confidence": "yes"}, ...], "answer_type": "other", "answerable":
1}`; its id is the number in the image's name; the prompt: the question with a capital first letter,
a line that asks for `Unanswerable` where the image does not tell, and a line that asks for a single
word or phrase.

Metric: soft accuracy; the answer is always normalized, the annotators' answers never are. Official
code: the VizWiz VQA evaluator as in TRI-ML/vlm-evaluation @ d9f58967. Test is scored by the server,
or here where its file has answers.

Known deviations: figures are not rounded; a missing answer scores 0 and is counted.

Published: LLaVA-1.5-7B 50.0, 13B 53.6 (test-dev).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark, Questions, Upload, each, rebuildable
from evals.errors import DataError, check_choice
from evals.figures.metrics import mean_figures
from evals.normalize import normalize_m4c, normalize_vizwiz
from evals.reading.entries import (
    Entry,
    files_of,
    has_answers,
    list_entries,
    mirror_entries,
    question_about,
    reword,
)
from evals.reading.files import find_optional, is_number, read_json, require
from evals.reading.hub import HubLocation, find_mirror
from evals.reading.questions import UNANSWERABLE_SUFFIX, read_questions, sample_of
from evals.reading.releases import LLAVA_ORIGIN, Release
from evals.records import Judgment, Sample
from evals.scorers.vqa_accuracy import score_matches

ORIGIN = "https://vizwiz.org/tasks-and-datasets/vqa"
RELEASES: Mapping[str, Release] = {
    "val": Release(
        num_questions=4_319, num_images=4_319, files={"val.json": ORIGIN, "val": ORIGIN}
    ),
    "test": Release(
        num_questions=8_000,
        num_images=8_000,
        files={"test.json": ORIGIN, "llava_test.jsonl": LLAVA_ORIGIN, "test": ORIGIN},
    ),
}
_IS_ANNOTATED = {"train": True, "val": True, "test": False}  # as published
_NUMBER = re.compile(r"(\d+)\.[^.]*$")


@rebuildable
def VizWiz(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "test",
    max_new_tokens: int = 128,
    prompt_suffix: str = UNANSWERABLE_SUFFIX,
) -> Benchmark:
    """VizWiz-VQA on `test`, `val` or `train`."""
    check_choice("`split` of vizwiz", split, _IS_ANNOTATED)
    is_annotated = _IS_ANNOTATED[split]
    folder = Path(data_dir)
    path, prompts = folder / f"{split}.json", folder / f"llava_{split}.jsonl"
    images = folder / split
    table = HubLocation(repo="lmms-lab/VizWiz-VQA", split=split)
    mirror = find_mirror("vizwiz", source, table, folder)

    def read() -> list[Sample]:
        if mirror is not None:
            entries = mirror_entries(mirror, _as_official)
        elif is_annotated or find_optional(path) or not find_optional(prompts):
            entries = _entries(path, images, prompts)
        else:
            entries = []
        if is_annotated or any(has_answers(entry.record) for entry in entries):
            return [_parse_annotated(entry) for entry in entries]
        if mirror is None and find_optional(prompts):
            lines = read_questions(prompts)
            # The upload names the image, so that each line must have one.
            return [replace(sample_of(line, images), cluster=line.image_name) for line in lines]
        return [_parse(entry) for entry in entries]

    def ask(questions: Questions) -> list[Sample]:
        # Without annotations `read` has taken LLaVA's file already, if it is there.
        has_annotations = any(sample.target for sample in questions.values())
        wording = prompts if mirror is None and has_annotations else None
        return reword(questions, prompts=wording, annotations=path)

    return Benchmark(
        name="vizwiz",
        split=split,
        hub=table,
        definition="vizwiz_official/1",
        primary_metric="vqa_accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(mirror, prompts, path),
        read=read,
        ask=ask,
        judge=each(_judge),
        targets_tell=not is_annotated,
        figures=partial(mean_figures, metric="vqa_accuracy", fields=["answer_type"]),
        upload=Upload(
            suffix=".json",
            server="https://eval.ai/web/challenges/challenge-page/2185/my-submission",
            render=_render,
        ),
        releases=RELEASES,
        official_suffix=UNANSWERABLE_SUFFIX,
        prompt_suffix=prompt_suffix,
    )


def _entries(path: Path, images: Path, prompts: Path) -> list[Entry]:
    """The entries of the official file."""
    origin = f"{ORIGIN} (LLaVA's {prompts.name} serves for a test split)"
    return list_entries(read_json(path, origin), path, images)


def _as_official(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the mirror in the official form."""
    name = str(row.get("question_id"))
    return {
        "image": name if name.endswith(".jpg") else f"{name}.jpg",
        "question": row.get("question"),
        "answers": [{"answer": answer} for answer in row.get("answers") or []],
        "answer_type": row.get("category"),
    }


def _parse(entry: Entry) -> Sample:
    """The question of an entry without what the annotators said."""
    place, record, image = entry
    name = require(record, "image", str, place)
    number = _NUMBER.search(name)
    if number is None or not is_number(number[1]):
        raise DataError(
            f"{place}: `image` must end in a number and a suffix, but is {name!r}. Mend the entry."
        )
    text = require(record, "question", str, place).capitalize() + UNANSWERABLE_SUFFIX
    return question_about(image(name), int(number[1]), text)


def _parse_annotated(entry: Entry) -> Sample:
    """The question of an entry with what the annotators said."""
    place, record, _ = entry
    answers = require(record, "answers", list, place)
    if not answers:
        raise DataError(f"{place}: `answers` must not be empty. Fetch the file again.")
    return replace(
        _parse(entry),
        target=tuple(require(answer, "answer", str, place) for answer in answers),
        groups={"answer_type": require(record, "answer_type", str, place)},
    )


def _judge(text: str, question: Sample) -> Judgment:
    answer = normalize_vizwiz(text)
    return score_matches(question.target.count(answer), len(question.target)), answer


def _render(questions: Questions, texts: Mapping[str, str]) -> bytes:
    """A JSON array of image and normalized answer."""
    answers = {key: normalize_m4c(texts[key]) for key in questions}
    entries = [{"image": q.cluster, "answer": answers[key]} for key, q in questions.items()]
    return json.dumps(entries).encode()
