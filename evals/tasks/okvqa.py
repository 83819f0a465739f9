r"""OK-VQA: questions about COCO images that take outside knowledge (arXiv:1906.00067).

Files, in `data_dir`: `OpenEnded_mscoco_val2014_questions.json` and
`mscoco_val2014_annotations.json`, images in `val2014/COCO_val2014_%012d.jpg`; or the table
`data/val2014-*.parquet` of `lmms-lab/OK-VQA`.

One question: `{"image_id": 297147, "question": "What sport can you use this for?", "question_id":
2971475}`; its annotation: `{"question_id": 2971475, "image_id": 297147, "question_type": "four",
"answer_type": "other", "answers": [{"answer_id": 1, "raw_answer": "racing", "answer": "race"},
...]}`; the prompt: the question, a line that asks for `Unanswerable` where the image does not tell,
and a line that asks for a single word or phrase. The table does not say which of its questions
share an image, so that each counts as its own there.

Metric: VQAv2's soft accuracy over the annotators' stemmed answers, `answer`, so that `racing` is
wrong where it is `race`; by field of knowledge too. Official code: GT-Vision-Lab/VQA @ a013f004.
`vqa_accuracy_m4c` has both sides normalized in every case, as lmms-eval has.

Known deviations: figures are not rounded; a missing answer scores 0 and is counted.

Published: none of LLaVA by this rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark, Predictions, Questions, rebuildable
from evals.errors import check_choice
from evals.figures.metrics import mean, mean_figures
from evals.normalize import normalize_m4c
from evals.reading.entries import (
    Entry,
    file_entries,
    files_of,
    mirror_entries,
    question_about,
)
from evals.reading.files import check_unique, read_json, require, require_id
from evals.reading.hub import HubLocation, HubTable, find_table, releases_here
from evals.reading.questions import UNANSWERABLE_SUFFIX, check_same_ids
from evals.reading.releases import Release
from evals.reading.vqav2 import FIELDS, parse_annotators
from evals.records import Aggregate, Sample, Score, score_of
from evals.scorers.vqa_accuracy import score_matches, score_vqa

ORIGIN = "https://okvqa.allenai.org/download.html"
_QUESTIONS = "OpenEnded_mscoco_val2014_questions.json"
_ANNOTATIONS = "mscoco_val2014_annotations.json"
_IMAGES = "val2014"
RELEASES: Mapping[str, Release] = {
    "val": Release(
        num_questions=5_046,
        files={
            _QUESTIONS: ORIGIN,
            _ANNOTATIONS: ORIGIN,
            _IMAGES: "http://images.cocodataset.org/zips/val2014.zip",
        },
    )
}
_TABLE = HubLocation(repo="lmms-lab/OK-VQA", split="val2014")


@rebuildable
def OKVQA(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "val",
    max_new_tokens: int = 1024,
    prompt_suffix: str = UNANSWERABLE_SUFFIX,
) -> Benchmark:
    """OK-VQA on `val`."""
    check_choice("`split` of okvqa", split, RELEASES)
    folder = Path(data_dir)
    paths = [folder / _QUESTIONS, folder / _ANNOTATIONS]
    table = find_table("okvqa", source, _TABLE, folder, paths)
    return Benchmark(
        name="okvqa",
        split=split,
        hub=_TABLE,
        definition="okvqa_official/1",
        primary_metric="vqa_accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(table, *paths),
        read=partial(_read, table, folder),
        judge=_judge,
        figures=_figures,
        releases=releases_here(RELEASES, table),
        official_suffix=UNANSWERABLE_SUFFIX,
        prompt_suffix=prompt_suffix,
    )


def _read(table: HubTable | None, folder: Path) -> list[Sample]:
    entries = _official(folder) if table is None else mirror_entries(table, _as_official)
    return [_parse(entry) for entry in entries]


def _official(folder: Path) -> Iterator[Entry]:
    """The annotations, each with its question."""
    asked, said = (
        _by_id(folder, name, field)
        for name, field in ((_QUESTIONS, "questions"), (_ANNOTATIONS, "annotations"))
    )
    check_same_ids(asked, folder / _QUESTIONS, said, folder / _ANNOTATIONS)
    for key, entry in said.items():
        question = require(asked[key].record, "question", str, asked[key].place)
        number = require(entry.record, "image_id", int, entry.place)
        more = {"question": question, "image": f"COCO_val2014_{number:012d}.jpg"}
        yield entry._replace(record={**entry.record, **more})


def _by_id(folder: Path, name: str, field: str) -> dict[str, Entry]:
    path = folder / name
    entries = file_entries(
        read_json(path, _TABLE.serves_for(ORIGIN)), field, path, folder / _IMAGES
    )
    keys = [str(require_id(entry.record, "question_id", entry.place)) for entry in entries]
    check_unique(keys, str(path))
    return dict(zip(keys, entries, strict=True))


def _as_official(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table, whose answers are texts, in the official form."""
    answers = row.get("answers")
    if isinstance(answers, list):
        answers = [{"answer": one, "answer_id": n} for n, one in enumerate(answers)]
    return {**row, "answers": answers}


def _parse(entry: Entry) -> Sample:
    place, record, image = entry
    question_id = require_id(record, "question_id", place)
    answers, records = parse_annotators(record, place)
    return question_about(
        image(record.get("image", str(question_id))),
        question_id,
        require(record, "question", str, place) + UNANSWERABLE_SUFFIX,
        target=answers,
        groups={field: require(record, field, str, place) for field in FIELDS},
        details=records,
    )


def _judge(questions: Questions, predictions: Predictions) -> list[Score]:
    """The scores by the official rule; their details are those of M4C's."""
    scores = []
    for key, one in questions.items():
        if key not in predictions:
            scores.append(score_of(one, None, details=0.0))
            continue
        text = predictions[key].text
        normalized = [normalize_m4c(answer) for answer in one.target]
        m4c = score_matches(normalized.count(normalize_m4c(text)), len(normalized))
        judgment = score_vqa(text, one.target, records=one.details)
        scores.append(score_of(one, judgment, details=m4c))
    return scores


def _figures(scores: Sequence[Score]) -> Aggregate:
    official = mean_figures(scores, "vqa_accuracy", FIELDS)
    m4c = {"vqa_accuracy_m4c": mean(score.details for score in scores)}
    return replace(official, metrics={**official.metrics, **m4c})
