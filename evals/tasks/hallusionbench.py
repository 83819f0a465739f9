r"""HallusionBench: yes-no questions on illusions of eye and memory (Guan et al., arXiv:2310.14566).

Files, in `data_dir`: `HallusionBench.json`, images in `hallusion_bench/`; or, with the images,
`data/image-*.parquet` and `data/non_image-*.parquet` of `lmms-lab/HallusionBench`.

One question: `{"category": "VD", "subcategory": "illusion", "visual_input": "1", "set_id": "0",
"figure_id": "0", "question_id": "0", "question": "Is the left circle larger?", "gt_answer": "0",
"gt_answer_details": "They are equally large.", "filename": "./hallusion_bench/VD/illusion/0_0.png",
...}`; the id is all of these names and numbers; the prompt is the question as it stands.

Splits: `image`, the questions with an image, as lmms-eval and VLMEvalKit ask; `all`, officially.

Metric: aAcc over questions; fAcc, the figures all of whose questions are right; qAcc, the questions
that are right about all of their figures. Right is the word yes or no, as open-compass/VLMEvalKit
@ e8e78f05 reads it, or with `replies` what a judge holds to be correct: tianyi-lab/HallusionBench @
744007c2, `utils.py`. easy and hard are the judged qAcc of `visual_input` other than 2, and 2.

Known deviations: over several runs of the judge each figure is the mean of the runs.

Published: LLaVA-1.5 aAcc 46.94, fAcc 24.86, qAcc 10.55 (`all`, judge gpt-4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evals.benchmark import Benchmark, each, rebuildable
from evals.errors import check_choice
from evals.figures.metrics import group_by, mean
from evals.grading import Graded, Grading, ask_or_name, details_of, find_replies
from evals.reading.entries import list_entries, mirror_entries
from evals.reading.files import find_all, read_json, require
from evals.reading.hallusionbench import parse_entry
from evals.reading.hub import HubLocation, find_table, releases_here
from evals.reading.releases import Release
from evals.reading.replies import JudgeRequest
from evals.records import Aggregate, Judgment, Prediction, Sample, Score
from evals.scorers.hallusionbench import (
    PROMPT,
    Answer,
    build_request,
    easy_and_hard,
    is_held_right,
    read_verdict,
    read_yes_no,
    right_shares,
)

NAME = "hallusionbench"
ORIGIN = "https://github.com/tianyi-lab/HallusionBench"
_FILE = "HallusionBench.json"
_FILES = {_FILE: ORIGIN, "hallusion_bench": f"{ORIGIN} (hallusion_bench.zip)"}
RELEASES: Mapping[str, Release] = {
    "image": Release(num_questions=951, num_images=346, files=_FILES),
    "all": Release(num_questions=1_129, num_images=346, files=_FILES),
}
_TABLES = {"image": ("image",), "all": ("image", "non_image")}


@rebuildable
def HallusionBench(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "image",
    judge: str = "gpt-4",
    replies: str | Path | Sequence[str | Path] | None = None,
    max_new_tokens: int = 128,
) -> Benchmark:
    """HallusionBench on one split, with `replies` by those of the model `judge`."""
    check_choice(f"`split` of {NAME}", split, RELEASES)
    folder = Path(data_dir)
    path = folder / _FILE
    places = [HubLocation(repo="lmms-lab/HallusionBench", split=name) for name in _TABLES[split]]
    found = [find_table(NAME, source, place, folder, [path]) for place in places]
    lacking = [place for place, table in zip(places, found, strict=True) if table is None]
    tables = [] if lacking else [table for table in found if table is not None]

    def read() -> list[Sample]:
        entries = [entry for table in tables for entry in mirror_entries(table)]
        for entry in entries[: len(tables[0].rows)] if tables else ():  # those of the table `image`
            require(entry.record, "filename", str, entry.place)
        if lacking:
            content = read_json(path, lacking[0].serves_for(ORIGIN, *lacking[1:]))
            entries = list_entries(content, path, folder)
        return [one for one in map(parse_entry, entries) if one.images or split == "all"]

    def data_files() -> list[Path]:
        found = [file for table in tables for file in table.data_files()]
        return found if tables else find_all([path])

    grading = Grading(
        model=judge,
        prompt=PROMPT,
        request=_request,
        grade=_grade,
        is_readable=lambda _: True,  # whatever says neither is a verdict: unclear
        replies=find_replies(replies),
        remedy=ask_or_name(NAME),
    )
    return Benchmark(
        name=NAME,
        split=split,
        hub=places[-1],
        definition=grading.definition(NAME) if replies else f"{NAME}_yes_no/1",
        primary_metric="aAcc",
        max_new_tokens=max_new_tokens,
        data_files=data_files,
        read=read,
        judge=each(_judge),
        figures=_figures,
        grading=grading,
        grouped_metrics=frozenset(["fAcc", "qAcc", "easy", "hard"]),
        releases=releases_here(RELEASES, tables[-1] if tables else None),
        foreign_is_error=False,  # answers to all questions may be scored on those with an image
    )


def _judge(text: str, question: Sample) -> Judgment:
    word = read_yes_no(text)
    is_right = word == question.target.word or (word == "other" and question.details.lacks_image)
    return float(is_right), word


def _request(question: Sample, prediction: Prediction, _: int) -> JudgeRequest:
    return build_request(question.text, question.target.reference, prediction.text)


def _grade(_: str, question: Sample, replies: Sequence[str | None]) -> Judgment:
    """The share of the judge's runs that hold the answer to be right, and the first verdict."""
    rights = [is_held_right(reply, question.details) for reply in replies]
    first = replies[0]
    return mean(rights) or 0.0, None if first is None else read_verdict(first)


def _figures(scores: Sequence[Score]) -> Aggregate:
    """The shares of questions, figures and groups of questions that are right."""
    metrics = right_shares(list(map(_answer, scores)))
    if any(isinstance(score.details, Graded) for score in scores):
        metrics |= easy_and_hard(list(map(_answer, scores)))
    breakdowns = {
        field: {
            group: {**right_shares(list(map(_answer, some))), "num_questions": len(some)}
            for group, some in group_by(scores, field).items()
        }
        for field in ("category", "subcategory")
    }
    num_unparsed = sum(score.answer in ("other", "unclear") for score in scores)
    return Aggregate(metrics=metrics, breakdowns=breakdowns, num_unparsed=num_unparsed)


def _answer(score: Score) -> Answer:
    place, rights = details_of(score), [score.value == 1]
    if isinstance(score.details, Graded):
        rights = [is_held_right(reply, place) for reply in score.details.replies]
    return place, rights
