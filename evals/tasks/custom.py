"""Own questions in LLaVA's question format, answered and, where they have targets, scored.

Files: a question file with one JSON object a line, and a folder with the images.

One question: `{"question_id": 7, "image": "cat.jpg", "text": "What animal is it?", "answer":
"cat"}`. `image` may be a list of several names, or absent. The prompt is `text` as it stands. What
a scorer compares with stands in `answer` or `label`, for `vqa_accuracy` in `answers`.

Metric: by the scorer. `exact`: the share of answers that equal their target, both stripped of
surrounding white space and nothing else. `vqa_accuracy`: VQAv2's soft accuracy over a list of
answers. `yes_no`: POPE's reading of the answer and its figures. `choice`: ScienceQA's reading of a
letter. `none`: nothing is scored.

Known deviations: none, there is no official definition; the readings are the official ones.

Published: nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from evals.benchmark import Benchmark, Questions, as_read, each, rebuildable
from evals.errors import DataError, check_choice
from evals.figures.metrics import mean_score
from evals.reading.entries import files_of
from evals.reading.questions import Question, read_questions, sample_of
from evals.records import Aggregate, Sample, Score
from evals.scorers import SCORERS
from evals.scorers.choice import LETTERS
from evals.scorers.yes_no import binary_figures, count_missing_as_wrong

_ALLOWED: Mapping[str, Sequence[str]] = {"yes_no": ("yes", "no"), "choice": tuple(LETTERS)}


class _Details(NamedTuple):
    """Where a question stands, for messages, and what its answer is compared with."""

    where: str
    target: Any


@rebuildable
def Custom(  # noqa: N802 - stored manifests and configurations name it so
    *,
    questions: str | Path,
    images: str | Path | None = None,
    scorer: str | None = "none",
    name: str = "custom",
    max_new_tokens: int = 128,
) -> Benchmark:
    """The user's own questions.

    Args:
        questions: The question file.
        images: The folder that the image names are relative to; not needed without images.
        scorer: `none` (or None) to answer only, `exact`, `vqa_accuracy`, `yes_no` or `choice`.
        name: The task's name in tables and folders.
        max_new_tokens: The answer length.

    Raises:
        ValueError: there is no such scorer.
    """
    scorer = scorer or "none"
    check_choice("`scorer`", scorer, SCORERS)
    path, folder, judge = Path(questions), Path(images or ""), SCORERS[scorer]
    metric = "vqa_accuracy" if scorer == "vqa_accuracy" else "accuracy"

    def read() -> list[Sample]:
        return [_parse(line, folder, scorer) for line in read_questions(path)]

    return Benchmark(
        name=name,
        split=path.name.removesuffix(".gz").removesuffix(".jsonl"),
        definition=f"custom_{scorer}/1",
        primary_metric=metric,
        max_new_tokens=max_new_tokens,
        data_files=files_of(None, path),
        read=read,
        ask=_refuse_images if images is None else as_read,
        judge=None if judge is None else each(lambda text, asked: judge(text, asked.target)),
        figures=partial(_figures, metric, is_binary=scorer == "yes_no"),
        unscored=(
            "cannot be scored without a scorer. Set scorer=exact and give every question an "
            "`answer`."
        ),
    )


def _refuse_images(questions: Questions) -> list[Sample]:
    """The questions where no folder with images is given, so that none may name any."""
    for sample in questions.values():
        if sample.images:
            raise DataError(
                f"{sample.details.where} names the image {sample.image_keys[0]!r}, but no image "
                "folder is given. Set `images`."
            )
    return as_read(questions)


def _parse(line: Question, images: Path, scorer: str) -> Sample:
    target = _read_target(line, scorer)
    details = _Details(where=line.where, target=target)
    return replace(sample_of(line, images), target=target, details=details)


def _read_target(line: Question, scorer: str) -> Any:
    """What the scorer compares an answer with; None if nothing is scored."""
    if scorer == "none":
        return None
    if scorer == "vqa_accuracy":
        return _read_answers(line)
    target = _read_answer(line)
    if scorer == "yes_no":
        target = target.lower()
    allowed = _ALLOWED.get(scorer)
    if allowed and target not in allowed:
        raise DataError(
            f"{line.where}: the target must be one of {', '.join(allowed)} for scorer={scorer}, "
            f"but is {target!r}. Mend the line."
        )
    return target


def _read_answer(line: Question) -> str:
    for name in ("answer", "label"):
        value = line.fields.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value).strip()
        if isinstance(value, float) and math.isfinite(value):  # what a table lacks is NaN
            return str(value)
    raise DataError(
        f"{line.where} lacks an `answer` (or `label`) that is a text or a number. Add it, or set "
        "scorer=none."
    )


def _read_answers(line: Question) -> list[str]:
    answers = line.fields.get("answers")
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) for a in answers):
        raise DataError(
            f"{line.where} lacks `answers`, a list of at least one text. Add it, or choose another "
            "scorer."
        )
    return answers


def _figures(metric: str, scores: Sequence[Score], *, is_binary: bool) -> Aggregate:
    """The mean of the scores and, of answers that are yes or no, the figures of POPE."""
    metrics = {metric: mean_score(scores)}
    if is_binary:
        figures = binary_figures(
            count_missing_as_wrong(score.answer, score.details.target) for score in scores
        )
        metrics |= {name: figures[name] for name in ("precision", "recall", "f1", "yes_ratio")}
    return Aggregate(
        metrics=metrics,
        num_unparsed=sum(score.answered and score.answer is None for score in scores),
    )
