r"""MMMU: college questions on 30 subjects, mostly multiple choice (Yue et al., arXiv:2311.16502).

Files, in `data_dir`: `data/<split>-*.parquet` of `lmms-lab/MMMU`, or the folder a subject of
`MMMU/MMMU`; all hold the images.

One row: `id` such as `validation_Art_1`, `question`, `options` (a list in Python's spelling), up to
seven images, `answer` (a letter; for an open question a text, or several as a list), and
`question_type`. The prompt: the question with its markers `<image 1>`, one lettered line an option,
and what form the answer is to have; the images that are marked stand before it.

Metric: accuracy over questions. Official code: MMMU-Benchmark/MMMU @ bb0b95a9, `eval_utils.py`; for
an answer without a letter it draws one, at random from one seed, subject by subject.
`accuracy_no_guess` is without these draws; `accuracy_lmms_eval`, also without, reads letters and
lists of answers as lmms-eval 0.2.3 does.

Known deviations: none; the prompt is that of lmms-eval 0.2.3.

Published: LLaVA-1.5-13B 36.4, LLaVA-NeXT-34B 51.1 (val).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from evals.benchmark import Benchmark, Predictions, Questions, Upload, rebuildable
from evals.errors import check_choice
from evals.figures.metrics import break_down_all, count_unread, mean, mean_score
from evals.reading.entries import files_of
from evals.reading.hub import find_table, releases_here
from evals.reading.mmmu import read_rows, table_of
from evals.reading.releases import Release
from evals.records import Aggregate, Sample, Score, score_of
from evals.scorers.mmmu import LMMS_FORMS, read_letter, score_open

SERVER = "https://eval.ai/web/challenges/challenge-page/2179"
RELEASES: Mapping[str, Release] = {
    "dev": Release(num_questions=150),
    "val": Release(num_questions=900),
    "test": Release(num_questions=10_500),
}
_HUB_SPLITS = {"dev": "dev", "val": "validation", "test": "test"}
_SEED = 42


class _Values(NamedTuple):
    """What an answer is worth by the two other rules."""

    no_guess: float = 0.0
    lmms_eval: float = 0.0


@rebuildable
def MMMU(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "val",
    max_new_tokens: int = 16,
) -> Benchmark:
    """MMMU on `dev`, `val` or `test`."""
    check_choice("`split` of mmmu", split, RELEASES)
    table = find_table("mmmu", source, table_of(_HUB_SPLITS[split]), Path(data_dir))
    is_test = split == "test"
    return Benchmark(
        name="mmmu",
        split=split,
        hub=table.location,
        definition="mmmu_official/1",
        primary_metric="accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(table),
        read=partial(read_rows, table, has_answers=not is_test),
        judge=_judge,
        targets_tell=is_test,
        figures=_figures,
        upload=Upload(suffix=".json", server=SERVER, render=_render) if is_test else None,
        releases=releases_here(RELEASES, table),
    )


def _judge(questions: Questions, predictions: Predictions) -> list[Score]:
    texts = {key: predictions[key].text for key in questions if key in predictions}
    letters = _letters(questions, texts)
    drawn = _draw(questions, letters)
    return [
        _score(sample, texts.get(key), letters.get(key), drawn.get(key))
        for key, sample in questions.items()
    ]


def _letters(questions: Questions, texts: Mapping[str, str]) -> dict[str, str | None]:
    """What is read from the answers to multiple-choice questions."""
    return {
        key: read_letter(text, options)
        for key, text in texts.items()
        if (options := questions[key].details.options)
    }


def _draw(questions: Questions, letters: Mapping[str, str | None]) -> dict[str, str]:
    """A letter for each answer that has none, as the official script draws them from one seed.

    It goes through the subjects by name, and through the questions of one in the table's order.
    """
    generator = random.Random(_SEED)
    unread = [key for key in questions if key in letters and letters[key] is None]
    unread.sort(key=lambda key: questions[key].details.subject)
    return {key: generator.choice(list(questions[key].details.options)) for key in unread}


def _score(sample: Sample, text: str | None, letter: str | None, drawn: str | None) -> Score:
    if text is None:
        return score_of(sample, None, _Values())
    target, options = sample.target, sample.details.options
    if not options:
        value = score_open(text, target)
        # lmms-eval takes several right answers for one text.
        return score_of(
            sample, (value, text), _Values(value, score_open(text, [sample.details.answer]))
        )
    values = _Values(
        no_guess=float(letter == target),
        lmms_eval=float(read_letter(text, options, LMMS_FORMS) == target),
    )
    return score_of(sample, (float((letter or drawn) == target), letter), values)


def _figures(scores: Sequence[Score]) -> Aggregate:
    """The accuracy over all questions and by group, and by the two other rules over all."""
    return Aggregate(
        metrics={
            "accuracy": mean_score(scores),
            "accuracy_no_guess": mean(score.details.no_guess for score in scores),
            "accuracy_lmms_eval": mean(score.details.lmms_eval for score in scores),
        },
        breakdowns=break_down_all(scores, ["domain", "subject", "question_type"], "accuracy"),
        num_unparsed=count_unread(scores),
    )


def _render(questions: Questions, texts: Mapping[str, str]) -> bytes:
    """One object of letters and open answers by id; a letter that cannot be read is drawn.

    An answer that is missing or blank stays so: nothing is made up for it.
    """
    letters = _letters(questions, {key: text for key, text in texts.items() if text.strip()})
    drawn = _draw(questions, letters)
    answers = {key: letters.get(key) or drawn.get(key) or texts[key] for key in questions}
    return json.dumps(answers).encode()
