r"""MMStar: multiple choice that takes the image to be answered (Chen et al., arXiv:2403.20330).

Files, in `data_dir`: `mmstar.parquet` with the images, of `Lin-Chen/MMStar`.

One row: `index, question, image, answer, category, l2_category, meta_info`; the question holds its
options. The prompt: the question without ` Please answer yes or no.`, and a line that asks for the
letter.

Metric: accuracy; the letter is the first one of the answer, maybe behind `(`, `option ` or `the
answer is `. Official code: MMStar-Benchmark/MMStar @ 88f243ab, `mmstar.py`. `accuracy_l2_mean` is
lmms-eval's `average`: the mean over the 18 groups of `l2_category`.

Known deviations: none; the prompt is that of lmms-eval 0.2.3.

Published: LLaVA-NeXT-34B 52.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evals.benchmark import Benchmark, each, rebuildable
from evals.errors import DataError, check_choice
from evals.figures.metrics import count_unread, mean_figures, mean_of_all
from evals.reading.entries import Entry, files_of, mirror_entries, question_about
from evals.reading.files import require
from evals.reading.hub import HubLocation, find_table, releases_here
from evals.reading.releases import Release
from evals.records import Aggregate, Judgment, Sample, Score
from evals.scorers.exact import score_exact
from evals.scorers.mmstar import LETTERS, read_first_letter

_TABLE = HubLocation(
    repo="Lin-Chen/MMStar", config="val", split="val", patterns=("mmstar.parquet",)
)
RELEASES: Mapping[str, Release] = {
    "val": Release(num_questions=1_500),
}
_SUFFIX = "\nAnswer with the option's letter from the given choices directly"
_LEFT_OUT = " Please answer yes or no."


@rebuildable
def MMStar(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "val",
    max_new_tokens: int = 1024,
    prompt_suffix: str = _SUFFIX,
) -> Benchmark:
    """MMStar."""
    check_choice("`split` of mmstar", split, RELEASES)
    table = find_table("mmstar", source, _TABLE, Path(data_dir))
    return Benchmark(
        name="mmstar",
        split=split,
        hub=_TABLE,
        definition="mmstar_first_letter/1",
        primary_metric="accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(table),
        read=lambda: list(map(_parse, mirror_entries(table))),
        judge=each(_judge),
        figures=_figures,
        grouped_metrics=frozenset(["accuracy_l2_mean"]),
        releases=releases_here(RELEASES, table),
        official_suffix=_SUFFIX,
        prompt_suffix=prompt_suffix,
    )


def _parse(entry: Entry) -> Sample:
    place, record, image = entry
    answer = require(record, "answer", str, place)
    if len(answer) != 1 or answer not in LETTERS:
        raise DataError(
            f"{place}: `answer` must be one of the letters {LETTERS}, but is {answer!r}. Fetch the "
            "file again."
        )
    index = require(record, "index", int, place)
    question = require(record, "question", str, place).strip().replace(_LEFT_OUT, "")
    groups = {name: require(record, name, str, place) for name in ("category", "l2_category")}
    return question_about(
        image(str(index)), index, question + _SUFFIX, target=answer, groups=groups
    )


def _judge(text: str, question: Sample) -> Judgment:
    letter = read_first_letter(text)
    return score_exact(letter or "", question.target), letter


def _figures(scores: Sequence[Score]) -> Aggregate:
    """The accuracy over all questions and by group, and its mean over the smaller groups."""
    figures = mean_figures(scores, "accuracy", ["category", "l2_category"])
    groups = figures.breakdowns["l2_category"].values()
    by_group = mean_of_all(group["accuracy"] for group in groups)
    return replace(
        figures,
        metrics={**figures.metrics, "accuracy_l2_mean": by_group},
        num_unparsed=count_unread(scores),
    )
