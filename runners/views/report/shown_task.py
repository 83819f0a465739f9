"""One task of a stored run as the page shows it: its answers beside its questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.reading.files import file_state
from evals.records import Cause, Sample
from llava.conversation import conv_templates, render_question
from runners.options.task_spec import TaskSpec
from runners.storage.answer_lines import is_failure, read_failure
from runners.storage.asked import asked_samples
from runners.storage.files import hash_data_files, sha256_of_json
from runners.storage.identity import PROMPT_VERSION, differences, prompt_format
from runners.storage.manifest import Manifest
from runners.storage.stored import State, StoredTask
from runners.storage.summary import StoredScore, SummaryFile
from runners.views.report.shown import Answer, Outcome, Prompt

_TURN = "\N{OBJECT REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentData:
    """The data of a task as they can be read now, which may be others than when it was run.

    Attributes:
        samples: By key, in the benchmark's order; empty if the data cannot be read.
        data_hash: Of the data files.
        problem: Why the data cannot be read.
    """

    samples: Mapping[str, Sample] = field(default_factory=dict)
    data_hash: str | None = None
    problem: str | None = None


class DataReader:
    """Reads the data of tasks, each once as long as its files stay as they are."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[Sequence[object], PresentData]] = {}

    def __call__(self, spec: TaskSpec) -> PresentData:
        """Returns the data of a task.

        Raises:
            ConfigError: the spec names something else than a benchmark.
        """
        task = spec.build()
        identity = json.dumps(spec.to_json(), sort_keys=True)
        try:
            files = [Path(path) for path in task.data_files()]
            state = [(path, *file_state(path)) for path in files]
            before, data = self._read.get(identity, (None, PresentData()))
            if before != state:
                samples = {sample.key: sample for sample in task.samples()}
                data_hash = sha256_of_json(hash_data_files(files))
                data = PresentData(samples=samples, data_hash=data_hash)
                self._read[identity] = (state, data)
        except DataError as error:
            return PresentData(problem=str(error))
        return data


class ShownTask:
    """One task of a run, beside its questions.

    Attributes:
        stored: The task as it lies on disk.
        manifest: What its answers are of.
        data: Its data, as they can be read now.
        summary: Its figures; None if the run is not finished, or what should hold them cannot be
            read.
        fault: Why the figures cannot be read; empty if nothing is wrong with them.
        scores: The score of each question, as far as there are any.
    """

    def __init__(self, stored: StoredTask, manifest: Manifest, data: PresentData) -> None:
        self.stored = stored
        self.manifest = manifest
        self.data = data
        self.summary: SummaryFile | None = None
        self.scores: Mapping[str, StoredScore] = {}
        self.fault = ""
        try:
            self.summary, scores = stored.summary, stored.scores
            # Those of a stale run are the scores of earlier answers.
            self.scores = {} if stored.state is State.STALE else scores
        except DataError as error:
            self.fault = str(error)

    @property
    def is_finished(self) -> bool:
        """Whether its figures can be read, and are those of the answers."""
        return not self.fault and self.stored.state is State.FINISHED

    @property
    def lines(self) -> Mapping[str, Mapping[str, Any]]:
        """The answers that are as they were written, by key."""
        return self.stored.answers.lines

    @property
    def num_asked(self) -> int:
        """How many questions the run asks; 0 where its data cannot be read."""
        limit = self.manifest.limit
        samples = list(self.data.samples.values())
        return len(asked_samples(samples, limit, self.manifest.shard))

    @property
    def data_changed(self) -> bool:
        """Whether the data files are others than those that the run was scored with."""
        stored = None if self.summary is None else self.summary.hashes.data
        # One of them is not known where a run is not finished, or its data cannot be read.
        return None not in (stored, self.data.data_hash) and stored != self.data.data_hash

    def group_fields(self, key: str) -> dict[str, str | None]:
        """The breakdown fields of a question; those of its score go before those of today."""
        sample, score = self.data.samples.get(key), self.scores.get(key)
        return {**(sample.groups if sample else {}), **(score.groups if score else {})}

    def answer(self, key: str) -> Answer | None:
        """What the run made of a question; None if it was not asked."""
        line, score = self.lines.get(key), self.scores.get(key)
        if line is None:
            return None if score is None else self._unanswered(key, score)
        details, trace = line["metadata"], self.stored.answers.traces.get(key, {})
        failure = read_failure(line) if is_failure(line) else None
        value = None if score is None else score.value
        return Answer(
            outcome=_outcome(value) if failure is None else Outcome.FAILED,
            text=line["text"],
            score=value,
            compared=None if score is None else score.answer,
            prompt=self._prompt(key, line["prompt"]),
            failure=None if failure is None else (failure.cause, failure.message),
            finish_reason=details.get("finish_reason"),
            num_prompt_tokens=details.get("num_prompt_tokens"),
            num_new_tokens=details.get("num_new_tokens"),
            min_margin=trace.get("min_margin"),
            replayed=bool(trace.get("replayed")),
            flipped=bool(trace.get("flipped")),
            latency_s=trace.get("latency_s"),
            attempts=trace.get("attempts"),
        )

    def _unanswered(self, key: str, score: StoredScore) -> Answer:
        """Stands for an answer that is not there, or is left out because somebody edited it."""
        message = "The imported answer file has no answer to this question."
        if self.manifest.imported_sha256 is None:
            message = "The stored answer is missing, or not as it was written."
        return Answer(
            outcome=Outcome.FAILED,
            text="",
            score=score.value,
            compared=None,
            prompt=self._prompt(key, ""),
            failure=(Cause.NO_ANSWER, message),
        )

    def _prompt(self, key: str, stored: str) -> Prompt:
        sample = self.data.samples.get(key)
        if sample is None or self._frame is None:
            return Prompt(False, "", stored or (sample.prompt if sample else ""), "")
        render, head, tail = self._frame
        prompt = render(sample.text, len(sample.images))
        # A template may change with the turn: then no part of it is told from the question.
        if prompt.startswith(head) and prompt.endswith(tail):
            return Prompt(True, head, prompt[len(head) : len(prompt) - len(tail)], tail)
        return Prompt(True, "", prompt, "")

    @cached_property
    def _frame(self) -> tuple[Callable[[str, int], str], str, str] | None:
        """What renders prompts, and the template around a turn; None if it is not known."""
        identity = self.manifest.identity
        template = identity.get("conversation")
        if not isinstance(template, str) or template not in conv_templates:
            return None
        if differences(
            identity,
            {
                **identity,
                "prompt_version": PROMPT_VERSION,
                "prompt_format": prompt_format(template),
            },
        ):
            return None  # what would be shown is not what the model was given
        marks_images = bool(self.manifest.environment.get("marks_images", False))
        render = partial(render_question, template, marks_images=marks_images)
        head, _, tail = render(_TURN, 0).partition(_TURN)  # a character that no template has
        return render, head, tail


def _outcome(score: float | None) -> Outcome:
    if score is None:
        return Outcome.UNSCORED
    if score >= 1:
        return Outcome.RIGHT
    return Outcome.PARTLY if score > 0 else Outcome.WRONG
