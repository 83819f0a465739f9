r"""MMBench and MMBench-CN: multiple choice with rotated options (Liu et al., arXiv:2307.06281).

Files, in `data_dir`: `mmbench_<split>.tsv` with base64 images, quoted where a cell holds line
breaks. Mirrors: `lmms-lab/MMBench_EN` (dev_20230712) and `lmms-lab/MMBench` (later releases).

One row: `index, question, hint, A, B, C, D, answer, category, image, source, l2-category, comment,
split`. Rows whose indices are equal modulo 10^6 are one question with its options in another
order; the prompt: the hint if there is one, the question, one lettered line an option up to the
first empty one, and a line that asks for the letter.

Metric: a question is right if all its rows are; the accuracy is the mean over questions. The letter
is read by the exact-matching policy of open-compass/VLMEvalKit @ e8e78f05. Test splits are scored
by the server, or here where the table has their answers, which were published later.

Variants: `answer="rank"` ranks the letters by likelihood.

Known deviations: none; where nothing can be read the leaderboard asks a judge, the policy does not.

Published: LLaVA-1.5-7B 64.3, 13B 67.7 (dev_20230712); CN 58.3, 63.6 (dev_cn_20231003).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from evals.benchmark import GENERATE, Benchmark, Questions, Upload, each, rebuildable
from evals.errors import check_choice
from evals.figures.metrics import break_down_all, count_unread, mean_score
from evals.ranking import answered_by
from evals.reading.entries import files_of
from evals.reading.hub import HubLocation, find_mirror
from evals.reading.mmbench import (
    LETTERS,
    PASS,
    parse_rows,
    shown_letters,
    with_mirror_images,
    with_table_images,
)
from evals.reading.questions import LETTER_SUFFIX
from evals.reading.releases import Release
from evals.reading.tsv import read_tsv
from evals.records import Aggregate, Judgment, Sample, Score
from evals.scorers.circular import infer_choice
from evals.submission import render_xlsx

ORIGIN = "https://download.openmmlab.com/mmclassification/datasets/mmbench"
CHINESE_LETTER_SUFFIX = "\n请直接回答选项字母。"
RELEASES: Mapping[str, Release] = {
    "dev_20230712": Release(
        num_questions=4_377,
        files={"mmbench_dev_20230712.tsv": ORIGIN},
        other_releases={
            4_329: "that is the later release. Fetch mmbench_dev_20230712.tsv from "
            f"{ORIGIN}, or set tasks.mmbench.split=dev."
        },
    ),
    "dev": Release(
        num_questions=4_329,
        files={"mmbench_dev.tsv": ORIGIN},
        other_releases={
            4_377: "that is the release of July 2023. Set tasks.mmbench.split=dev_20230712 to "
            "evaluate on it."
        },
    ),
    "test": Release(num_questions=6_666, files={"mmbench_test.tsv": ORIGIN}),
    "dev_cn_20231003": Release(num_questions=4_329, files={"mmbench_dev_cn_20231003.tsv": ORIGIN}),
    "test_cn": Release(num_questions=6_666, files={"mmbench_test_cn.tsv": ORIGIN}),
}
_SUFFIXES = {"en": LETTER_SUFFIX, "cn": CHINESE_LETTER_SUFFIX}
_HUB: Mapping[str, HubLocation] = {
    "dev_20230712": HubLocation(repo="lmms-lab/MMBench_EN", split="dev"),
    "dev": HubLocation(repo="lmms-lab/MMBench", config="en", split="dev"),
    "test": HubLocation(repo="lmms-lab/MMBench", config="en", split="test"),
    "dev_cn_20231003": HubLocation(repo="lmms-lab/MMBench", config="cn", split="dev"),
    "test_cn": HubLocation(repo="lmms-lab/MMBench", config="cn", split="test"),
}


@rebuildable
def MMBench(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    split: str = "dev_20230712",
    language: str = "en",
    prompt_suffix: str | None = None,
    source: str = "files",
    max_new_tokens: int = 1024,
    answer: str = GENERATE,
) -> Benchmark:
    """MMBench on one split, the file's name without `mmbench_`.

    `language` is `en` or `cn`; it decides the task's name and, unless another `prompt_suffix` is
    given, the suffix. `answer` is `generate` or `rank`, see `evals.ranking`.
    """
    check_choice("`language` of mmbench", language, _SUFFIXES)
    if source == "hub" and split not in _HUB:
        raise ValueError(f"`split` must be one of {list(_HUB)} on the hub, but is {split}.")
    name = "mmbench" if language == "en" else "mmbench_cn"
    path, suffix = Path(data_dir) / f"mmbench_{split}.tsv", _SUFFIXES[language]
    mirror = find_mirror(name, source, _HUB.get(split), Path(data_dir))
    is_annotated = not split.startswith("test")  # as published; test files may have answers too
    columns = ["index", "question", *LETTERS, *(["answer"] if is_annotated else [])]
    ask = partial(with_table_images, path)
    if mirror is not None:
        ask = partial(with_mirror_images, mirror)

    def read() -> list[Sample]:
        rows: Sequence[tuple[str, Mapping[str, Any]]]
        rows = read_tsv(path, columns, origin=ORIGIN) if mirror is None else mirror.rows
        return parse_rows(rows, suffix=suffix, must_have_answers=is_annotated)

    task = Benchmark(
        name=name,
        split=split,
        hub=_HUB.get(split),
        definition="mmbench_circular_exact/1",
        primary_metric="accuracy",
        primary_is_mean=False,
        grouped_metrics=frozenset(["accuracy"]),
        max_new_tokens=max_new_tokens,
        data_files=files_of(mirror, path),
        read=read,
        ask=ask,
        judge=each(_judge),
        targets_tell=not is_annotated,
        unscored="has no answers in its table, so that answers to it cannot be scored here. Put a "
        "table with the column `answer` in its place, or write the file for the server with "
        "runners.submit.",
        figures=_figures,
        upload=Upload(
            suffix=".xlsx",
            server="https://mmbench.opencompass.org.cn/mmbench-submission",
            render=_render,
        ),
        releases=RELEASES,
        official_suffix=suffix,
        prompt_suffix=suffix if prompt_suffix is None else prompt_suffix,
    )
    return answered_by(answer, task, lambda sample: shown_letters(sample.details.cells))


def _judge(text: str, question: Sample) -> Judgment:
    cells = zip(LETTERS, question.details.cells, strict=True)
    answer = infer_choice(text, {letter: cell for letter, cell in cells if cell})
    return float(answer == question.target), answer


def _figures(scores: Sequence[Score]) -> Aggregate:
    """The circular accuracy, overall and by category, and the accuracy of the first pass."""
    questions: defaultdict[str, list[Score]] = defaultdict(list)
    for score in sorted(scores, key=lambda score: int(score.question_id)):
        questions[score.cluster].append(score)
    # A question is its first row, right only if all its rows are.
    hits = [replace(rows[0], value=min(row.value for row in rows)) for rows in questions.values()]
    first_pass = [score for score in scores if int(score.question_id) < PASS]
    return Aggregate(
        metrics={"accuracy": mean_score(hits), "accuracy_first_pass": mean_score(first_pass)},
        breakdowns=break_down_all(hits, ["l2-category", "category"], "accuracy"),
        num_unparsed=count_unread(scores),
    )


def _render(questions: Questions, texts: Mapping[str, str]) -> bytes:
    """A workbook of the table with the predictions."""
    has_annotations = any(sample.target for sample in questions.values())
    columns = ["index", "question", *LETTERS, "prediction"]
    columns += ["answer", "split"] if has_annotations else ["split"]
    rows: list[list[str | int]] = []
    for key, sample in questions.items():
        row = sample.details
        last = [sample.target, row.split] if has_annotations else [row.split]
        rows.append([sample.question_id, row.question, *row.cells, texts[key], *last])
    return render_xlsx(columns, rows)
