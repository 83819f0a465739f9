r"""MathVista: mathematics in pictures, by choices or free numbers (Lu et al., arXiv:2310.02255).

Files, in `data_dir`: `testmini.json`, images in `images/`; or, with the images,
`data/testmini-*.parquet` of `AI4Math/MathVista`.

One question, by its pid: `{"pid": "7", "question": "How long is the ramp?", "image":
"images/7.jpg", "choices": null, "unit": "m", "precision": 1.0, "answer": "1.2", "question_type":
"free_form", "answer_type": "float", "metadata": {"skills": ["geometry reasoning"], ...}}`. The
prompt, by `prompt`: `format` as lmms-eval 0.2.3 asks, `cot` or `solution` as the authors do.

Metric: accuracy of what is extracted from the answer, in the form of the target: an answer that is
a choice or a plain number is read directly, any other by a judge (`replies`), or without one taken
as it is. Official code: lupantech/MathVista @ 53d52587, `extract_answer.py`, `calculate_score.py`.

Known deviations: the judge is not asked here, only its replies are taken; over several runs of it
the accuracy is the mean. lmms-eval's 40 questions for a float are always wrong.

Published: LLaVA (LLaMA-2-13B) 26.1, LLaVA-1.5-13B 27.6 (judged).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import NoReturn

from evals.benchmark import Benchmark, each, rebuildable
from evals.errors import DataError, check_choice
from evals.figures.metrics import break_down_labels, count_unread, mean, mean_figures
from evals.grading import Grading, details_of, find_replies
from evals.reading.entries import Entry, files_of, mirror_entries, question_about
from evals.reading.files import read_json, require, require_texts
from evals.reading.hub import HubLocation, find_table, releases_here
from evals.reading.images import image_in
from evals.reading.mathvista import STYLES, Target, read_form, word_question
from evals.reading.releases import Release
from evals.records import Aggregate, Judgment, Sample, Score
from evals.scorers.mathvista import normalize_extraction, read_directly

NAME = "mathvista"
ORIGIN = "https://github.com/lupantech/MathVista"
RELEASES: Mapping[str, Release] = {
    split: Release(num_questions=number, files={f"{split}.json": ORIGIN, "images": ORIGIN})
    for split, number in {"testmini": 1_000, "test": 5_141}.items()
}
_REMEDY = (
    f"Have extract_answer.py of {ORIGIN} ask the judge, and name the file that it writes as "
    f"tasks.{NAME}.replies=FILE, and the judge as tasks.{NAME}.judge=MODEL."
)
_FIELDS = ("language", "source", "category", "task", "context", "grade")


@rebuildable
def MathVista(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "testmini",
    prompt: str = "format",
    judge: str = "gpt-4",
    replies: str | Path | Sequence[str | Path] | None = None,
    max_new_tokens: int = 1024,
) -> Benchmark:
    """MathVista on one split, with `replies` by those of the model `judge`."""
    check_choice(f"`split` of {NAME}", split, RELEASES)
    check_choice(f"`prompt` of {NAME}", prompt, STYLES)
    path = Path(data_dir) / f"{split}.json"
    place = HubLocation(repo="AI4Math/MathVista", split=split, images=("decoded_image",))
    table = find_table(NAME, source, place, path.parent, [path])
    is_annotated = split == "testmini"

    def read() -> list[Sample]:
        origin = place.serves_for(ORIGIN)
        entries = _entries(path, origin) if table is None else mirror_entries(table)
        return [_parse(entry, prompt, is_annotated=is_annotated) for entry in entries]

    grading = Grading(
        model=judge,
        prompt="",  # of the authors' script
        request=_refuse,
        grade=_grade,
        needs_judge=lambda text, question: read_directly(text, question.target.form) is None,
        is_readable=lambda _: True,  # an empty reply extracts nothing, which has a meaning
        replies=find_replies(replies),
        remedy=_REMEDY,
    )
    return Benchmark(
        name=NAME,
        split=split,
        hub=place,
        definition=grading.definition(NAME) if replies else f"{NAME}_direct/1",
        primary_metric="accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(table, path),
        read=read,
        judge=each(lambda text, question: _grade(text, question, [text])),
        figures=_figures,
        grading=grading if is_annotated else None,
        targets_tell=not is_annotated,
        unscored=f"has no public answers; its authors score what they are sent ({ORIGIN}).",
        releases=releases_here(RELEASES, table),
    )


def _entries(path: Path, origin: str) -> list[Entry]:
    content = read_json(path, origin)
    if not isinstance(content, dict):
        raise DataError(f"{path} must be an object of questions. Fetch the file again.")
    image = partial(image_in, path.parent)
    return [Entry(f"{path}: {pid}", record, image) for pid, record in content.items()]


def _parse(entry: Entry, style: str, *, is_annotated: bool) -> Sample:
    where, record, image = entry
    form, kind = read_form(record, where)
    unit = require(record, "unit", (str, NoneType), where)
    text = word_question(require(record, "question", str, where), unit, form.choices, kind, style)
    answer = require(record, "answer", (str, NoneType), where)
    if is_annotated and (not answer or (form.choices and answer not in form.choices)):
        asked = "one of the choices" if form.choices else "a text"
        raise DataError(
            f"{where}: `answer` must be {asked}, but is {answer!r:.80}. Fetch the file again."
        )
    metadata = require(record, "metadata", dict, where)
    groups = {name: require(metadata, name, str, where) for name in _FIELDS}
    types = {name: record[name] for name in ("question_type", "answer_type")}
    return question_about(
        image(require(record, "image", str, where)),
        require(record, "pid", str, where),
        text,
        target=Target(answer, form) if answer else None,
        groups={**types, **groups},
        details={"skills": require_texts(metadata, "skills", where)},
    )


def _grade(text: str, question: Sample, replies: Sequence[str | None]) -> Judgment:
    """The share of the judge's runs that make the answer right, and what the first one makes it.

    An answer that is read directly makes its own one reply.
    """
    answer, form = question.target
    direct = read_directly(text, form)
    extracted = replies if direct is None else [direct]
    answers = [None if one is None else normalize_extraction(one, form) for one in extracted]
    return mean(one == answer for one in answers) or 0.0, answers[0]


def _refuse(*_: object) -> NoReturn:
    raise DataError(
        f"{NAME}: the judge is shown five worked examples that are not here, so that it cannot be "
        f"asked. {_REMEDY}"
    )


def _figures(scores: Sequence[Score]) -> Aggregate:
    """The accuracy over all questions and by group; one may take several skills."""
    figures = mean_figures(scores, "accuracy", ["question_type", "answer_type", *_FIELDS])
    labelled = [replace(score, details=details_of(score)) for score in scores]
    skills = break_down_labels(labelled, ["skills"], "accuracy")
    breakdowns = {**figures.breakdowns, **skills}
    return replace(figures, breakdowns=breakdowns, num_unparsed=count_unread(scores))
