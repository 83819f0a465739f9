"""One benchmark on one split: what is asked, how answers are judged, what they come to.

A benchmark is described, not derived: values, and a few functions that say what is its own. The
rest is the same for all of them and stands here: each file is read once, answers find their
questions, a question without an answer scores 0, and messages say what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

from evals.contract import PASSED, AtQuestionError, BenchmarkError, Contract
from evals.errors import DataError, MissingFileError
from evals.grading import Grading, JudgeClient
from evals.reading.answers import check_keys, match_by_id, prediction_of
from evals.reading.files import check_unique, collection_paused
from evals.reading.hub import HubLocation
from evals.reading.matching import check_prompts, with_own_ids
from evals.reading.releases import Release
from evals.reading.replies import JudgeRequest
from evals.records import Aggregate, Judgment, Prediction, Sample, Score, score_of

P = ParamSpec("P")

Questions = Mapping[str, Sample]
"""Questions by key, in the benchmark's order."""

Predictions = Mapping[str, Prediction]
"""Answers by the keys of their questions."""

Judge = Callable[[Questions, Predictions], list[Score]]
"""What gives one score a question that counts, in the benchmark's order."""

GENERATE = "generate"
"""How a model answers that writes."""

RANK = "rank"
"""How a model answers that ranks the letters of the options, see `evals.ranking`."""

_MARK = "builds_a_benchmark"

_GIVE: dict[str, Any] = dict.fromkeys(("needs_judge", "is_readable"), bool) | {"grade": Any}
_GIVE |= {"data_files": list[Path], "render": bytes, "whole": Questions, "request": JudgeRequest}
"""What functions give that are called from elsewhere."""

_UNANNOTATED = "has no public annotations, so that its answers cannot be scored here."


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The file that a benchmark's server takes.

    Attributes:
        suffix: That its name must have.
        server: Where it is to be uploaded.
        render: Its content, from the questions that it lists and the answer to each by its key.
        whole: The questions that it lists, where they are more than those of the split.
    """

    suffix: str
    server: str
    render: Callable[[Questions, Mapping[str, str]], bytes]
    whole: Callable[[], Questions] | None = None


class Recipe(NamedTuple):
    """What builds a benchmark again: a constructor by its dotted name, and what it was given."""

    constructor: str
    options: Mapping[str, Any]


def rebuildable(build: Callable[P, Benchmark]) -> Callable[P, Benchmark]:
    """Has the benchmarks of a constructor remember how they were built.

    So a run of a benchmark that was given as an object can say what it asked. It also marks what
    a configuration or a stored run may name as a benchmark (`is_constructor`).
    """

    @wraps(build)
    def remember(*args: P.args, **options: P.kwargs) -> Benchmark:
        recipe = Recipe(f"{build.__module__}.{build.__qualname__}", options)
        built: object = build(*args, **options)
        if not isinstance(built, Benchmark):
            raise BenchmarkError(
                f"{recipe.constructor} must return a `Benchmark`, but gives {built!r}."
            )
        return replace(built, recipe=recipe)

    vars(remember)[_MARK] = True
    return remember


def is_constructor(value: object) -> bool:
    """Whether a value is a function that `rebuildable` marked, so that it builds a benchmark."""
    return getattr(value, _MARK, False) is True


def as_read(questions: Questions) -> list[Sample]:
    """The questions as they were read, where they are put like that."""
    return list(questions.values())


# Without slots, which leave no place for what is read once; functions have no equality to compare.
@dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """One benchmark on one split. Construction reads nothing; each method reads what it needs.

    Attributes:
        name: The task's name, for example `gqa`.
        split: The split as it is named in summaries.
        definition: Name and version of the metric's definition, for example `vqa_official/1`.
        primary_metric: The metric that stands in tables.
        max_new_tokens: The answer length that LLaVA-1.5's scripts used for this benchmark.
        data_files: The question and annotation files that are there, for hashing.
        read: The questions with their targets, from as few files as scoring needs. Their texts end
            in `official_suffix`.
        judge: The scores of some answers, see `each`; None where only a server or a judge model can
            score them.
        figures: The figures over any scores that `judge` gave, at least one.
        ask: The questions as they are put, where that takes more than `read` gives: other files for
            their wording or images, or a choice among them.
        upload: What the benchmark's server takes, if it has one.
        grading: How a judge model grades the answers, if one does.
        targets_tell: Whether the split is one that is published without annotations, so that there
            are some only if questions have targets.
        unscored: Why answers cannot be scored here and what to do, said after task and split; empty
            where it is the usual, see `lack`.
        releases: The published data of each split that has any.
        official_suffix: What the official prompts end in; empty where they end in nothing special.
        prompt_suffix: What the prompts are to end in instead.
        find: The key of an answer's question, where it is not the id of the answer line.
        foreign_is_error: Whether an answer to a question of another split is an error, or left out.
        ids_note: What is to be known of the ids where answers carry other ones; a sentence.
        repeat_mark: What joins the key of a question and a number for its second answer and later
            ones, where each of them counts; empty where only the last one does.
        primary_is_mean: Whether the primary metric is the plain mean of the scores' values.
        grouped_metrics: Metrics over whole groups, meaningless when `limit` cuts groups.
        hub: Where the split lies on the Hugging Face hub; None if it does not.
        without_images: What to do where some of the images are not to be had; a sentence.
        letters: The letters of a question's options, where the model ranks them and writes nothing;
            None where it writes its answers. See `evals.ranking`.
        recipe: How it was built, see `rebuildable`; None where nobody knows.
    """

    name: str
    split: str
    definition: str
    primary_metric: str
    max_new_tokens: int
    data_files: Callable[[], list[Path]]
    read: Callable[[], list[Sample]]
    figures: Callable[[Sequence[Score]], Aggregate]
    judge: Judge | None = None
    ask: Callable[[Questions], list[Sample]] = as_read
    upload: Upload | None = None
    grading: Grading | None = None
    targets_tell: bool = False
    unscored: str = ""
    releases: Mapping[str, Release] = field(default_factory=dict)
    official_suffix: str = ""
    prompt_suffix: str = ""
    find: Callable[[Questions, Mapping[str, Any]], str] | None = None
    foreign_is_error: bool = True
    ids_note: str = ""
    repeat_mark: str = ""
    primary_is_mean: bool = True
    grouped_metrics: Set[str] = frozenset()
    hub: HubLocation | None = None
    without_images: str = ""
    letters: Callable[[Sample], Sequence[str]] | None = None
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        """Raises a `BenchmarkError` for a value of another type; has functions watched likewise."""
        self._contract.check_values(self)
        guarded = {"data_files": self._guard("data_files", self.data_files)}
        for part in ("upload", "grading"):
            if (holder := getattr(self, part)) is not None:
                self._contract.check_values(holder, f"{part}.")
                given = {name: getattr(holder, name) for name in _GIVE if hasattr(holder, name)}
                guarded[part] = replace(holder, **{n: self._guard(n, f) for n, f in given.items()})
        for name, value in guarded.items():
            object.__setattr__(self, name, value)

    def _guard(self, name: str, given: Any) -> Any:
        func = getattr(getattr(given, "func", None), "__func__", None)
        bare = given.args[2] if func is Contract.call else given  # of a copy
        return bare and partial(self._contract.call, name, _GIVE[name], bare)

    @property
    def has_annotations(self) -> bool:
        """Whether answers of this split can be scored here.

        Raises:
            DataError: only the questions tell, and a file is missing or malformed.
        """
        return self._judge is not None

    @property
    def _judge(self) -> Judge | None:
        if self.grading is not None and self.grading.replies:
            return partial(self.grading.judge, self.title)
        if self.targets_tell and all(one.target is None for one in self.questions.values()):
            return None
        return self.judge

    @property
    def lack(self) -> str:
        """Why answers cannot be scored here, if so, and what to do; said after task and split."""
        if self.unscored:
            return self.unscored
        if self.grading is not None:
            return self.grading.unscored
        if self.judge is None and self.upload is None:
            return (
                "has no `judge`, so that its answers cannot be scored here. Give `Benchmark` one, "
                "or say in `unscored` why there is none."
            )
        way = " Write the file for the server with runners.submit." if self.upload else ""
        return f"{_UNANNOTATED}{way}"

    @property
    def answer(self) -> str:
        """How the model answers: `GENERATE` or `RANK`."""
        return GENERATE if self.letters is None else RANK

    @property
    def title(self) -> str:
        """Task and split, for messages."""
        return f"{self.name} {self.split}"

    @property
    def _contract(self) -> Contract:
        built = "" if self.recipe is None else self.recipe.constructor
        return Contract(self.title, built.rpartition(".")[0])

    @cached_property
    def questions(self) -> Questions:
        """All questions of the split by key, in the benchmark's order, as `read` gives them.

        Raises:
            DataError: a file is missing or malformed, holds no question, or one of them twice.
        """
        with collection_paused():
            samples = self._contract.call("read", list[Sample], self.read)
            self._contract.check_samples("read", samples)
            questions = {sample.key: sample for sample in samples}
        if not questions:
            raise DataError(f"{self.title} has no question. Fetch its files again.")
        if len(questions) < len(samples):
            files = ", ".join(map(str, self.data_files()))
            check_unique((sample.key for sample in samples), f"{self.title} ({files})")
        return questions

    @cached_property
    def _asked(self) -> tuple[Sample, ...]:
        questions = self.questions
        samples = self._contract.call("ask", list[Sample], self.ask, questions)
        others = (one for one in samples if questions.get(one.key) is not one)
        self._contract.check_samples("ask", others)
        if self.prompt_suffix != self.official_suffix:
            samples = [self._with_suffix(sample) for sample in samples]
        if self.letters is not None:
            samples = [replace(one, choices=self._choices_of(one)) for one in samples]
        return tuple(samples)

    def _choices_of(self, sample: Sample) -> tuple[str, ...]:
        letters = self.letters and self._contract.call(
            "letters", Sequence[str], self.letters, sample
        )
        if not letters:
            raise DataError(
                f"{self.title}: question {sample.question_id!r} has no option that could be "
                f"ranked. Mend its entry, or set tasks.{self.name}.answer=generate."
            )
        return tuple(letters)

    def samples(self) -> list[Sample]:
        """The questions as they are put, in the benchmark's order.

        Raises:
            DataError: a file is missing or malformed, or the files do not belong together.
        """
        return list(self._asked)

    def match(self, answers: Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
        """Foreign answer lines (`question_id`, `text`, `prompt`) by key.

        Needs neither images nor question files. Of several answers to a question the last one
        counts, unless the benchmark counts each. A prompt must be the question of its answer's id.

        Raises:
            DataError: the answers belong to another benchmark, split or release.
        """
        matched = self._find_questions(answers)
        self._check_prompts(self.questions, matched)
        return matched

    def match_failed(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """Foreign lines that record a failure instead of an answer, by the key of their question.

        Raises:
            DataError: they belong to another benchmark or split.
        """
        numbered = [{**line, "text": str(number)} for number, line in enumerate(lines)]
        found = self._find_questions(numbered, may_be_none=True)
        mark = self.repeat_mark
        return {
            key.split(mark)[0] if mark else key: lines[int(one.text)] for key, one in found.items()
        }

    def _find_questions(
        self, answers: Iterable[Mapping[str, Any]], *, may_be_none: bool = False
    ) -> dict[str, Prediction]:
        lines = with_own_ids(answers, self.questions.values(), self.title)
        ids = {key: sample.question_id for key, sample in self.questions.items()}
        with self._contract.running("find"):
            return match_by_id(
                lines,
                ids,
                task=self.title,
                foreign_is_error=self.foreign_is_error,
                may_be_none=may_be_none,
                find=None if self.find is None else partial(self.find, self.questions),
                note=self.ids_note,
                repeat_mark=self.repeat_mark,
            )

    def _check_prompts(self, questions: Questions, predictions: Predictions) -> None:
        """Checks that the prompts that answers carry are the questions of their keys.

        Raises:
            DataError: they are other questions, or the number of answers without prompts tells that
                they are of another release.
        """
        mark, texts = self.repeat_mark, {key: one.prompt for key, one in questions.items()}
        answers = {key.split(mark)[0] if mark else key: one for key, one in predictions.items()}
        if not any(texts.values()):  # the annotations alone do not say what is asked
            texts |= self._wordings()
        check_prompts(
            answers,
            texts,
            self._wordings,
            task=self.title,
            suffix=self.official_suffix,
            note=self.ids_note,
        )
        release = self.releases.get(self.split)
        if release is not None and not any(one.prompt for one in answers.values()):
            release.check_numbering(self.title, len(questions), len(answers))

    def _wordings(self) -> dict[str, str]:
        """The prompts as they are put, by key; none where the files for them are not there."""
        try:
            return {sample.key: sample.prompt for sample in self._asked}
        except MissingFileError:
            return {}

    def score(self, predictions: Predictions) -> list[Score]:
        """One score a question that counts, in the benchmark's order.

        A question without a prediction scores 0 with `answered` false.

        Raises:
            DataError: answers of the split cannot be scored here, a file is missing or malformed,
                or a prediction's key is not of the split.
            BenchmarkError: `judge` breaks, or gives what is no score.
        """
        judge = self._judge
        if judge is None:
            raise DataError(f"{self.title} {self.lack}")
        questions = self._questions_of(predictions)
        with collection_paused(), self._contract.running("judge"):
            return self._contract.check_scores(judge(questions, predictions), predictions)

    def aggregate(self, scores: Sequence[Score]) -> Aggregate:
        """The figures over any non-empty subset of the scores that `score` gave.

        Raises:
            ValueError: `scores` is empty.
            BenchmarkError: `figures` breaks, or gives what are no figures.
        """
        if not scores:  # a figure over no questions does not exist
            raise ValueError("`scores` must hold at least one score, but is empty.")
        with self._contract.running("figures"):
            figures = self.figures(scores)
        return self._contract.check_figures(
            figures, scores, self.primary_metric, primary_is_mean=self.primary_is_mean
        )

    def judge_requests(self, predictions: Predictions) -> dict[str, JudgeRequest]:
        """What the judge is asked first about each answer, by key.

        Raises:
            DataError: no judge grades the benchmark, a file is missing or malformed, or a
                prediction's key is not of the split.
        """
        return self._require_grading().requests(self._questions_of(predictions), predictions)

    def ask_judge(self, client: JudgeClient, prediction: Prediction) -> str:
        """The judge's reply about an answer, asked again where the benchmark does so.

        Raises:
            DataError: as `judge_requests`.
            OSError: the endpoint gave no reply.
        """
        grading = self._require_grading()
        check_keys({prediction.key: prediction}, self.questions, self.title)
        return grading.ask(client, self.questions[prediction.key], prediction)

    def with_replies(self, model: str, replies: Sequence[Path]) -> Benchmark:
        """The same benchmark with the replies of a judge, without reading its files again."""
        grading = replace(self._require_grading(), model=model, replies=tuple(replies))
        return replace(
            self,
            definition=grading.definition(self.name),
            grading=grading,
            read=lambda: list(self.questions.values()),
        )

    def submission_ids(self) -> tuple[list[str], frozenset[str]]:
        """The ids that the upload lists, in its order, and those that must have an answer.

        Where the upload lists more than the split and the split's own file is not there, it is not
        known which ones must have an answer, and none must.

        Raises:
            DataError: there is no server for the split, or a file is missing or malformed.
        """
        listed = list(self._listed)
        if self.require_upload().whole is None:
            return listed, frozenset(listed)
        try:
            return listed, frozenset(self.questions)
        except MissingFileError:
            return listed, frozenset()

    def upload_lines(self, answers: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Foreign answer lines with the ids that the upload lists, where other forms tell them.

        Raises:
            DataError: there is no server for the split, a file is missing or malformed, or prompts
                are other questions than those of their ids.
        """
        lines = with_own_ids(answers, self._listed.values(), self.title)
        known = ((str(line["question_id"]), line) for line in lines)
        asked = {key: prediction_of(key, line) for key, line in known if key in self._listed}
        self._check_prompts(self._listed, asked)
        return lines

    def render_submission(self, texts: Mapping[str, str]) -> bytes:
        """The content of the upload, by the answer to every id that it lists.

        Raises:
            DataError: there is no server for the split, or the file cannot hold an answer.
        """
        return self.require_upload().render(self._listed, texts)

    @cached_property
    def _listed(self) -> Questions:
        whole = self.require_upload().whole
        return self.questions if whole is None else whole()

    def require_upload(self) -> Upload:
        """What the benchmark's server takes.

        Raises:
            DataError: it has none, or a file is missing or malformed.
        """
        if self.upload is None:
            way = "Score them with runners.score." if self.has_annotations else f"It {self.lack}"
            raise DataError(f"{self.title} has no server that takes answers. {way}")
        return self.upload

    def _require_grading(self) -> Grading:
        if self.grading is None:
            raise DataError(f"{self.title} is not graded by a judge. Score it without one.")
        return self.grading

    def _questions_of(self, predictions: Predictions) -> Questions:
        """The questions that are scored, by the keys of the predictions where these repeat.

        Raises:
            DataError: a prediction's key is not of the split.
        """
        questions, mark = self.questions, self.repeat_mark
        if not mark:
            check_keys(predictions, questions, self.title)
            return questions
        given = {key: key.split(mark)[0] for key in predictions}
        check_keys({base: predictions[key] for key, base in given.items()}, questions, self.title)
        asked = {
            key: questions[key] if key == base else replace(questions[base], key=key)
            for key, base in given.items()
        }
        answered = set(given.values())
        return asked | {key: questions[key] for key in questions if key not in answered}

    def _with_suffix(self, sample: Sample) -> Sample:
        if not sample.text.endswith(self.official_suffix):
            raise DataError(
                f"{self.title}: the text of question {sample.question_id!r} does not end in "
                f"{self.official_suffix!r}, so that it cannot be replaced by another "
                "`prompt_suffix`. Leave `prompt_suffix` out, or move LLaVA's question file away so "
                "that the prompts are built from the official files."
            )
        text = sample.text.removesuffix(self.official_suffix) + self.prompt_suffix
        prompt = sample.prompt
        if prompt.endswith(self.official_suffix):  # some answer files leave the suffix out
            prompt = prompt.removesuffix(self.official_suffix) + self.prompt_suffix
        return replace(sample, text=text, prompt=prompt)


def each(one: Callable[[str, Sample], Judgment]) -> Judge:
    """A judge that looks at every answer by itself: at its text and its question."""

    def judge(questions: Questions, predictions: Predictions) -> list[Score]:
        scores = []
        for key, sample in questions.items():
            prediction = predictions.get(key)
            judgment = None
            if prediction is not None:
                try:
                    judgment = one(prediction.text, sample)
                except PASSED:
                    raise
                except BaseException as error:
                    raise AtQuestionError(sample.question_id, error) from error
                if not isinstance(judgment, tuple) or len(judgment) != 2:
                    raise AtQuestionError(sample.question_id, judgment)
            scores.append(score_of(sample, judgment))
        return scores

    return judge
