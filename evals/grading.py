"""Benchmarks whose answers a judge model grades: what it is asked, and what its replies come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from evals.errors import DataError
from evals.reading.replies import JudgeReply, JudgeRequest, read_replies, select_replies
from evals.records import Cause, Failure, Judgment, Prediction, Sample, Score, score_of

_SHOWN = 60
"""Characters of a reply that cannot be read, in messages."""


def _always(_text: str, _question: Sample) -> bool:
    return True


def ask_or_name(task: str) -> str:
    """The remedy where replies of a judge are missing that can be asked, for `tasks.<task>`."""
    return (
        "Ask it with runners.score and judge=openai, or name a file with all of its replies as "
        f"tasks.{task}.replies=FILE."
    )


class JudgeClient(Protocol):
    """A judge model behind an endpoint.

    Attributes:
        model: The model's name at the endpoint; replies are kept and compared by it.
    """

    @property
    def model(self) -> str: ...  # noqa: D102 - documented above

    def reply(self, request: JudgeRequest) -> str:
        """The text of the model's reply.

        Raises:
            OSError: the endpoint gave none.
        """


class Graded(NamedTuple):
    """What the figures over graded answers need beside the question's details.

    That is the judge's replies, one a run, None where it gave none; no reply for a question
    without an answer, or with one that needs no judge.
    """

    replies: Sequence[str | None]
    question: Any


def details_of(score: Score) -> Any:
    """The details of the question that a score is of, whether a judge graded the answer or not."""
    return score.details.question if isinstance(score.details, Graded) else score.details


@dataclass(frozen=True, slots=True, kw_only=True)
class Grading:
    """How a judge model grades the answers of a benchmark.

    Attributes:
        model: The judge model; figures of different ones cannot be compared.
        prompt: What every call says, whatever the question; it belongs to the definition.
        request: What the judge is asked about an answer, if so many of its replies could not be
            read before: another request each time, such as at another temperature, as the same one
            has the same reply.
        grade: What an answer to a question is worth, by the replies of all runs, None where the
            judge gave none, which is worth nothing; no reply where the answer needs no judge.
        needs_judge: Whether the judge is asked about an answer to a question.
        is_readable: Whether a reply says what is wanted. Where one does not, the judge is asked
            again, and at last the answer counts as not judged.
        replies: The files with the judge's replies; none where it has still to be asked.
        max_attempts: How often the judge is asked about an answer until a reply can be read.
        remedy: What to do where there are no replies, or too few; a sentence.
    """

    model: str
    prompt: str
    request: Callable[[Sample, Prediction, int], JudgeRequest]
    grade: Callable[[str, Sample, Sequence[str | None]], Judgment]
    remedy: str
    needs_judge: Callable[[str, Sample], bool] = _always
    is_readable: Callable[[str], bool] = bool
    replies: tuple[Path, ...] = ()
    max_attempts: int = 1

    @property
    def unscored(self) -> str:
        """What is said, after task and split, where there are no replies to score answers by."""
        return f"is scored by the judge {self.model}, and there are no replies of it. {self.remedy}"

    def definition(self, name: str) -> str:
        """Name and version of the metric's definition, which the judge is part of."""
        return f"{name}_{self.model}/1"

    def requests(
        self, questions: Mapping[str, Sample], predictions: Mapping[str, Prediction]
    ) -> dict[str, JudgeRequest]:
        """What the judge is asked first about each answer that needs it, by key.

        Raises:
            DataError: a file is missing or malformed, or the judge cannot be asked.
        """
        needing = self._needing(questions, predictions)
        requests = {key: self.request(questions[key], given, 0) for key, given in needing.items()}
        for key, given in list(needing.items())[:1] if self.max_attempts > 1 else ():
            if self.request(questions[key], given, 1) == requests[key]:
                raise DataError(
                    "`request` of the grading asks the same at the second attempt as at the first, "
                    "whose stored reply would be read again. Have it vary the request with its "
                    "third argument, such as the temperature, or leave `max_attempts` out."
                )
        return requests

    def _needing(
        self, questions: Mapping[str, Sample], predictions: Mapping[str, Prediction]
    ) -> dict[str, Prediction]:
        return {
            key: given
            for key, given in predictions.items()
            if self.needs_judge(given.text, questions[key])
        }

    def ask(self, client: JudgeClient, sample: Sample, prediction: Prediction) -> str:
        """The first reply of the judge that can be read, or its last one.

        Raises:
            DataError: a file is missing or malformed.
            OSError: the endpoint gave no reply.
        """
        reply = ""
        for attempt in range(self.max_attempts):
            reply = client.reply(self.request(sample, prediction, attempt))
            if self.is_readable(reply):
                break
        return reply

    def judge(
        self, title: str, questions: Mapping[str, Sample], predictions: Mapping[str, Prediction]
    ) -> list[Score]:
        """One score a question, by the stored replies.

        `title` is task and split, for messages. Where the judge gave no reply in one of its runs,
        or one that cannot be read, the score says why, and the question counts as not answered.

        Raises:
            DataError: replies are missing, of another judge or about other questions, or a file is
            malformed.
        """
        needing = self._needing(questions, predictions)
        stored = read_replies(self.replies) if needing else []
        if any(reply.request_sha256 for reply in stored):
            requests = self.requests(questions, predictions)
        else:  # replies that do not say what was asked need no files for that
            unknown = JudgeRequest(prompt="", temperature=0.0, max_tokens=0)
            requests = dict.fromkeys(needing, unknown)
        replies = select_replies(stored, requests, judge=self.model, task=title, remedy=self.remedy)
        scores = []
        for key, sample in questions.items():
            given, prediction = replies.get(key, []), predictions.get(key)
            _check_categories(given, sample, title)
            _check_answers(given, prediction, title)
            texts = [None if reply.failure else reply.content for reply in given]
            judgment = None if prediction is None else self.grade(prediction.text, sample, texts)
            score = score_of(sample, judgment, Graded(texts, sample.details))
            failure = next(filter(None, map(self.failure, given)), None)
            if failure is not None:
                score = replace(score, answered=False, failure=replace(failure, key=key))
            scores.append(score)
        return scores

    def failure(self, reply: JudgeReply) -> Failure | None:
        """Why a reply does not say what an answer is worth; None if it does."""
        if reply.failure is not None or self.is_readable(reply.content):
            return reply.failure
        shown = reply.content[:_SHOWN] + ("..." if len(reply.content) > _SHOWN else "")
        return Failure(
            key=reply.question_id,
            cause=Cause.JUDGE_UNREAD.value,
            message=f"no grade can be read from the reply {shown!r}",
        )


def _check_categories(replies: Sequence[JudgeReply], question: Sample, title: str) -> None:
    """Checks that replies are about a question of its category, where both say one.

    Raises:
        DataError: one is about another question.
    """
    own = question.groups.get("category")
    for reply in replies:
        if own and reply.category and reply.category != own:
            raise DataError(
                f"{title}: the reply to question {reply.question_id} is about one of the "
                f"category {reply.category!r}, but that question is of {own!r}, so that the "
                "replies are about other questions. Name the file with those about these answers."
            )


def _check_answers(
    replies: Sequence[JudgeReply], prediction: Prediction | None, title: str
) -> None:
    """Checks that replies are about an answer, where they hold the one that they are about.

    Raises:
        DataError: one is about another answer.
    """
    for reply in replies:
        told, given = reply.answer, prediction.text if prediction else ""
        if prediction and prediction.answer_ids and reply.answer_id:
            told, given = reply.answer_id, prediction.answer_ids[-1]
            if told in prediction.answer_ids:
                continue
        if told is not None and told.strip() != given.strip():
            raise DataError(
                f"{title}: the reply to question {reply.question_id} is about the answer "
                f"{told.strip()[:_SHOWN]!r}, but that to be scored is {given.strip()[:_SHOWN]!r}, "
                "so that the replies are about another model's answers. Name the file with those "
                "about these answers."
            )


def find_replies(replies: str | Path | Sequence[str | Path] | None) -> tuple[Path, ...]:
    """The files with a judge's replies, one file or one a run, as an option names them."""
    if not replies:
        return ()
    named = [replies] if isinstance(replies, (str, Path)) else replies
    return tuple(map(Path, named))
