r"""CV-Bench: where, how many, how deep, how far (Cambrian-1, arXiv:2406.16860).

Files, in `data_dir`: the tables `test_2d.parquet` and `test_3d.parquet` of `nyu-visionx/CV-Bench`.

One row: `{"idx": 0, "type": "2D", "task": "Count", "source": "COCO", "choices": ["2", "3"],
"answer": "(B)", "prompt": "How many?\n(A) 2\n(B) 3", "image": {"bytes": ..., "path": null}}`. The
prompt: a line that asks for a letter, an empty one, the row's own. Each image counts as its own.

Metric: `accuracy_by_source`: half the mean of ADE20K's and COCO's accuracy, half Omni3D's. The
letter is the answer's first, maybe behind `(`, in any case: `Blue` is B. Official code:
EvolvingLMMs-Lab/lmms-eval @ 75571cfe, `cv_bench/utils.py`, which has this figure too, but prints
`accuracy`. Published: nothing by this prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase

from evals.benchmark import Benchmark, each, rebuildable
from evals.errors import DataError
from evals.figures.metrics import count_unread, mean_figures, mean_of_all
from evals.reading.entries import Entry, files_of, mirror_entries, question_about
from evals.reading.files import require, require_id, require_texts
from evals.reading.hub import HubLocation, find_table, releases_here
from evals.reading.releases import Release
from evals.records import Aggregate, Judgment, Sample, Score

_FILES = ("test_[23]d.parquet",)
_TABLE = HubLocation(repo="nyu-visionx/CV-Bench", split="test", patterns=_FILES)
_NOTE = "Note: You only need to respond with {} without providing any additional information.\n\n"
_LETTER = re.compile(r"[(\s]*([A-Z])", re.IGNORECASE)


@rebuildable
def CVBench(  # noqa: N802 - stored manifests and configurations name it so
    *, data_dir: str | Path, source: str = "files", max_new_tokens: int = 1024
) -> Benchmark:
    """CV-Bench on `test`."""
    table = find_table("cvbench", source, _TABLE, Path(data_dir))
    return Benchmark(
        name="cvbench",
        split="test",
        definition="cvbench_first_letter/1",
        primary_metric="accuracy_by_source",
        primary_is_mean=False,
        max_new_tokens=max_new_tokens,
        data_files=files_of(table),
        read=lambda: list(map(_parse, mirror_entries(table))),
        judge=each(_judge),
        figures=_figures,
        hub=_TABLE,
        releases=releases_here({"test": Release(num_questions=2_638)}, table),
    )


def _parse(entry: Entry) -> Sample:
    place, record, image = entry
    answer = require(record, "answer", str, place)
    if not re.fullmatch(r"\([A-Z]\)", answer):
        raise DataError(f"{place}: `answer` must be like (B), but is {answer!r}. Fetch it again.")
    letters = ", ".join(ascii_uppercase[: len(require_texts(record, "choices", place))])
    text = _NOTE.format(letters) + require(record, "prompt", str, place)
    groups = {name: require(record, name, str, place) for name in ("type", "task", "source")}
    index = require_id(record, "idx", place)
    return question_about(image(str(index)), index, text, target=answer[1], groups=groups)


def _judge(text: str, question: Sample) -> Judgment:
    found = _LETTER.match(text)
    letter = found[1].upper() if found else None
    return float(letter == question.target), letter


def _figures(scores: Sequence[Score]) -> Aggregate:
    mean = mean_figures(scores, "accuracy", ["type", "task", "source"])
    by = {source: row["accuracy"] for source, row in mean.breakdowns["source"].items()}
    halves = mean_of_all([by.get("ADE20K"), by.get("COCO")]), by.get("Omni3D")
    metrics = {"accuracy_by_source": mean_of_all(halves), **mean.metrics}
    return replace(mean, metrics=metrics, num_unparsed=count_unread(scores))
