"""What is said below the tables about a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runners.errors import ConfigError
from runners.options.task_spec import TaskSpec
from runners.storage.stored import State
from runners.storage.summary import SummaryFile
from runners.views.leaderboard.columns import Column
from runners.views.leaderboard.definitions import is_present_definition, other_options, usual_judge
from runners.views.leaderboard.entries import Entry, printable
from runners.views.leaderboard.records import Mark

_QUANTIZATION = "quantization"
_HOW_CHANGED = {
    State.EDITED: "the stored answers or scores were edited: they are others than those that were "
    "scored",
    State.STALE: "the stored answers are others than those that were scored",
}


def marks_of(entry: Entry) -> tuple[Mark, ...]:
    """Returns what has to be known about all figures of a stored task."""
    found = [*_extent(entry), *_origin(entry)]
    if not entry.summary.metrics:
        found.append(Mark(text=_why_unscored(entry.summary)))
    return tuple(found)


def mark_of_gap(column: Column) -> Mark:
    """Returns what is said of a figure that a scored task does not have."""
    return Mark(text=f"{column.metric} cannot be computed from these answers")


def describe_setup(entry: Entry) -> str:
    """Returns what the answers were computed with, such as `float16, nf4`."""
    identity = entry.manifest.identity if entry.manifest else {}
    if "imported" in identity:
        return "imported"
    parts = [str(identity.get("dtype") or "")]
    quantization = identity.get(_QUANTIZATION)
    if isinstance(quantization, dict):
        parts.append(str(quantization.get("name")))
    generation = identity.get("generation")
    if isinstance(generation, dict):
        parts += _describe_generation(generation)
    return printable(", ".join(part for part in parts if part)) or "unknown"


def _describe_generation(generation: Mapping[str, Any]) -> Iterator[str]:
    if generation.get("temperature"):
        yield f"temperature {generation['temperature']}"
    if generation.get("num_beams", 1) != 1:
        yield f"{generation['num_beams']} beams"


def _extent(entry: Entry) -> Iterator[Mark]:
    """What of the split the figure is over."""
    summary = entry.summary
    shard = None if entry.manifest is None else entry.manifest.shard
    if shard is not None:
        yield Mark(text=f"only shard {shard.option} of the questions (runner.shard)")
    elif summary.origin.limited:
        yield Mark(text=f"only the first {summary.num_questions:,} questions (limit)")
    expected = summary.expected_num_questions
    if expected not in (None, summary.num_questions) and not summary.origin.limited:
        yield Mark(text=f"{summary.num_questions:,} questions, but {expected:,} are published")
    if summary.coverage < 1:
        causes = ", ".join(f"{name} {count:,}" for name, count in summary.num_failed.items())
        yield Mark(
            text=(
                f"incomplete: {summary.num_answered:,} of {summary.num_questions:,} "
                "questions were answered, the others count as wrong "
                f"({printable(causes) or 'no answer'})"
            )
        )


def _origin(entry: Entry) -> Iterator[Mark]:
    """By which rules, and from which answers, the figure was made."""
    summary = entry.summary
    try:
        spec = TaskSpec.from_json(entry.manifest and entry.manifest.environment.get("task"))
    except ConfigError:
        yield Mark(text="without a manifest: how it was answered and scored is not known")
        return
    if summary.metrics and not is_present_definition(spec, summary):
        yield Mark(
            text=(
                f"stale: scored by {printable(summary.definition)} as it was then, which is not "
                "the present definition; score it again with runners.score run=NAME"
            )
        )
    options = other_options(summary.task, spec)
    if options:
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items())
        yield Mark(text=f"options other than the default: {printable(shown)}")
    judge = summary.judge
    if judge is not None and judge.get("model") != usual_judge(summary.task):
        yield Mark(
            text=(
                f"judged by {printable(str(judge.get('model')))}, where the published figures are "
                f"by {usual_judge(summary.task)}"
            )
        )
    if entry.stored.changed_files:
        yield Mark(text=_HOW_CHANGED[entry.stored.state])
    if summary.origin.imported:
        yield Mark(text="answers were imported from a file", is_comparable=True)


def _why_unscored(summary: SummaryFile) -> str:
    if usual_judge(summary.task) is not None:
        return "waits for its judge: runners.score run=NAME judge=openai"
    return "the split has no public annotations: runners.submit writes the file for the server"
