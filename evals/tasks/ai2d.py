r"""AI2D: multiple choice on diagrams of school science (Kembhavi et al., arXiv:1603.07396).

Files, in `data_dir`: the table `data/test-*.parquet` of `lmms-lab/ai2d`, or for `test_no_mask` of
`lmms-lab/ai2d-no-mask`. Nothing in the tables tells them apart, so each has a folder of its own,
`ai2d` and `ai2d-no-mask`: in the latter the letters in the diagrams are drawn without the white box
behind them, which is worth ten points.

One row: `{"question": "Which stage follows the pupa?", "options": ["egg", "larva", "adult"],
"answer": "2", "image": {"bytes": ..., "path": null}}`; its id is the number of the row from 0, over
all files; the prompt: the question, one lettered line an option, and a line that asks for the
letter. The table does not say which rows share a diagram, so that each counts as its own.

Metric: accuracy. Of an answer that begins with a capital letter and a period only the letter
counts; then case and ASCII punctuation are left out, and it must be the letter. Whatever is no
letter of an option counts as unparsed. Source: EvolvingLMMs-Lab/lmms-eval v0.2.3; version 0.1.0
took no letter from `B. text`, and its figures are lower.

Variants: `answer="rank"` ranks the letters by likelihood.

Published: LLaVA-OneVision-0.5B 57.1, 72B-SI 85.1 (test).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evals.benchmark import GENERATE, Benchmark, each, rebuildable
from evals.errors import DataError, check_choice
from evals.figures.metrics import mean_figures
from evals.ranking import answered_by
from evals.reading.entries import Entry, files_of, mirror_entries, question_about
from evals.reading.files import is_number, require, require_texts
from evals.reading.hub import HubLocation, find_table, releases_here
from evals.reading.questions import LETTER_SUFFIX, lettered_lines
from evals.reading.releases import Release
from evals.records import Aggregate, Judgment, Sample, Score
from evals.scorers.exact import bare_text, score_exact

RELEASES: Mapping[str, Release] = {
    "test": Release(num_questions=3_088),
    "test_no_mask": Release(num_questions=3_088),
}
_TABLES = {
    "test": HubLocation(repo="lmms-lab/ai2d", split="test"),
    "test_no_mask": HubLocation(repo="lmms-lab/ai2d-no-mask", split="test"),
}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LETTER_FIRST = re.compile(r"\s*([A-Z])\.")


@rebuildable
def AI2D(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "test",
    max_new_tokens: int = 16,
    prompt_suffix: str = LETTER_SUFFIX,
    answer: str = GENERATE,
) -> Benchmark:
    """AI2D on `test`, or on `test_no_mask` with the same questions about other images.

    `answer` is `generate` or `rank`, see `evals.ranking`.
    """
    check_choice("`split` of ai2d", split, RELEASES)
    table = find_table("ai2d", source, _TABLES[split], Path(data_dir))
    task = Benchmark(
        name="ai2d",
        split=split,
        hub=_TABLES[split],
        definition="ai2d_letter/1",
        primary_metric="accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(table),
        read=lambda: [_parse(n, entry) for n, entry in enumerate(mirror_entries(table))],
        judge=each(_judge),
        figures=_figures,
        releases=releases_here(RELEASES, table),
        official_suffix=LETTER_SUFFIX,
        prompt_suffix=prompt_suffix,
    )
    return answered_by(answer, task, lambda sample: sample.details.upper())


def _parse(number: int, entry: Entry) -> Sample:
    place, record, image = entry
    options = require_texts(record, "options", place)
    answer = require(record, "answer", str, place)
    if not options or len(options) > len(_LETTERS):
        raise DataError(
            f"{place}: `options` must be 1 to {len(_LETTERS)} texts, but are {len(options)}. Fetch "
            "the file again."
        )
    if not is_number(answer) or int(answer) >= len(options):
        raise DataError(
            f"{place}: `answer` must be the number of one of the {len(options)} options from 0, "
            f"but is {answer[:80]!r}. Fetch the file again."
        )
    text = f"{require(record, 'question', str, place)}\n{lettered_lines(options)}{LETTER_SUFFIX}"
    letters = _LETTERS[: len(options)]
    target = letters[int(answer)]
    return question_about(image(str(number)), number, text, target=target, details=letters)


def _judge(text: str, question: Sample) -> Judgment:
    found = _LETTER_FIRST.match(text)
    answer = bare_text(found[1] if found else text.strip())
    return score_exact(answer, question.target), answer


def _figures(scores: Sequence[Score]) -> Aggregate:
    num_unparsed = sum(score.answered and score.answer not in [*score.details] for score in scores)
    return replace(mean_figures(scores, "accuracy"), num_unparsed=num_unparsed)
