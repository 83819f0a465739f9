r"""LLaVA-Bench in the Wild: open answers compared with a reference by a judge (arXiv:2304.08485).

Files, in `data_dir`: `questions.jsonl`, images in `images/`; for the judge `context.jsonl` and
`answers_gpt4.jsonl`, the reference answers.

One question: `{"question_id": 0, "image": "001.jpg", "category": "conv", "text": "What is the name
of this famous sight in the photo?"}`; the prompt is the text as it stands.

Metric: the judge gives 1 to 10 points to the reference answer and to the model's; the score is the
model's mean as a share of the reference's. Official code: haotian-liu/LLaVA @ c121f043,
`eval_gpt_review_bench.py` and `summarize_gpt_review.py`.

Known deviations: over several runs of the judge the score is the mean of their scores. A missing
answer gets no review: it is left out of the score, which coverage shows. So is an answer whose
review cannot be read, which officially counts as -1 points to -1, a tie; a first line such as
`8, 6` or `8  6` is read.

Published: LLaVA-1.5-7B 65.4, 13B 72.5 (judge gpt-4-0314).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from evals.benchmark import Benchmark, rebuildable
from evals.errors import DataError
from evals.figures.metrics import group_by, mean, mean_of_all
from evals.grading import Grading, ask_or_name, find_replies
from evals.reading.entries import files_of
from evals.reading.files import read_jsonl, require
from evals.reading.questions import Question, read_questions, sample_of
from evals.reading.releases import Release
from evals.reading.replies import JudgeRequest
from evals.records import Aggregate, Prediction, Sample, Scale, Score, Unit
from evals.scorers.judge import (
    LLAVABENCH_RULE,
    LLAVABENCH_SYSTEM,
    build_llavabench_request,
    compare_to_reference,
    read_points,
)

ORIGIN = "https://huggingface.co/datasets/liuhaotian/llava-bench-in-the-wild"
_FILES = ("questions.jsonl", "context.jsonl", "answers_gpt4.jsonl")
RELEASE = Release(num_questions=60, num_images=24, files=dict.fromkeys((*_FILES, "images"), ORIGIN))
_CATEGORIES = ("conv", "detail", "complex")
_MAX_POINTS = 10.0
_POINTS = Scale(unit=Unit.POINTS, largest=_MAX_POINTS)


@rebuildable
def LLaVABench(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    judge: str = "gpt-4-0314",
    replies: str | Path | Sequence[str | Path] | None = None,
    max_new_tokens: int = 1024,
) -> Benchmark:
    """LLaVA-Bench in the Wild."""
    folder = Path(data_dir)
    questions, contexts, references = (folder / name for name in _FILES)
    read_contexts = cache(partial(_read_texts, contexts, "image", "caption"))
    read_references = cache(partial(_read_texts, references, "question_id", "text"))

    def request(question: Sample, prediction: Prediction, _: int) -> JudgeRequest:
        context = read_contexts().get(question.cluster)
        reference = read_references().get(question.key)
        if context is None or reference is None:
            raise DataError(
                f"Question {question.key}: {contexts} lacks the image {question.cluster!r} or "
                f"{references} the question. Fetch the files from {ORIGIN}."
            )
        return build_llavabench_request(context, question.text, reference, prediction.text)

    grading = Grading(
        model=judge,
        replies=find_replies(replies),
        prompt=f"{LLAVABENCH_SYSTEM}\n{LLAVABENCH_RULE}",
        request=request,
        grade=lambda text, _, replies: (_grade(replies), text),
        is_readable=lambda review: read_points(review) is not None,
        remedy=ask_or_name("llavabench"),
    )
    return Benchmark(
        name="llavabench",
        split="wild",
        definition=grading.definition("llavabench"),
        primary_metric="score",
        max_new_tokens=max_new_tokens,
        data_files=files_of(None, questions, contexts, references),
        read=partial(_read, questions, folder / "images"),
        figures=_figures,
        grading=grading,
        releases={"wild": RELEASE},
        primary_is_mean=False,
    )


def _read(path: Path, images: Path) -> list[Sample]:
    return [
        replace(sample_of(line, images), groups={"category": _category(line)})
        for line in read_questions(path, ORIGIN)
    ]


def _category(line: Question) -> str:
    name = require(line.fields, "category", str, line.where).removeprefix("llava_bench_")
    if name not in _CATEGORIES:
        raise DataError(
            f"{line.where}: `category` must be one of {', '.join(_CATEGORIES)}, but is {name!r}. "
            "Mend the line."
        )
    return name


def _read_texts(path: Path, key_field: str, text_field: str) -> Mapping[str, str]:
    texts = {}
    for number, record in read_jsonl(path, ORIGIN):
        where = f"{path}:{number}"
        key = require(record, key_field, (str, int), where)
        texts[str(key)] = require(record, text_field, str, where)
    return texts


def _grade(replies: Sequence[str | None]) -> float:
    """The points that the model got, as a share of the most that it can get; 0 without any."""
    pairs = filter(None, map(read_points, replies))
    return (mean(model for _, model in pairs) or 0.0) / _MAX_POINTS


def _figures(scores: Sequence[Score]) -> Aggregate:
    """The model's share of the reference's points, overall and by category."""
    table = {
        category: {**_compare(group), "num_questions": len(group)}
        for category, group in group_by(scores, "category").items()
    }
    return Aggregate(
        metrics=_compare(scores),
        breakdowns={"category": table},
        num_unparsed=sum(None in map(read_points, score.details.replies) for score in scores),
        scales={
            "score": Scale(largest=None),  # the model may be graded better than the reference
            "reference_mean": _POINTS,
            "model_mean": _POINTS,
        },
    )


def _compare(scores: Sequence[Score]) -> dict[str, float | None]:
    """The comparison in every run of the judge, averaged over the runs.

    None where a run has no review that can be read.
    """
    replies = [score.details.replies for score in scores if score.details.replies]
    reviewed = [map(read_points, texts) for texts in replies]
    runs = [[pair for pair in pairs if pair] for pairs in zip(*reviewed, strict=True)]
    compared = [compare_to_reference(pairs) if pairs else {} for pairs in runs]
    names = ("score", "reference_mean", "model_mean")
    return {name: mean_of_all(run.get(name) for run in compared) for name in names}
