r"""MM-Vet: open answers on integrated capabilities, graded by a judge (arXiv:2308.02490).

Files, in `data_dir`: `mm-vet.json`, images in `images/`; LLaVA's `llava-mm-vet.jsonl` is read for
the prompts where it is there.

One question, by its id: `{"v1_0": {"imagename": "v1_0.png", "question": "What is x in the
equation?", "answer": "-1<AND>-5", "capability": ["ocr", "math"]}}`; answer files may drop `v1_`;
the prompt is the question as it stands.

Metric: the mean of the grades, 0 to 1, that a judge model gives to the answers, over all its runs;
also by capability and by set of capabilities. Official code: yuweihao/MM-Vet @ acde843e,
`mm-vet_evaluator.ipynb`.

Known deviations: figures are not rounded. A missing answer is graded 0 without asking the judge.

Published: LLaVA-1.5-7B 31.1, 13B 36.1 (judge gpt-4-0613).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.figures.metrics import Breakdown, mean, mean_score, require_scores
from evals.reading.answers import check_keys, match_by_id
from evals.reading.files import find_all, find_optional, read_json, require
from evals.reading.images import image_in
from evals.reading.questions import check_same_ids, read_questions
from evals.reading.releases import Release
from evals.reading.replies import read_replies, select_replies
from evals.records import Aggregate, Prediction, Sample, Score
from evals.scorers.judge import (
    JudgeClient,
    JudgeRequest,
    ask_for_grade,
    average_runs,
    build_mmvet_request,
    parse_grade,
)
from evals.scorers.judge_prompts import MMVET_PROMPT

ORIGIN = "https://github.com/yuweihao/MM-Vet (mm-vet.zip)"
LLAVA_ORIGIN = "eval.zip in https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md"
_PREFIX = "v1_"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQuestion:
    """One entry of the official file.

    Attributes:
        question: The question, which is also the prompt.
        target: The reference answer.
        image_name: The image's file name.
        capabilities: What it takes to answer.
    """

    question: str
    target: str
    image_name: str
    capabilities: tuple[str, ...]


class MMVet:
    """MM-Vet, version 1.

    Args:
        data_dir: The folder with the benchmark's files.
        judge: The judge model; figures of different ones cannot be compared.
        replies: The file with its replies, or one file a run; None if there are none, so that
            nothing is scored.
        max_new_tokens: The answer length that LLaVA's script uses.
    """

    name = "mmvet"
    split = "v1"
    primary_metric = "score"
    primary_is_mean = True
    grouped_metrics: frozenset[str] = frozenset()
    judge_prompt = MMVET_PROMPT
    releases: Mapping[str, Release] = {
        "v1": Release(
            num_questions=218,
            num_images=200,
            files={
                "mm-vet.json": ORIGIN,
                "llava-mm-vet.jsonl": LLAVA_ORIGIN,
                "images": ORIGIN,
            },
        )
    }

    def __init__(
        self,
        *,
        data_dir: str | Path,
        judge: str = "gpt-4-0613",
        replies: str | Path | Sequence[str | Path] | None = None,
        max_new_tokens: int = 1024,
    ) -> None:
        self.data_dir = Path(data_dir)
        self.judge = judge
        self.replies = [replies] if isinstance(replies, (str, Path)) else replies
        self.definition = f"mmvet_{judge}/1"
        self.max_new_tokens = max_new_tokens
        self.has_annotations = bool(self.replies)
        self._path = self.data_dir / "mm-vet.json"
        self._llava_path = self.data_dir / "llava-mm-vet.jsonl"

    def data_files(self) -> list[Path]:
        """The annotation and question files that are there."""
        return find_all([self._llava_path, self._path])

    def samples(self) -> list[Sample]:
        """All questions, in the order of the official file.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        questions = self._questions
        prompts = {key: question.question for key, question in questions.items()}
        if find_optional(self._llava_path):
            prompts = {_key(line.key): line.text for line in read_questions(self._llava_path)}
            check_same_ids(prompts, self._llava_path, questions, self._path)
        return [
            Sample(
                key=key,
                question_id=key,
                text=prompts[key],
                prompt=prompts[key],
                images=(image_in(self.data_dir / "images", question.image_name),),
                target=question.target,
                cluster=question.image_name,
            )
            for key, question in questions.items()
        ]

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Answer lines by key, with or without `v1_`; the last of an id wins.

        Raises:
            DataError: an answer's id is foreign, or a file is missing or malformed.
        """
        named = ({**answer, "question_id": _key(str(answer["question_id"]))} for answer in answers)
        ids = {key: key for key in self._questions}
        return match_by_id(named, ids, task=self.name, foreign_is_error=True)

    def judge_requests(self, predictions: Mapping[str, Prediction]) -> dict[str, JudgeRequest]:
        """What the judge is asked about each answer.

        Args:
            predictions: Answers by key.

        Raises:
            DataError: a file is missing or malformed, or a prediction's key is foreign.
        """
        check_keys(predictions, self._questions, self.name)
        return {
            key: build_mmvet_request(
                self._questions[key].question, self._questions[key].target, prediction.text
            )
            for key, prediction in predictions.items()
        }

    def ask_judge(self, client: JudgeClient, prediction: Prediction) -> str:
        """The judge's grade of an answer; it is asked up to five times for one that can be read.

        Raises:
            DataError: a file is missing or malformed, or the prediction's key is foreign.
            OSError: the endpoint gave no reply.
        """
        check_keys({prediction.key: prediction}, self._questions, self.name)
        question = self._questions[prediction.key]
        return ask_for_grade(client, question.question, question.target, prediction.text)

    def score(self, predictions: Mapping[str, Prediction]) -> list[Score]:
        """One score a question, in the order of the official file.

        Raises:
            DataError: there are no replies, or some are missing or of another judge; a file is
                missing or malformed, or a prediction's key is foreign.
        """
        if not self.replies:
            raise DataError(
                f"{self.name} is scored from the replies of the judge {self.judge}, and none are "
                "given. Ask the judge, or name the file with its replies as `replies`."
            )
        requests = self.judge_requests(predictions)
        replies = select_replies(
            read_replies(self.replies), requests, judge=self.judge, task=self.name
        )
        num_runs = max((len(texts) for texts in replies.values()), default=1)
        return [
            _score(key, question, predictions.get(key), replies.get(key, [""] * num_runs))
            for key, question in self._questions.items()
        ]

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The mean grade, its deviation between the judge's runs, and the grades by capability.

        Raises:
            ValueError: `scores` is empty.
        """
        require_scores(scores)
        spread = average_runs([score.details["grades"] for score in scores])
        by_one: defaultdict[str, list[float]] = defaultdict(list)
        by_set: defaultdict[str, list[float]] = defaultdict(list)
        for score in scores:
            capabilities = score.details["capabilities"]
            by_set["_".join(sorted(capabilities))].append(score.value)
            for capability in capabilities:
                by_one[capability].append(score.value)
        return Aggregate(
            metrics={"score": mean_score(scores), "score_deviation": spread.deviation},
            breakdowns={"capability": _table(by_one), "capability_set": _table(by_set)},
            num_unparsed=sum(score.details["num_unread"] > 0 for score in scores),
        )

    def render_results(self, predictions: Mapping[str, Prediction]) -> str:
        """The result file for the benchmark's own evaluator: answers by id.

        Args:
            predictions: Answers by key.
        """
        return json.dumps({key: prediction.text for key, prediction in predictions.items()})

    @cached_property
    def _questions(self) -> dict[str, OpenQuestion]:
        content = read_json(self._path, ORIGIN)
        if not isinstance(content, dict) or not content:
            raise DataError(f"{self._path} must be an object of questions. Fetch the file again.")
        return {key: _parse(record, f"{self._path}: {key}") for key, record in content.items()}


def _key(question_id: str) -> str:
    return question_id if question_id.startswith(_PREFIX) else _PREFIX + question_id


def _parse(record: Any, where: str) -> OpenQuestion:
    capabilities = require(record, "capability", list, where)
    return OpenQuestion(
        question=require(record, "question", str, where),
        target=require(record, "answer", str, where),
        image_name=require(record, "imagename", str, where),
        capabilities=tuple(map(str, capabilities)),
    )


def _score(
    key: str, question: OpenQuestion, prediction: Prediction | None, replies: Sequence[str]
) -> Score:
    grades = [parse_grade(reply) for reply in replies]
    known = [grade or 0.0 for grade in grades]
    return Score(
        key=key,
        question_id=key,
        cluster=question.image_name,
        value=mean(known) or 0.0,
        answer=None if prediction is None else prediction.text,
        answered=prediction is not None,
        details={
            "grades": known,
            "capabilities": question.capabilities,
            "num_unread": 0 if prediction is None else grades.count(None),
        },
    )


def _table(groups: Mapping[str, Sequence[float]]) -> Breakdown:
    return {
        group: {"score": mean(groups[group]), "num_questions": len(groups[group])}
        for group in sorted(groups)
    }
