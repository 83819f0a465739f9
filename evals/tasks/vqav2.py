"""VQAv2: open questions about COCO images (Goyal et al., arXiv:1612.00837).

Files, in `data_dir`: `v2_OpenEnded_mscoco_<subtype>_questions.json` and, for val and demo,
`v2_mscoco_<subtype>_annotations.json`; images in `<subtype>/COCO_<subtype>_%012d.jpg` (test-dev2015
is a part of test2015 and shares its images). LLaVA's `llava_vqav2_mscoco_<subtype>.jsonl` is read
for the prompts where it is there. Mirror: `lmms-lab/VQAv2`.

One question: `{"image_id": 262148, "question": "Where is he looking?", "question_id": 262148000}`;
its annotation: `{"question_id": 262148000, "image_id": 262148, "question_type": "none of the
above", "answer_type": "other", "multiple_choice_answer": "down", "answers": [{"answer": "down",
"answer_confidence": "yes", "answer_id": 1}, ...]}`; the prompt: `Where is he looking?` and a line
that asks for a single word or phrase.

Metric: soft accuracy over the annotators. Unless the annotators all agree, answers are normalized
first; if they do, nothing is, so that `Yes` against ten `yes` scores 0. Official code:
GT-Vision-Lab/VQA @ a013f004, `vqaEval.py`. Test splits are scored by the server only.

Variants: `normalization="always"` normalizes in every case, as other harnesses do.

Known deviations: figures are not rounded; the official script rounds to two decimals of a percent.
A missing answer scores 0 and is counted, where the official script stops.

Published: LLaVA-1.5-7B 78.5, 13B 80.0 (test-dev).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from evals.benchmark import Benchmark, Questions, Upload, as_read, each, rebuildable
from evals.errors import check_choice
from evals.figures.metrics import mean_figures
from evals.normalize import normalize_m4c
from evals.reading.entries import files_of
from evals.reading.hub import HubLocation, find_mirror
from evals.reading.questions import SHORT_ANSWER_SUFFIX
from evals.reading.releases import LLAVA_ORIGIN, Release
from evals.reading.vqav2 import FIELDS, VQAFiles, read_mirror
from evals.records import Judgment, Sample
from evals.scorers.vqa_accuracy import score_vqa

ORIGIN = "https://visualqa.org/download.html"
COCO_ORIGIN = "http://images.cocodataset.org/zips"
RELEASES: Mapping[str, Release] = {
    "val": Release(
        num_questions=214_354,
        num_images=40_504,
        files={
            "v2_OpenEnded_mscoco_val2014_questions.json": ORIGIN,
            "v2_mscoco_val2014_annotations.json": ORIGIN,
            "val2014": f"{COCO_ORIGIN}/val2014.zip",
        },
    ),
    "test-dev2015": Release(
        num_questions=107_394,
        files={
            "v2_OpenEnded_mscoco_test-dev2015_questions.json": ORIGIN,
            "llava_vqav2_mscoco_test-dev2015.jsonl": LLAVA_ORIGIN,
            "test2015": f"{COCO_ORIGIN}/test2015.zip",
        },
    ),
    "test2015": Release(
        num_questions=447_793,
        num_images=81_434,
        files={
            "v2_OpenEnded_mscoco_test2015_questions.json": ORIGIN,
            "llava_vqav2_mscoco_test2015.jsonl": LLAVA_ORIGIN,
            "test2015": f"{COCO_ORIGIN}/test2015.zip",
        },
    ),
}
_SPLITS = ("val", "test-dev2015", "test2015", "demo")
_IMAGE_SUBTYPES = {"test-dev2015": "test2015"}
_ANNOTATED = frozenset(["val", "demo"])
_PARTS = frozenset(["test-dev2015"])  # their uploads list all of test2015
_HUB_SPLITS = {"val": "validation", "test-dev2015": "testdev", "test2015": "test"}
_TABLES = {
    split: HubLocation(repo="lmms-lab/VQAv2", split=name) for split, name in _HUB_SPLITS.items()
}
_NORMALIZATIONS = {"official": "vqa_official/1", "always": "vqa_always_normalized/1"}


@rebuildable
def VQAv2(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "test-dev2015",
    normalization: str = "official",
    max_new_tokens: int = 128,
    prompt_suffix: str = SHORT_ANSWER_SUFFIX,
) -> Benchmark:
    """VQAv2 on `val`, `test-dev2015`, `test2015` or `demo`.

    `normalization` is `official`, or `always` for answers on which all annotators agree too.
    """
    check_choice("`split` of vqav2", split, _SPLITS)
    check_choice("`normalization`", normalization, _NORMALIZATIONS)
    folder, has_annotations = Path(data_dir), split in _ANNOTATED
    subtype = "val2014" if split == "val" else split
    mirror = find_mirror("vqav2", source, _TABLES.get(split), folder)
    files = VQAFiles(folder, subtype, _IMAGE_SUBTYPES.get(subtype, subtype), ORIGIN)
    paths = [files.prompts, files.questions]
    read: Callable[[], list[Sample]] = files.read_questions
    ask: Callable[[Questions], list[Sample]] = as_read
    if mirror is not None:
        read = partial(read_mirror, mirror, files.image_name, has_annotations=has_annotations)
    elif has_annotations:
        paths.append(files.annotations)
        read, ask = files.read_annotations, files.ask

    def read_whole() -> Questions:
        return VQAv2(data_dir=data_dir, split="test2015", source=source).questions

    upload = Upload(
        suffix=".json",
        server="https://eval.ai/web/challenges/challenge-page/830/my-submission",
        render=_render,
        whole=read_whole if split in _PARTS else None,
    )
    return Benchmark(
        name="vqav2",
        split=split,
        hub=_TABLES.get(split),
        definition=_NORMALIZATIONS[normalization],
        primary_metric="vqa_accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(mirror, *paths),
        read=read,
        ask=ask,
        judge=each(partial(_judge, always=normalization == "always")) if has_annotations else None,
        figures=partial(mean_figures, metric="vqa_accuracy", fields=FIELDS),
        upload=None if has_annotations else upload,
        releases=RELEASES,
        official_suffix=SHORT_ANSWER_SUFFIX,
        prompt_suffix=prompt_suffix,
    )


def _judge(text: str, question: Sample, *, always: bool) -> Judgment:
    return score_vqa(text, question.target, records=question.details, always_normalize=always)


def _render(questions: Questions, texts: Mapping[str, str]) -> bytes:
    """A JSON array of id and normalized answer over all of test2015."""
    entries = [
        {"question_id": question.question_id, "answer": normalize_m4c(texts[key])}
        for key, question in questions.items()
    ]
    return json.dumps(entries).encode()
