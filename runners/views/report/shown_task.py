"""One task of a stored run as the page shows it: its answers beside its questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from evals.errors import DataError
from evals.records import Cause, Failure, Sample
from llava.conversation import conv_templates, render_question
from runners.errors import ConfigError
from runners.options.task_spec import TaskSpec
from runners.storage.files import hash_data_files, sha256_of_json
from runners.storage.identity import PROMPT_VERSION
from runners.storage.lines import is_failure, read_failure
from runners.storage.manifest import Manifest
from runners.storage.stored import StoredTask
from runners.storage.summary import StoredScore, SummaryFile
from runners.views.report.records import (
    FAILED,
    PARTLY,
    RIGHT,
    UNSCORED,
    WRONG,
    Answer,
    Prompt,
)

_TURN = "\N{OBJECT REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """The questions of a task.

    Attributes:
        samples: By key, in the benchmark's order; empty if the data cannot be read.
        data_hash: Of the data files.
        problem: Why the data cannot be read.
    """

    samples: Mapping[str, Sample] = field(default_factory=dict)
    data_hash: str | None = None
    problem: str | None = None


def read_questions(spec: TaskSpec) -> Questions:
    """Returns the questions of a task as they can be read now.

    Args:
        spec: The task.

    Raises:
        ConfigError: the spec names something else than a benchmark.
    """
    task = spec.build()
    try:
        samples = {sample.key: sample for sample in task.samples()}
        return Questions(
            samples=samples, data_hash=sha256_of_json(hash_data_files(task.data_files()))
        )
    except DataError as error:
        return Questions(problem=str(error))


class ShownTask:
    """One task of a run, beside its questions.

    Args:
        stored: The task as it lies on disk.
        questions: Its questions, as they can be read now.

    Attributes:
        stored: As given.
        questions: As given.
        manifest: What its answers are of.
        summary: Its figures; None if the run is not finished, or what should hold them cannot be
            read.
        fault: Why the figures cannot be read; empty if nothing is wrong with them.
        scores: The score of each question, as far as there are any.

    Raises:
        ConfigError: the folder holds no task of a run.
    """

    def __init__(self, stored: StoredTask, questions: Questions) -> None:
        if stored.manifest is None:
            raise ConfigError(f"{stored.folder} holds no answers. Check `runs` and `task`.")
        self.stored = stored
        self.questions = questions
        self.manifest: Manifest = stored.manifest
        self.summary: SummaryFile | None = None
        self.scores: Mapping[str, StoredScore] = {}
        self.fault = ""
        try:
            # What lies beside unfinished answers are the scores of an earlier session.
            self.summary, self.scores = stored.summary, stored.scores
        except DataError as error:
            self.fault = str(error)

    @property
    def lines(self) -> Mapping[str, Mapping[str, Any]]:
        """The answers that are as they were written, by key."""
        return self.stored.answers.lines

    @property
    def data_changed(self) -> bool:
        """Whether the data files are others than those that the run was scored with."""
        stored = None if self.summary is None else self.summary.hashes.data
        return None not in (stored, self.questions.data_hash) and stored != self.questions.data_hash

    @cached_property
    def _frame(self) -> tuple[Callable[[str, int], str], str, str] | None:
        """What renders prompts, and the template around a turn; None if it is not known."""
        identity = self.manifest.identity
        template = identity.get("conversation")
        if template not in conv_templates or identity.get("prompt_version") != PROMPT_VERSION:
            return None
        marks_images = bool(self.manifest.environment.get("marks_images", False))
        render = partial(render_question, template, marks_images=marks_images)
        head, _, tail = render(_TURN, 0).partition(_TURN)
        return render, head, tail

    def group_fields(self, key: str) -> dict[str, str | None]:
        """The breakdown fields of a question."""
        sample = self.questions.samples.get(key)
        fields = dict(sample.groups) if sample is not None else {}
        return fields | dict(self.scores[key].groups if key in self.scores else {})

    def answer(self, key: str) -> Answer | None:
        """What the run made of a question; None if it was not asked."""
        line = self.lines.get(key)
        if line is None:
            return self._unanswered(key) if key in self.scores else None
        failure = read_failure(line) if is_failure(line) else None
        score = self.scores.get(key)
        value = None if score is None else score.value
        return Answer(
            outcome=FAILED if failure is not None else _outcome(value),
            text=line["text"],
            prompt=self._prompt(key, line["prompt"]),
            score=value,
            compared=None if score is None else score.answer,
            failure=failure,
            details=line["metadata"],
            trace=self.stored.answers.traces.get(key, {}),
        )

    def _unanswered(self, key: str) -> Answer:
        """Stands for an answer that is not there, or is left out because somebody edited it."""
        message = "The imported answer file has no answer to this question."
        if self.manifest.imported_sha256 is None:
            message = "The stored answer is missing, or not as it was written."
        return Answer(
            outcome=FAILED,
            text="",
            prompt=self._prompt(key, ""),
            score=self.scores[key].value,
            failure=Failure(key=key, cause=Cause.NO_ANSWER, message=message),
        )

    def _prompt(self, key: str, stored: str) -> Prompt:
        sample = self.questions.samples.get(key)
        if sample is None or self._frame is None:
            return Prompt(turn=stored or (sample.prompt if sample else ""), is_rendered=False)
        render, head, tail = self._frame
        prompt = render(sample.text, len(sample.images))
        if prompt.startswith(head) and prompt.endswith(tail):
            return Prompt(head=head, turn=prompt[len(head) : len(prompt) - len(tail)], tail=tail)
        return Prompt(turn=prompt)


def _outcome(score: float | None) -> str:
    if score is None:
        return UNSCORED
    if score >= 1:
        return RIGHT
    return PARTLY if score > 0 else WRONG
