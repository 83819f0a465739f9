"""What is said below the tables about a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runners.storage.answers import PREDICTIONS_FILE
from runners.storage.files import sha256_of_file
from runners.views.leaderboard.columns import Column
from runners.views.leaderboard.definitions import is_present_definition, other_options, usual_judge
from runners.views.leaderboard.records import Mark
from runners.views.leaderboard.stored import StoredTask, printable

_QUANTIZATION = "quantization"


def marks_of(stored: StoredTask) -> tuple[Mark, ...]:
    """Returns what has to be known about all figures of a stored task."""
    found = [*_extent(stored), *_origin(stored)]
    if not stored.summary["metrics"]:
        found.append(Mark(text=_why_unscored(stored.summary)))
    return tuple(found)


def mark_of_gap(column: Column) -> Mark:
    """Returns what is said of a figure that a scored task does not have."""
    return Mark(text=f"{column.metric} cannot be computed from these answers")


def describe_setup(stored: StoredTask) -> str:
    """Returns what the answers were computed with, such as `float16, nf4`."""
    identity = stored.manifest["identity"] if stored.manifest else {}
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


def _extent(stored: StoredTask) -> Iterator[Mark]:
    """What of the split the figure is over."""
    summary = stored.summary
    runner = _environment(stored).get("runner")
    shard = runner.get("shard") if isinstance(runner, dict) else None
    if shard is not None:
        yield Mark(text=f"only shard {printable(str(shard))} of the questions (runner.shard)")
    elif summary.get("limited"):
        yield Mark(text=f"only the first {summary['num_questions']:,} questions (limit)")
    expected = summary.get("expected_num_questions")
    if expected not in (None, summary["num_questions"]) and not summary.get("limited"):
        yield Mark(text=f"{summary['num_questions']:,} questions, but {expected:,} are published")
    if summary["coverage"] < 1:
        causes = ", ".join(f"{name} {count:,}" for name, count in summary["num_failed"].items())
        yield Mark(
            text=(
                f"incomplete: {summary['num_answered']:,} of {summary['num_questions']:,} "
                "questions were answered, the others count as wrong "
                f"({printable(causes) or 'no answer'})"
            )
        )


def _origin(stored: StoredTask) -> Iterator[Mark]:
    """By which rules, and from which answers, the figure was made."""
    summary = stored.summary
    spec = _environment(stored).get("task")
    if not isinstance(spec, dict):
        yield Mark(text="without a manifest: how it was answered and scored is not known")
        return
    if summary["metrics"] and not is_present_definition(spec, summary):
        yield Mark(
            text=(
                f"stale: scored by {printable(summary['definition'])} as it was then, which is not "
                "the present definition; score it again with runners.score run=NAME"
            )
        )
    options = other_options(summary["task"], spec)
    if options:
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items())
        yield Mark(text=f"options other than the default: {printable(shown)}")
    judge = summary.get("judge")
    if isinstance(judge, dict) and judge.get("model") != usual_judge(summary["task"]):
        yield Mark(
            text=(
                f"judged by {printable(str(judge.get('model')))}, where the published figures are "
                f"by {usual_judge(summary['task'])}"
            )
        )
    if _has_other_answers(stored):
        yield Mark(text="the stored answers are others than those that were scored")
    if summary.get("imported"):
        yield Mark(text="answers were imported from a file", is_comparable=True)


def _environment(stored: StoredTask) -> Mapping[str, Any]:
    return {} if stored.manifest is None else dict(stored.manifest["environment"])


def _has_other_answers(stored: StoredTask) -> bool:
    hashes, path = stored.summary.get("hashes"), stored.folder / PREDICTIONS_FILE
    answers = hashes.get("answers") if isinstance(hashes, dict) else None
    if answers is None or not path.is_file():
        return False
    return bool(answers != sha256_of_file(path))


def _why_unscored(summary: Mapping[str, Any]) -> str:
    if usual_judge(summary["task"]) is not None:
        return "waits for its judge: runners.score run=NAME judge=openai"
    return "the split has no public annotations: runners.submit writes the file for the server"
