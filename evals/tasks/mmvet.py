r"""MM-Vet: open answers on integrated capabilities, graded by a judge (arXiv:2308.02490).

Files, in `data_dir`: `mm-vet.json`, images in `images/`; LLaVA's `llava-mm-vet.jsonl` is read for
the prompts where it is there.

One question, by its id: `{"v1_0": {"imagename": "v1_0.png", "question": "What is x in the
equation?", "answer": "-1<AND>-5", "capability": ["ocr", "math"]}}`; answer files may drop `v1_`;
the prompt is the question as it stands.

Metric: the mean of the grades, 0 to 1, that a judge model gives to the answers, over all its runs;
also by capability and by set of capabilities. Official code: yuweihao/MM-Vet @ acde843e,
`mm-vet_evaluator.ipynb`.

Known deviations: figures are not rounded. A missing answer is graded 0 without asking the judge. An
answer whose grade cannot be read is graded 0, as officially, and counts as not answered; a figure
over such answers alone is None.

Published: LLaVA-1.5-7B 31.1, 13B 36.1 (judge gpt-4-0613).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark, Questions, rebuildable
from evals.errors import DataError
from evals.figures.metrics import Breakdown, mean, mean_score
from evals.grading import Grading, ask_or_name, find_replies
from evals.reading.entries import files_of, question_about, reword
from evals.reading.files import read_json, require
from evals.reading.images import image_in
from evals.reading.releases import LLAVA_ORIGIN, Release
from evals.reading.replies import JudgeRequest
from evals.records import Aggregate, Prediction, Sample, Score
from evals.scorers.judge import (
    MMVET_PROMPT,
    build_mmvet_request,
    deviation_of_runs,
    parse_grade,
)

ORIGIN = "https://github.com/yuweihao/MM-Vet (mm-vet.zip)"
RELEASE = Release(
    num_questions=218,
    num_images=200,
    files={"mm-vet.json": ORIGIN, "llava-mm-vet.jsonl": LLAVA_ORIGIN, "images": ORIGIN},
)
_PREFIX = "v1_"
_MAX_ATTEMPTS = 5


@rebuildable
def MMVet(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    max_new_tokens: int = 1024,
    judge: str = "gpt-4-0613",
    replies: str | Path | Sequence[str | Path] | None = None,
) -> Benchmark:
    """MM-Vet, version 1."""
    folder = Path(data_dir)
    path, prompts = folder / "mm-vet.json", folder / "llava-mm-vet.jsonl"
    grading = Grading(
        model=judge,
        prompt=MMVET_PROMPT,
        request=_request,
        grade=lambda text, _, replies: (mean(_grades(replies)) or 0.0, text),
        is_readable=lambda reply: parse_grade(reply) is not None,
        max_attempts=_MAX_ATTEMPTS,
        replies=find_replies(replies),
        remedy=ask_or_name("mmvet"),
    )
    return Benchmark(
        name="mmvet",
        split="v1",
        releases={"v1": RELEASE},
        definition=grading.definition("mmvet"),
        primary_metric="score",
        max_new_tokens=max_new_tokens,
        data_files=files_of(None, prompts, path),
        read=partial(_read, path, folder / "images"),
        figures=_figures,
        ask=partial(reword, prompts=prompts, annotations=path, key=_key),
        grading=grading,
        find=_find,
    )


def _key(question_id: str) -> str:
    return question_id if question_id.startswith(_PREFIX) else _PREFIX + question_id


def _find(_: Questions, answer: Mapping[str, Any]) -> str:
    """Answer files may leave the prefix of the ids out."""
    return _key(str(answer["question_id"]))


def _read(path: Path, images: Path) -> list[Sample]:
    content = read_json(path, ORIGIN)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} must be an object of questions. Fetch the file again.")
    return [_parse(key, record, f"{path}: {key}", images) for key, record in content.items()]


def _parse(key: str, record: Any, place: str, images: Path) -> Sample:
    """A question; its details are the capabilities that it takes to answer."""
    capabilities = tuple(map(str, require(record, "capability", list, place)))
    text = require(record, "question", str, place)
    image = image_in(images, require(record, "imagename", str, place))
    target = require(record, "answer", str, place)
    return question_about(image, key, text, target=target, details=capabilities)


def _request(question: Sample, prediction: Prediction, attempt: int) -> JudgeRequest:
    return build_mmvet_request(question.text, question.target, prediction.text, attempt)


def _grades(replies: Iterable[str | None]) -> list[float]:
    """The grades in replies, 0 where there is none."""
    return [parse_grade(reply) or 0.0 for reply in replies]


def _figures(scores: Sequence[Score]) -> Aggregate:
    """The mean grade, its deviation between the judge's runs, and the grades by capability."""
    num_runs = max(len(score.details.replies) for score in scores) or 1
    runs = [_grades(score.details.replies) or [0.0] * num_runs for score in scores]
    by_one: defaultdict[str, list[Score]] = defaultdict(list)
    by_set: defaultdict[str, list[Score]] = defaultdict(list)
    for score in scores:
        capabilities = score.details.question
        by_set["_".join(sorted(capabilities))].append(score)
        for capability in capabilities:
            by_one[capability].append(score)
    deviation = None if all(map(_is_unread, scores)) else deviation_of_runs(runs)
    return Aggregate(
        metrics={"score": _mean_grade(scores), "score_deviation": deviation},
        breakdowns={"capability": _tabulate(by_one), "capability_set": _tabulate(by_set)},
        num_unparsed=sum(None in map(parse_grade, score.details.replies) for score in scores),
    )


def _is_unread(score: Score) -> bool:
    """Whether the judge was asked, and said nothing in any run from which a grade can be read."""
    replies = score.details.replies
    return bool(replies) and all(parse_grade(reply) is None for reply in replies)


def _mean_grade(scores: Sequence[Score]) -> float | None:
    """The mean grade, where one that cannot be read is 0; None if none of them can."""
    return None if all(map(_is_unread, scores)) else mean_score(scores)


def _tabulate(groups: Mapping[str, Sequence[Score]]) -> Breakdown:
    return {
        name: {"score": _mean_grade(groups[name]), "num_questions": len(groups[name])}
        for name in sorted(groups)
    }
