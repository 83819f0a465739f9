r"""LLaVA-Bench in the Wild: open answers compared with a reference by a judge (arXiv:2304.08485).

Files, in `data_dir`: `questions.jsonl`, images in `images/`; for the judge `context.jsonl` and
`answers_gpt4.jsonl`, the reference answers.

One question: `{"question_id": 0, "image": "001.jpg", "category": "conv", "text": "What is the name
of this famous sight in the photo?"}`; the prompt is the text as it stands.

Metric: the judge gives 1 to 10 points to the reference answer and to the model's; the score is the
model's mean as a share of the reference's. Official code: haotian-liu/LLaVA @ c121f043,
`eval_gpt_review_bench.py` and `summarize_gpt_review.py`.

Known deviations: over several runs of the judge the score is the mean of their scores. A missing
answer gets no review: it is left out of the score, which coverage shows.

Published: LLaVA-1.5-7B 65.4, 13B 72.5 (judge gpt-4-0314).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.figures.metrics import group_by, mean, require_scores
from evals.reading.answers import check_keys, match_by_id
from evals.reading.files import find_all, read_jsonl, require
from evals.reading.images import image_in
from evals.reading.questions import Question, read_questions
from evals.reading.releases import Release
from evals.reading.replies import JudgeReply, read_replies, select_replies
from evals.records import Aggregate, Prediction, Sample, Scale, Score, Unit
from evals.scorers.judge import (
    UNREADABLE_PAIR,
    JudgeClient,
    JudgeRequest,
    build_llavabench_request,
    compare_to_reference,
    parse_score,
)
from evals.scorers.judge_prompts import LLAVABENCH_RULE, LLAVABENCH_SYSTEM

ORIGIN = "https://huggingface.co/datasets/liuhaotian/llava-bench-in-the-wild"
_FILES = ("questions.jsonl", "context.jsonl", "answers_gpt4.jsonl", "images")
_POINTS = Scale(unit=Unit.POINTS, largest=10.0)
_CATEGORIES = ("conv", "detail", "complex")


class LLaVABench:
    """LLaVA-Bench in the Wild.

    Args:
        data_dir: The folder with the benchmark's files.
        judge: The judge model; figures of different ones cannot be compared.
        replies: The file with its reviews, or one file a run; None if there are none, so that
            nothing is scored.
        max_new_tokens: The answer length that LLaVA's script uses.
    """

    name = "llavabench"
    split = "wild"
    primary_metric = "score"
    primary_is_mean = False
    grouped_metrics: frozenset[str] = frozenset()
    judge_prompt = f"{LLAVABENCH_SYSTEM}\n{LLAVABENCH_RULE}"
    releases: Mapping[str, Release] = {
        "wild": Release(
            num_questions=60,
            num_images=24,
            files=dict.fromkeys(
                ("questions.jsonl", "context.jsonl", "answers_gpt4.jsonl", "images"), ORIGIN
            ),
        )
    }

    def __init__(
        self,
        *,
        data_dir: str | Path,
        judge: str = "gpt-4-0314",
        replies: str | Path | Sequence[str | Path] | None = None,
        max_new_tokens: int = 1024,
    ) -> None:
        self.data_dir = Path(data_dir)
        self.judge = judge
        self.replies = [replies] if isinstance(replies, (str, Path)) else replies
        self.definition = f"llavabench_{judge}/1"
        self.max_new_tokens = max_new_tokens
        self.has_annotations = bool(self.replies)
        self._question_path = self.data_dir / "questions.jsonl"
        self._context_path = self.data_dir / "context.jsonl"
        self._reference_path = self.data_dir / "answers_gpt4.jsonl"

    def data_files(self) -> list[Path]:
        """The question, context and reference files that are there."""
        return find_all([self._question_path, self._context_path, self._reference_path])

    def samples(self) -> list[Sample]:
        """All questions, in the order of the file.

        Raises:
            DataError: the file is missing or malformed.
        """
        return [
            Sample(
                key=key,
                question_id=question.question_id,
                text=question.text,
                prompt=question.text,
                images=tuple(
                    image_in(self.data_dir / "images", name) for name in question.image_names
                ),
                cluster=",".join(question.image_names) or key,
                groups={"category": _category(question)},
            )
            for key, question in self._questions.items()
        ]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key; the last of an id wins.

        Raises:
            DataError: an answer's id is foreign, or the file is missing or malformed.
        """
        ids = {key: question.question_id for key, question in self._questions.items()}
        return match_by_id(answers, ids, task=self.name, foreign_is_error=True)

    def judge_requests(self, predictions: Mapping[str, Prediction]) -> dict[str, JudgeRequest]:
        """What the judge is asked about each answer.

        Args:
            predictions: Answers by key.

        Raises:
            DataError: a file is missing or malformed, or a prediction's key is foreign.
        """
        check_keys(predictions, self._questions, self.name)
        captions = _read_texts(self._context_path, "image", "caption")
        references = _read_texts(self._reference_path, "question_id", "text")
        requests = {}
        for key, prediction in predictions.items():
            question = self._questions[key]
            image = question.image_names[0] if question.image_names else ""
            if image not in captions or key not in references:
                raise DataError(
                    f"{question.where}: {self._context_path} lacks the image {image!r} or "
                    f"{self._reference_path} the question {key}. Fetch the files from {ORIGIN}."
                )
            requests[key] = build_llavabench_request(
                context=captions[image],
                question=question.text,
                reference=references[key],
                answer=prediction.text,
            )
        return requests

    def ask_judge(self, client: JudgeClient, prediction: Prediction) -> str:
        """The judge's review of an answer, whatever it says.

        Raises:
            DataError: a file is missing or malformed, or the prediction's key is foreign.
            OSError: the endpoint gave no reply.
        """
        return client.reply(self.judge_requests({prediction.key: prediction})[prediction.key])

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a question, in the order of the file.

        Raises:
            DataError: there are no replies, or some are missing or of another judge; a file is
                missing or malformed, or a prediction's key is foreign.
        """
        if not self.replies:
            raise DataError(
                f"{self.name} is scored from the reviews of the judge {self.judge}, and none are "
                "given. Ask the judge, or name the files with its reviews as `replies`."
            )
        check_keys(predictions, self._questions, self.name)
        stored = read_replies(self.replies)
        requests = self._requests_for(stored, predictions)
        replies = select_replies(stored, requests, judge=self.judge, task=self.name)
        return [
            _score(key, question, predictions.get(key), replies.get(key, []))
            for key, question in self._questions.items()
        ]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The model's share of the reference's points, overall and by category.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        overall = _compare(scores)
        table = {
            category: {**_compare(group), "num_questions": len(group)}
            for category, group in group_by(scores, "category").items()
        }
        return Aggregate(
            metrics=overall,
            breakdowns={"category": table},
            num_unparsed=sum(UNREADABLE_PAIR in score.details["pairs"] for score in scores),
            scales={
                "score": Scale(largest=None),  # the model may be graded better than the reference
                "reference_mean": _POINTS,
                "model_mean": _POINTS,
            },
        )

    @cached_property
    def _questions(self) -> dict[str, Question]:
        return {line.key: line for line in read_questions(self._question_path, ORIGIN)}

    def _requests_for(
        self, stored: Iterable[JudgeReply], predictions: Mapping[str, Prediction]
    ) -> dict[str, JudgeRequest]:
        """The requests; replies that do not say what was asked need no context and reference."""
        if any(reply.request_sha256 for reply in stored):
            return self.judge_requests(predictions)
        empty = JudgeRequest(prompt="", temperature=0.0, max_tokens=0)
        return dict.fromkeys(predictions, empty)


def _category(question: Question) -> str:
    name = require(question.fields, "category", str, question.where)
    name = name.removeprefix("llava_bench_")
    if name not in _CATEGORIES:
        raise DataError(
            f"{question.where}: `category` must be one of {', '.join(_CATEGORIES)}, but is "
            f"{name!r}. Mend the line."
        )
    return name


def _read_texts(path: Path, key_field: str, text_field: str) -> dict[str, str]:
    texts = {}
    for number, record in read_jsonl(path, ORIGIN):
        where = f"{path}:{number}"
        key = require(record, key_field, (str, int), where)
        texts[str(key)] = require(record, text_field, str, where)
    return texts


def _score(
    key: str, question: Question, prediction: Prediction | None, replies: Sequence[str]
) -> Score:
    pairs = [parse_score(reply) for reply in replies]
    points = mean(min(10.0, max(0.0, pair[1])) for pair in pairs)
    return Score(
        key=key,
        question_id=question.question_id,
        cluster=",".join(question.image_names) or key,
        value=(points or 0.0) / 10,
        answer=None if prediction is None else prediction.text,
        answered=prediction is not None,
        groups={"category": _category(question)},
        details={"pairs": pairs},
    )


def _compare(scores: Sequence[Score]) -> dict[str, float | None]:
    """The comparison in every run of the judge, averaged over the runs."""
    reviewed = [score.details["pairs"] for score in scores if score.details["pairs"]]
    runs = [compare_to_reference(list(pairs)) for pairs in zip(*reviewed, strict=True)]
    names = ("score", "reference_mean", "model_mean")
    figures: dict[str, float | None] = {}
    for name in names:
        values = [run[name] for run in runs]
        known = [value for value in values if value is not None]
        figures[name] = mean(known) if len(known) == len(values) else None
    return figures
