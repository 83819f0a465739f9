r"""SEED-Bench: multiple choice on images and video frames (Li et al., arXiv:2307.16125).

Files, in `data_dir`: `SEED-Bench.json`, images in `SEED-Bench-image/<data_id>`, the middle frame of
each video in `SEED-Bench-video-image/<data_id>`; LLaVA's `llava-seed-bench.jsonl` gives prompts and
image names where it is there. Mirror: `lmms-lab/SEED-Bench` (fewer videos).

One question: `{"question_id": "101669", "question": "How many towels are in the image?",
"choice_a": "One", ..., "choice_d": "Four", "answer": "A", "data_id": "1454426_2591111986",
"data_type": "image", "question_type_id": 5}`; the prompt: the question, one lettered line a choice,
and a line that asks for the letter.

Splits: `v1`, or of it `v1_image` and `v1_video` alone: the frames of the videos are hard to get.
Questions of LLaVA's file that `SEED-Bench.json` lacks, as its later releases do, are not asked.

Metric: accuracy; the answer must be the bare letter, and whatever else it is counts as unparsed.
Official code: haotian-liu/LLaVA @ c121f043,
`convert_seed_for_submission.py`. The benchmark's own script ranks the texts of the choices by
likelihood instead.

Variants: `answer="rank"` ranks the letters by likelihood, which is neither of the two.

Known deviations: a type without any right answer has accuracy 0, where the script fails.

Published: LLaVA-1.5-7B 58.6, 13B 61.6 (images and videos).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from evals.benchmark import GENERATE, Benchmark, Questions, Upload, each, rebuildable
from evals.errors import DataError, check_choice
from evals.figures.metrics import mean_figures, mean_score
from evals.ranking import answered_by
from evals.reading.entries import (
    Entry,
    file_entries,
    files_of,
    mirror_entries,
    question_about,
    reword,
)
from evals.reading.files import check_unique, read_json, require, require_id
from evals.reading.hub import HubLocation, find_mirror
from evals.reading.questions import LETTER_SUFFIX
from evals.reading.releases import LLAVA_ORIGIN, Release
from evals.records import Aggregate, Sample, Score
from evals.scorers.exact import score_exact

ORIGIN = "https://huggingface.co/datasets/AILab-CVC/SEED-Bench"
_FILES = {
    "SEED-Bench.json": ORIGIN,
    "llava-seed-bench.jsonl": LLAVA_ORIGIN,
    "SEED-Bench-image": ORIGIN,
}
_FRAMES = {"SEED-Bench-video-image": f"{ORIGIN} (frames are cut by LLaVA's script)"}
_NO_VIDEOS = "Set tasks.seedbench.split=v1_image to ask the image questions alone."
RELEASES: Mapping[str, Release] = {
    "v1": Release(
        num_questions=19_242,
        files={**_FILES, **_FRAMES},
        other_releases={
            17_990: "that is the later release with 3,757 of the 5,009 video questions. Set "
            f"check_counts=false to go on with it, or take an older revision of {ORIGIN}. "
            f"{_NO_VIDEOS}"
        },
    ),
    "v1_image": Release(num_questions=14_233, files=_FILES),
    "v1_video": Release(num_questions=5_009, files={**_FILES, **_FRAMES}),
}
_FOLDERS = {"image": "SEED-Bench-image", "video": "SEED-Bench-video-image"}
_LETTERS = "ABCD"

_TABLE = HubLocation(repo="lmms-lab/SEED-Bench", split="test")


@rebuildable
def SeedBench(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "v1",
    max_new_tokens: int = 128,
    prompt_suffix: str = LETTER_SUFFIX,
    answer: str = GENERATE,
) -> Benchmark:
    """SEED-Bench, version 1: all of it, or as `v1_image` or `v1_video` a part.

    `answer` is `generate` or `rank`, see `evals.ranking`.
    """
    check_choice("`split` of seedbench", split, RELEASES)
    is_whole = split == "v1"
    folder = Path(data_dir)
    path, prompts = folder / "SEED-Bench.json", folder / "llava-seed-bench.jsonl"
    mirror = find_mirror("seedbench", source, _TABLE, folder)

    def read() -> list[Sample]:
        if mirror is not None:
            samples = [_parse(entry, {}) for entry in mirror_entries(mirror)]
        else:
            content = read_json(path, ORIGIN)
            types = require(content, "question_type", dict, str(path))
            check_unique(map(str, types.values()), f"{path}: question_type")
            names = {number: name for name, number in types.items()}
            entries = file_entries(content, "questions", path, folder)
            samples = [_parse(entry, names) for entry in entries]
        return [one for one in samples if is_whole or one.details == split.removeprefix("v1_")]

    task = Benchmark(
        name="seedbench",
        split=split,
        hub=_TABLE,
        definition="seedbench_letter/1",
        primary_metric="accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(mirror, prompts, path),
        read=read,
        ask=partial(
            reword,
            prompts=None if mirror else prompts,
            annotations=path,
            images=folder,
            # Later releases lack videos that LLaVA's file asks about.
            spare=logging.WARNING if is_whole else logging.INFO,
        ),
        judge=each(lambda text, question: (score_exact(text, question.target), text)),
        figures=_figures,
        upload=Upload(
            suffix=".jsonl",
            server="https://huggingface.co/spaces/AILab-CVPR/SEED-Bench_Leaderboard",
            render=_render,
        ),
        releases=RELEASES,
        without_images=_NO_VIDEOS if is_whole else "",
        official_suffix=LETTER_SUFFIX,
        prompt_suffix=prompt_suffix,
        foreign_is_error=False,
    )
    return answered_by(answer, task, lambda _: _LETTERS)


def _parse(entry: Entry, names: Mapping[int, str]) -> Sample:
    """The question of an entry; `names` has the question types by number, where they have names."""
    place, record, image = entry
    type_id = require(record, "question_type_id", int, place)
    kind = require(record, "data_type", str, place)
    answer = require(record, "answer", str, place)
    is_known = kind in _FOLDERS and (not names or type_id in names)
    if not is_known or not _is_letter(answer):
        raise DataError(
            f"{place}: `data_type` must be image or video, `question_type_id` a type of the file "
            f"and `answer` a letter, but they are {kind!r}, {type_id} and {answer!r}. Mend the "
            "entry."
        )
    lines = [require(record, "question", str, place)]
    for letter in _LETTERS:
        lines.append(f"{letter}. {require(record, f'choice_{letter.lower()}', str, place)}")
    name = f"{_FOLDERS[kind]}/{require(record, 'data_id', str, place)}"
    question_id = require_id(record, "question_id", place)
    groups = {"question_type": names.get(type_id, str(type_id))}
    text = "\n".join(lines) + LETTER_SUFFIX
    # a row of the mirror has frames of its own, of another part of the video than other rows
    key = name if names or kind == "image" else f"{name}#{question_id}"
    sample = question_about(
        image(key), question_id, text, target=answer, groups=groups, details=kind
    )
    return replace(sample, cluster=name)


def _figures(scores: Sequence[Score]) -> Aggregate:
    """The accuracy over all, over images and videos, and by question type."""
    accuracy = mean_figures(scores, "accuracy", ["question_type"])
    parts = {f"accuracy_{k}": mean_score(s for s in scores if s.details == k) for k in _FOLDERS}
    num_unparsed = sum(score.answered and not _is_letter(score.answer or "") for score in scores)
    return replace(accuracy, metrics={**accuracy.metrics, **parts}, num_unparsed=num_unparsed)


def _is_letter(text: str) -> bool:
    return len(text) == 1 and text in _LETTERS


def _render(questions: Questions, texts: Mapping[str, str]) -> bytes:
    """One JSON object a line with id and prediction."""
    answers = ((question.question_id, texts[key]) for key, question in questions.items())
    lines = (json.dumps({"question_id": name, "prediction": text}) for name, text in answers)
    return "".join(line + "\n" for line in lines).encode()
