r"""ChartQA: questions about charts, written by people or made from texts (arXiv:2203.10244).

Files, in `data_dir`: `test/test_human.json` and `test/test_augmented.json`, images in `test/png/`;
or the table `data/test-*.parquet` of `lmms-lab/ChartQA`, with the same questions in the same order.

One question: `{"imgname": "41699051005347.png", "query": "How many bars are there?", "label":
"3"}`, one row `{"type": "human_test", "question": "How many bars are there?", "answer": "3",
"image": {"bytes": ..., "path": null}}`; its id is its number from 0, human questions first; the
prompt: the question and a line that asks for a single word. The table does not say which questions
share a chart, so that each counts as its own there.

Metric: relaxed accuracy: a number may be 5% off, anything else must be the same but for case; over
all, over the human and over the augmented questions. Official code: google-research/pix2struct @
945f27e9, `metrics.py`; lmms-eval's is the same.

Published: LLaVA-OneVision-0.5B 61.4, 72B-SI 84.9. Versions of lmms-eval differ for one checkpoint
(LLaVA-1.6-Mistral-7B: 38.8 with 0.1, 52.9 with 0.2.0) though their rule and prompt do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark, each, rebuildable
from evals.errors import DataError, check_choice
from evals.figures.metrics import mean_score
from evals.reading.entries import Entry, files_of, list_entries, mirror_entries, question_about
from evals.reading.files import read_json, require
from evals.reading.hub import HubLocation, HubTable, find_table, releases_here
from evals.reading.releases import Release
from evals.records import Aggregate, Judgment, Sample, Score
from evals.scorers.relaxed import score_relaxed

ORIGIN = "https://huggingface.co/datasets/ahmed-masry/ChartQA (ChartQA Dataset.zip)"
_TABLE = HubLocation(repo="lmms-lab/ChartQA", split="test")
_HALVES = {"human": "test/test_human.json", "augmented": "test/test_augmented.json"}
_IMAGES = "test/png"
RELEASES: Mapping[str, Release] = {
    "test": Release(num_questions=2_500, files=dict.fromkeys([*_HALVES.values(), _IMAGES], ORIGIN))
}
WORD_SUFFIX = "\nAnswer the question with a single word."


@rebuildable
def ChartQA(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "test",
    max_new_tokens: int = 16,
    prompt_suffix: str = WORD_SUFFIX,
) -> Benchmark:
    """ChartQA on `test`."""
    check_choice("`split` of chartqa", split, RELEASES)
    folder = Path(data_dir)
    paths = [folder / name for name in _HALVES.values()]
    table = find_table("chartqa", source, _TABLE, folder, paths)
    return Benchmark(
        name="chartqa",
        split=split,
        hub=_TABLE,
        definition="chartqa_relaxed/1",
        primary_metric="relaxed_accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(table, *paths),
        read=partial(_read, table, folder),
        judge=each(_judge),
        figures=_figures,
        releases=releases_here(RELEASES, table),
        official_suffix=WORD_SUFFIX,
        prompt_suffix=prompt_suffix,
    )


def _read(table: HubTable | None, folder: Path) -> list[Sample]:
    entries = _official(folder) if table is None else mirror_entries(table, _as_official)
    return [_parse(number, entry) for number, entry in enumerate(entries)]


def _official(folder: Path) -> Iterator[Entry]:
    """The entries of both files, each with the half that it is of."""
    for half, name in _HALVES.items():
        content = read_json(folder / name, _TABLE.serves_for(ORIGIN))
        for entry in list_entries(content, folder / name, folder / _IMAGES):
            require(entry.record, "imgname", str, entry.place)
            yield entry._replace(record={**entry.record, "type": half})


def _as_official(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table in the official form; it does not name its image."""
    half = str(row.get("type")).removesuffix("_test")
    return {"query": row.get("question"), "label": row.get("answer"), "type": half}


def _parse(number: int, entry: Entry) -> Sample:
    place, record, image = entry
    half = record["type"]
    if half not in _HALVES:
        raise DataError(
            f"{place}: `type` must be human_test or augmented_test, but is {half[:80]!r}. Fetch "
            "the file again."
        )
    return question_about(
        image(record.get("imgname", str(number))),
        number,
        require(record, "query", str, place) + WORD_SUFFIX,
        target=require(record, "label", str, place),
        details=half,
    )


def _judge(text: str, question: Sample) -> Judgment:
    answer = text.strip()
    return score_relaxed(answer, question.target), answer


def _figures(scores: Sequence[Score]) -> Aggregate:
    parts = {
        f"relaxed_accuracy_{half}": mean_score(s for s in scores if s.details == half)
        for half in _HALVES
    }
    return Aggregate(metrics={"relaxed_accuracy": mean_score(scores), **parts})
