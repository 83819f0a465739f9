"""ScienceQA: multiple-choice questions from school science (Lu et al., arXiv:2209.09513).

Files, in `data_dir`: `problems.json`, `pid_splits.json`, images in `images/<split>/<id>/image.png`;
LLaVA's `llava_<split>_CQM-A.json` is read for the prompts where it is there. Mirror:
`lmms-lab/ScienceQA`, without ids, so that the row's number is the id.

One problem, by its id: `{"11": {"question": "What is the name of the colony shown?", "choices":
["Maryland", "New Hampshire", "Rhode Island", "Vermont"], "answer": 1, "hint": "", "image":
"image.png", "subject": "social science", "topic": "us-history", "grade": "grade4", "split":
"test", ...}}`; the prompt: the hint after `Context: ` if there is one, the question, one lettered
line a choice, and a line that asks for the letter.

Metric: accuracy over all problems of the split, by the letter that LLaVA's script reads;
`accuracy_image`, the published figure, is the one over answers whose stored prompt holds an image
placeholder; an answer without a prompt counts there if its problem has an image. The rows by
subject, context and grade follow lupantech/ScienceQA @ 2cbf8318. Official code:
haotian-liu/LLaVA @ c121f043, `eval_science_qa.py`.

Variants: `unparsed="random"` draws a choice, by the problem's id, where none can be read, as the
original script of lupantech/ScienceQA does; it counts for 3 points on GPT-3's published outputs.
`answer="rank"` ranks the letters by likelihood.

Known deviations: the rows are taken over the problems of the split, where the official script
takes those of test. A row is None if a problem lacks the field, or if it is empty (official: -1).

Published: LLaVA-1.5-7B 66.8, 13B 71.6 (test, accuracy_image).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from evals.benchmark import GENERATE, Benchmark, Predictions, Questions, as_read, rebuildable
from evals.errors import check_choice
from evals.figures.metrics import break_down_all, mean_score
from evals.ranking import answered_by
from evals.reading.entries import files_of
from evals.reading.files import find_optional
from evals.reading.hub import HubLocation, find_mirror
from evals.reading.images import IMAGE_PLACEHOLDER
from evals.reading.questions import LETTER_SUFFIX
from evals.reading.releases import LLAVA_ORIGIN, Release
from evals.reading.scienceqa import (
    Problem,
    read_problem_mirror,
    read_problems,
    reword_problems,
)
from evals.records import Aggregate, Prediction, Sample, Score, score_of
from evals.scorers.choice import LETTERS, choice_index, parse_choice

ORIGIN = "https://github.com/lupantech/ScienceQA (data/scienceqa)"
IMAGES_ORIGIN = "https://github.com/lupantech/ScienceQA (tools/download.sh fetches the images)"
_FILES = {"problems.json": ORIGIN, "pid_splits.json": ORIGIN, "images": IMAGES_ORIGIN}
RELEASES: Mapping[str, Release] = {
    "train": Release(num_questions=12_726, files=_FILES),
    "val": Release(num_questions=4_241, num_images=2_097, files=_FILES),
    "test": Release(
        num_questions=4_241,
        num_images=2_017,
        files={**_FILES, "llava_test_CQM-A.json": LLAVA_ORIGIN},
    ),
}
_HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_TABLES = {
    split: HubLocation(repo="lmms-lab/ScienceQA", config="ScienceQA-FULL", split=name)
    for split, name in _HUB_SPLITS.items()
}
_UNPARSED = {"wrong": "scienceqa_llava/1", "random": "scienceqa_random/1"}
_ROW_NUMBERS = (
    "The mirror has no problem ids, so that the numbers of its rows are the ids. Answers with the "
    "official ids are scored with data=playground, from problems.json and pid_splits.json."
)


class Choice(NamedTuple):
    """What the figures need of an answer.

    Attributes:
        choice_index: The index of the choice that it counts as, -1 for none.
        is_unparsed: Whether no choice could be read.
        has_image: Whether it was given to an image.
        rows: Those of the problem.
    """

    choice_index: int
    is_unparsed: bool
    has_image: bool
    rows: Mapping[str, bool | None]


@rebuildable
def ScienceQA(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    split: str = "test",
    unparsed: str = "wrong",
    prompt_suffix: str = LETTER_SUFFIX,
    source: str = "files",
    max_new_tokens: int = 1024,
    answer: str = GENERATE,
) -> Benchmark:
    """ScienceQA on one split of `pid_splits.json`.

    An answer from which no choice can be read is what `unparsed` says: `wrong` or `random`.
    `answer` is `generate` or `rank`, see `evals.ranking`.
    """
    check_choice("`unparsed`", unparsed, _UNPARSED)
    if source == "hub":
        check_choice("`split` of scienceqa on the hub", split, _TABLES)
    folder = Path(data_dir)
    problems, splits = folder / "problems.json", folder / "pid_splits.json"
    prompts = folder / f"llava_{split}_CQM-A.json"
    mirror = find_mirror("scienceqa", source, _TABLES.get(split), folder)

    def ask(questions: Questions) -> list[Sample]:
        if mirror is not None or find_optional(prompts) is None:
            return as_read(questions)
        return reword_problems(questions, prompts, splits)

    read = partial(read_problems, problems, splits, split, ORIGIN)
    task = Benchmark(
        name="scienceqa",
        split=split,
        hub=_TABLES.get(split),
        foreign_is_error=mirror is not None,  # there is a question for every row's number
        ids_note="" if mirror is None else _ROW_NUMBERS,
        definition=_UNPARSED[unparsed],
        primary_metric="accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(mirror, prompts, problems, splits),
        read=partial(read_problem_mirror, mirror) if mirror else read,
        ask=ask,
        judge=partial(_judge, draws=unparsed == "random"),
        figures=_figures,
        releases=RELEASES,
        official_suffix=LETTER_SUFFIX,
        prompt_suffix=prompt_suffix,
    )
    return answered_by(answer, task, lambda sample: LETTERS[: sample.details.num_choices])


def _judge(questions: Questions, predictions: Predictions, *, draws: bool) -> list[Score]:
    return [_score(sample, predictions.get(key), draws=draws) for key, sample in questions.items()]


def _score(sample: Sample, prediction: Prediction | None, *, draws: bool) -> Score:
    problem: Problem = sample.details
    if prediction is None:
        return score_of(sample, None, Choice(-1, True, False, problem.rows))
    letter = parse_choice(prediction.text)
    index = choice_index(letter, problem.num_choices)
    is_unparsed = index < 0
    if is_unparsed and draws:
        index = random.Random(sample.key).randrange(problem.num_choices)
    # Without a stored prompt the problem tells whether it was asked with an image.
    shown = IMAGE_PLACEHOLDER in prediction.prompt if prediction.prompt else bool(sample.images)
    judgment = float(index == problem.answer), letter
    return score_of(sample, judgment, Choice(index, is_unparsed, shown, problem.rows))


def _figures(scores: Sequence[Score]) -> Aggregate:
    """The accuracies, the official table's rows, and the accuracy by topic."""
    return Aggregate(
        metrics={
            "accuracy": mean_score(scores),
            "accuracy_image": mean_score(s for s in scores if s.details.has_image),
            **{row: _mean_of_row(scores, row) for row in scores[0].details.rows},
        },
        breakdowns=break_down_all(scores, ["topic"], "accuracy"),
        num_unparsed=sum(score.answered and score.details.is_unparsed for score in scores),
    )


def _mean_of_row(scores: Sequence[Score], row: str) -> float | None:
    """The mean over the members of a row; None if one score's membership is not known."""
    if any(score.details.rows[row] is None for score in scores):
        return None
    return mean_score(score for score in scores if score.details.rows[row])
