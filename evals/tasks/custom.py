"""Own questions in LLaVA's question format, answered and, where they have targets, scored.

Files: a question file with one JSON object a line, and a folder with the images.

One question: `{"question_id": 7, "image": "cat.jpg", "text": "What animal is it?", "answer":
"cat"}`. `image` may be a list of several names, or absent. The prompt is `text` as it stands. What
a scorer compares with stands in `answer` or `label`, for `vqa_accuracy` and `anls` in `answers`.

Metric: by the scorer. `exact`: the share of answers that equal their target, both stripped of
surrounding white space and nothing else; `contains`: that hold it; `regex`: in which it is found.
`numeric`: whose last number is the target, give or take `tolerance`. `vqa_accuracy`: VQAv2's soft
accuracy over a list of answers; `anls`: DocVQA's similarity to the nearest of them. `relaxed`:
ChartQA's rule for numbers and texts. `yes_no`: POPE's reading of the answer and its figures.
`choice`: ScienceQA's reading of a letter. `judge`: the mean of the grades that a judge model gives.
`none`: nothing is scored.

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

from evals.benchmark import Benchmark, Judge, Questions, as_read, each, rebuildable
from evals.errors import DataError, MissingFileError, check_choice
from evals.figures.metrics import break_down_all, count_unread, mean, mean_score
from evals.grading import Graded, Grading, ask_or_name, find_replies
from evals.reading.entries import files_of
from evals.reading.images import image_in
from evals.reading.own_questions import read_group, read_target, require_groups
from evals.reading.questions import Question, read_questions, sample_of
from evals.reading.replies import JudgeRequest
from evals.records import IN_RESULTS, Aggregate, Judgment, Prediction, Sample, Score
from evals.scorers.judge import OWN_PROMPT, build_own_request, parse_grade
from evals.scorers.own import SCORERS, check_options
from evals.scorers.yes_no import binary_figures, count_missing_as_wrong, judge_yes_no

_JUDGE = "gpt-4o-mini"
_MAX_ATTEMPTS = 3
_UNSCORED = (
    "cannot be scored without a scorer. Set tasks.custom.scorer=exact and give every question an "
    "`answer`."
)
_VERSIONS = {"numeric": 2, "contains": 2, "regex": 2}
"""Of the definitions of scorers whose reading was mended, which gives other scores."""


class _Details(NamedTuple):
    """Where a question stands, for messages, and what its answer is compared with."""

    where: str
    target: Any


@rebuildable
def Custom(  # noqa: N802, PLR0913 - stored manifests and configurations name it so
    *,
    questions: str | Path,
    images: str | Path | None = None,
    scorer: str | None = "none",
    ignore_case: bool = False,
    tolerance: float = 0.0,
    judge: str | None = None,
    replies: str | Path | Sequence[str | Path] | None = None,
    groups: str | Sequence[str] = (),
    name: str = "custom",
    max_new_tokens: int = 128,
) -> Benchmark:
    """The user's own questions.

    Args:
        questions: The question file.
        images: The folder that the image names are relative to; not needed without images.
        scorer: `none` (or None) to answer only, or `exact`, `contains`, `regex`, `numeric`,
            `vqa_accuracy`, `anls`, `relaxed`, `yes_no`, `choice`, `judge`.
        ignore_case: Whether `exact`, `contains` and `regex` take capitals for small letters.
        tolerance: How far from the target a number may be for `numeric`.
        judge: The judge model of the scorer `judge`.
        replies: The files with its replies; none where it has still to be asked.
        groups: Fields of the questions by whose values the figures are also told.
        name: The task's name in tables and folders.
        max_new_tokens: The answer length.

    Raises:
        ValueError: there is no such scorer, an option is not of it, or a group cannot be called so.
    """
    scorer = scorer or "none"
    check_choice("`scorer`", scorer, SCORERS)
    given = {
        "ignore_case": ignore_case,
        "tolerance": float(tolerance),
        "judge": judge,
        "replies": replies,
    }
    options = check_options(scorer, given)
    fields = (groups,) if isinstance(groups, str) else tuple(groups)
    if taken := [field for field in fields if field in IN_RESULTS]:
        raise ValueError(f"`groups` cannot be {taken[0]}, which results hold anyway. Rename it.")
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"`tolerance` must be a number from 0 on, but is {tolerance}.")
    path, folder = Path(questions), Path(images or "")
    metric = SCORERS[scorer].metric
    grading = _grading(judge or _JUDGE, replies) if scorer == "judge" else None
    settings = "".join(
        f"_{option}" if value is True else f"_{option}_{value}"
        for option, value in options.items()
        if value
    )
    rule = f"{scorer}{settings}/{_VERSIONS.get(scorer, 1)}"

    def read() -> list[Sample]:
        lines = list(read_questions(path))
        if images is not None:
            _refuse_misnamed(lines, folder)
        require_groups(path, lines, fields)
        return [_parse(line, folder, scorer, fields) for line in lines]

    return Benchmark(
        name=name,
        split=path.name.removesuffix(".gz").removesuffix(".jsonl"),
        definition=grading.definition(name) if grading else f"custom_{rule}",
        primary_metric=metric,
        max_new_tokens=max_new_tokens,
        data_files=files_of(None, path),
        read=read,
        ask=_refuse_images if images is None else as_read,
        judge=_judge(scorer, options),
        figures=partial(_figures, metric, fields, is_binary=scorer == "yes_no"),
        grading=grading,
        without_images=f"Images are looked for in tasks.custom.images={folder}." if images else "",
        unscored=_UNSCORED if grading is None else "",
    )


def _judge(scorer: str, options: Mapping[str, Any]) -> Judge | None:
    if scorer == "yes_no":
        return judge_yes_no
    judge = SCORERS[scorer].judge
    return judge and each(lambda text, question: judge(text, question.target, **options))


def _refuse_misnamed(lines: Sequence[Question], folder: Path) -> None:
    """Refuses a question whose image is named in another field, and which would be asked blindly.

    Raises:
        DataError: it has no `image`, and another field names a file in the folder.
    """
    for line in lines:
        for field, value in () if line.image_names else line.fields.items():
            values = value if isinstance(value, list) else [value]
            named = [name for name in values if isinstance(name, str)]
            named += [Path(name).name for name in named if Path(name).is_absolute()]
            if any(image_in(folder, name).exists() for name in named):
                raise DataError(
                    f"{line.where} has no `image`, but `{field}` names a file in {folder}, which "
                    "would not be seen. Call the field `image`, or take it out of the line."
                )


def _grading(judge: str, replies: str | Path | Sequence[str | Path] | None) -> Grading:
    return Grading(
        model=judge,
        prompt=OWN_PROMPT,
        request=_request,
        grade=_grade,
        is_readable=lambda reply: parse_grade(reply) is not None,
        max_attempts=_MAX_ATTEMPTS,
        replies=find_replies(replies),
        remedy=ask_or_name("custom"),
    )


def _request(question: Sample, prediction: Prediction, attempt: int) -> JudgeRequest:
    return build_own_request(question.text, question.target, prediction.text, attempt)


def _grade(text: str, _: Sample, replies: Sequence[str | None]) -> Judgment:
    return mean(parse_grade(reply) or 0.0 for reply in replies) or 0.0, text


def _refuse_images(questions: Questions) -> list[Sample]:
    """The questions where no folder with images is given, so that none may name any."""
    for sample in questions.values():
        if sample.images:
            raise MissingFileError(
                f"{sample.details.where} names the image {sample.image_keys[0]!r}, but no image "
                "folder is given. Set tasks.custom.images=DIR."
            )
    return as_read(questions)


def _parse(line: Question, images: Path, scorer: str, fields: Sequence[str]) -> Sample:
    target = read_target(line, scorer)
    details = _Details(where=line.where, target=target)
    sample = replace(sample_of(line, images), target=target, details=details)
    if not fields:
        return sample
    return replace(sample, groups={field: read_group(line, field) for field in fields})


def _figures(
    metric: str, fields: Sequence[str], scores: Sequence[Score], *, is_binary: bool
) -> Aggregate:
    """The mean of the scores, also by group, and of answers that are yes or no POPE's figures."""
    metrics, num_unread = {metric: mean_score(scores)}, count_unread(scores)
    if is_binary:
        num_unread = sum(score.details.is_unparsed for score in scores)
        figures = binary_figures(
            count_missing_as_wrong(score.answer, score.details.label) for score in scores
        )
        metrics |= {name: figures[name] for name in ("precision", "recall", "f1", "yes_ratio")}
    return Aggregate(
        metrics=metrics,
        breakdowns=break_down_all(scores, fields, metric),
        num_unparsed=num_unread + sum(map(_has_unread_grade, scores)),
    )


def _has_unread_grade(score: Score) -> bool:
    """Whether a judge said something about an answer that is no grade."""
    given = score.details.replies if isinstance(score.details, Graded) else ()
    return None in map(parse_grade, given)
