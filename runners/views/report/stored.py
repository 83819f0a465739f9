"""One task of a stored run, as it lies on disk and as its data can be read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.records import Failure, Sample
from llava.conversation import conv_templates, render_question
from runners.errors import ConfigError
from runners.options.build import build_task
from runners.storage.answers import PREDICTIONS_FILE, TRACE_FILE
from runners.storage.files import hash_data_files, read_intact_lines, sha256_of_json
from runners.storage.identity import PROMPT_VERSION
from runners.storage.lines import is_failure, key_of, read_failure
from runners.storage.manifest import read_manifest
from runners.storage.summary import SCORES_FILE, read_summary
from runners.views.report.records import (
    FAILED,
    PARTLY,
    RIGHT,
    UNSCORED,
    WRONG,
    Answer,
    Prompt,
)

_SCORE_FIELDS = frozenset({"question_id", "key", "cluster", "score", "answer"})
NO_ANSWER = "no_answer"
"""The cause where an imported answer file does not name a question at all."""

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


def read_questions(spec: Mapping[str, Any]) -> Questions:
    """Returns the questions of a task as they can be read now.

    Args:
        spec: The task, as `_target_` plus values.

    Raises:
        ConfigError: the spec names something else than a benchmark.
    """
    task = build_task(spec)
    try:
        samples = {sample.key: sample for sample in task.samples()}
        return Questions(
            samples=samples, data_hash=sha256_of_json(hash_data_files(task.data_files()))
        )
    except DataError as error:
        return Questions(problem=str(error))


class StoredTask:
    """One task of a run.

    Args:
        folder: The task's folder.
        questions: Its questions, as they can be read now.

    Attributes:
        questions: As given.
        identity: What decides the answers.
        environment: Where they were computed.
        started: When the run began.
        lines: The last line of each question in `predictions.jsonl`.
        summary: `summary.json`; None if the run is not finished.
        scores: The line of each question in `scores.jsonl`.

    Raises:
        ConfigError: the folder holds no task of a run.
    """

    def __init__(self, folder: Path, questions: Questions) -> None:
        manifest = read_manifest(folder)
        if manifest is None:
            raise ConfigError(f"{folder} holds no answers. Check `runs` and `task`.")
        self.questions = questions
        self.identity: Mapping[str, Any] = manifest["identity"]
        self.environment: Mapping[str, Any] = manifest.get("environment", {})
        begun = manifest["history"][0] if manifest["history"] else {}
        self.started: str | None = begun.get("started") or begun.get("imported")
        self.lines = _by_key(folder / PREDICTIONS_FILE)
        self.summary = read_summary(folder)
        # What lies beside unfinished answers are the scores of an earlier session.
        self.scores = _by_key(folder / SCORES_FILE) if self.summary is not None else {}
        self._traces = _by_key(folder / TRACE_FILE)

    @property
    def data_changed(self) -> bool:
        """Whether the data files are others than those that the run was scored with."""
        stored = (self.summary or {}).get("hashes", {}).get("data")
        return None not in (stored, self.questions.data_hash) and stored != self.questions.data_hash

    @cached_property
    def _frame(self) -> tuple[Callable[[str, int], str], str, str] | None:
        """What renders prompts, and the template around a turn; None if it is not known."""
        template = self.identity.get("conversation")
        if template not in conv_templates or self.identity.get("prompt_version") != PROMPT_VERSION:
            return None
        marks_images = bool(self.environment.get("marks_images", False))
        render = partial(render_question, template, marks_images=marks_images)
        head, _, tail = render(_TURN, 0).partition(_TURN)
        return render, head, tail

    def group_fields(self, key: str) -> dict[str, str | None]:
        """The breakdown fields of a question."""
        sample = self.questions.samples.get(key)
        fields = dict(sample.groups) if sample is not None else {}
        score = self.scores.get(key, {})
        return fields | {name: score[name] for name in score if name not in _SCORE_FIELDS}

    def answer(self, key: str) -> Answer | None:
        """What the run made of a question; None if it was not asked."""
        line = self.lines.get(key)
        if line is None:
            return self._unanswered(key) if key in self.scores else None
        failure = read_failure(line) if is_failure(line) else None
        score = self.scores.get(key)
        value = None if score is None else float(score["score"])
        return Answer(
            outcome=FAILED if failure is not None else _outcome(value),
            text=line["text"],
            prompt=self._prompt(key, line["prompt"]),
            score=value,
            compared=None if score is None else score["answer"],
            failure=failure,
            details=line["metadata"],
            trace=self._traces.get(key, {}),
        )

    def _unanswered(self, key: str) -> Answer:
        """Stands for an answer that an imported file lacks; its question counts as wrong."""
        message = "The imported answer file has no answer to this question."
        return Answer(
            outcome=FAILED,
            text="",
            prompt=self._prompt(key, ""),
            score=float(self.scores[key]["score"]),
            failure=Failure(key=key, cause=NO_ANSWER, message=message),
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


def _by_key(path: Path) -> dict[str, dict[str, Any]]:
    """The last line of each key; lines of a run name it in `metadata`, others directly."""
    lines = {}
    for line in read_intact_lines(path):
        key = line["key"] if "key" in line else key_of(line)
        if isinstance(key, str):
            lines[key] = line
    return lines


def _outcome(score: float | None) -> str:
    if score is None:
        return UNSCORED
    if score >= 1:
        return RIGHT
    return PARTLY if score > 0 else WRONG
