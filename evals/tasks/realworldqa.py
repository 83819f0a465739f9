r"""RealWorldQA: questions about photographs of everyday places (xAI, 2024).

Files, in `data_dir`: the table `data/test-*.parquet` of `lmms-lab/RealWorldQA`, in two files.

One row: `{"question": "Where is the car?\n\nA. Left\nB. Right\nPlease answer directly with only
the letter of the correct option and nothing else.", "answer": "A", "image": {"bytes": ..., "path":
null}}`; its id is the number of the row from 0, over both files; the prompt: the question as it
stands, which says how to answer.

Metric: accuracy, after a number in words has become digits, punctuation is left out, and the first
option whose text occurs in the answer has become its letter. So `No` is found in `North`, and an
option that ends in a period never. Source: EvolvingLMMs-Lab/lmms-eval v0.2.3, both filters and
`exact_match_hf_evaluate`; later versions read answers otherwise, and their figures differ.

Published: LLaVA-OneVision-1.5-4B 64.05, 8B 68.10 (lmms-eval, its version is not stated).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from evals.benchmark import Benchmark, each, rebuildable
from evals.errors import check_choice
from evals.figures.metrics import mean_figures
from evals.reading.entries import Entry, files_of, mirror_entries, question_about
from evals.reading.files import require
from evals.reading.hub import HubLocation, find_table, releases_here
from evals.reading.releases import Release
from evals.records import Judgment, Sample
from evals.scorers.exact import bare_text, score_exact

RELEASES: Mapping[str, Release] = {"test": Release(num_questions=765)}
_TABLE = HubLocation(repo="lmms-lab/RealWorldQA", split="test")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)}
_MARK = re.compile(r"[^\w\s]")
_OPTION = re.compile(r"\b[A-Z]\.\s+([^\n]*)")


@rebuildable
def RealWorldQA(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "test",
    max_new_tokens: int = 16,
) -> Benchmark:
    """RealWorldQA on `test`."""
    check_choice("`split` of realworldqa", split, RELEASES)
    table = find_table("realworldqa", source, _TABLE, Path(data_dir))
    return Benchmark(
        name="realworldqa",
        split=split,
        hub=_TABLE,
        definition="realworldqa_filtered/1",
        primary_metric="accuracy",
        max_new_tokens=max_new_tokens,
        data_files=files_of(table),
        read=lambda: [_parse(n, entry) for n, entry in enumerate(mirror_entries(table))],
        judge=each(_judge),
        figures=partial(mean_figures, metric="accuracy"),
        releases=releases_here(RELEASES, table),
    )


def _parse(number: int, entry: Entry) -> Sample:
    """The question of a row; its details are the letters of its options by their texts."""
    place, record, image = entry
    question = require(record, "question", str, place)
    options = [text.strip() for text in _OPTION.findall(question)]
    return question_about(
        image(str(number)),
        number,
        question.strip(),
        target=bare_text(require(record, "answer", str, place)),
        # Of two options with one text the later letter counts, as officially.
        details={text: chr(ord("A") + position) for position, text in enumerate(options)},
    )


def _judge(text: str, question: Sample) -> Judgment:
    answer = bare_text(_read_answer(text.strip(), question.details))
    return score_exact(answer, question.target), answer


def _read_answer(text: str, options: Mapping[str, str]) -> str:
    """The letter of the option that an answer holds, or else the answer without punctuation."""
    cleaned = _MARK.sub("", _DIGITS.get(text.lower(), text)).strip()
    found = re.search("|".join(map(re.escape, options)), cleaned) if options else None
    return cleaned if found is None else options[found[0]]
