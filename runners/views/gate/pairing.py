"""Two runs side by side: which questions both were asked, and whether they may be compared.

Scores may be compared if the questions were put in the same words (before the conversation
template), about the same data, and judged by the same definition. Everything else may differ: that
is what the comparison is about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evals.errors import DataError
from evals.figures.paired_tests import Floats
from runners.errors import ConfigError
from runners.storage.identity import UNKNOWN, differences
from runners.views.gate.stored import StoredTask, list_tasks, read_task

_TOLD_IDENTITY = (
    "conversation",
    "dtype",
    "vision_tower_dtype",
    "quantization",
    "generation",
    "seed",
    "prompt_version",
)
"""What is told of two identities when it differs; weights differ as a matter of course."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One task of two runs, on the questions that both were asked.

    Attributes:
        task: The task's name.
        baseline: The baseline's score of each question.
        candidate: The candidate's, in the same order.
        clusters: The cluster of each question, in the same order.
        is_identical: Whether all answers, as they were compared, and their scores are the same.
        is_whole: Whether both runs were asked all questions of the split.
        is_same_identity: Whether the answers were made by the same checkpoint in the same way.
        remarks: What a reader of the figures has to know.
    """

    task: str
    baseline: Floats
    candidate: Floats
    clusters: list[str]
    is_identical: bool
    is_whole: bool
    is_same_identity: bool
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRuns:
    """Two runs side by side.

    Attributes:
        pairs: The tasks that are compared, by name.
        remarks: About tasks that are not.
    """

    pairs: tuple[Pair, ...]
    remarks: tuple[str, ...]


class _NothingToCompareError(Exception):
    """A task is not there, or has no scores, in a run."""


def pair_runs(baseline: Path, candidate: Path, named: Collection[str]) -> PairedRuns:
    """Returns the tasks of two runs, paired by question.

    Args:
        baseline: The folder of the run that is held against.
        candidate: The folder of the run that is judged.
        named: The tasks that must be compared; empty for all that both have.

    Raises:
        ConfigError: a task must not be compared, or there is none to compare; the message holds
            all reasons.
    """
    problems: list[str] = []
    remarks: list[str] = []
    pairs: list[Pair] = []
    for task in sorted(named or {*list_tasks(baseline), *list_tasks(candidate)}):
        try:
            pairs.append(_pair(task, baseline, candidate))
        except _NothingToCompareError as reason:
            (problems if named else remarks).append(f"{task} is not compared: {reason}")
        except (ConfigError, DataError) as error:
            problems.append(f"{task}: {error}")
    if problems or not pairs:
        reasons = problems or [*remarks, "No task is left."]
        raise ConfigError("\n".join([f"{candidate} cannot be compared with {baseline}.", *reasons]))
    return PairedRuns(pairs=tuple(pairs), remarks=tuple(remarks))


def _pair(task: str, baseline: Path, candidate: Path) -> Pair:
    lacking = [str(run) for run in (baseline, candidate) if task not in list_tasks(run)]
    if lacking:
        raise _NothingToCompareError(f"there are no answers to it in {' and '.join(lacking)}.")
    before, after = read_task(baseline / task), read_task(candidate / task)
    if not before.scores and not after.scores:
        raise _NothingToCompareError(
            "neither run has scores of it. Its split has no annotations, or no judge was asked."
        )
    keys = [key for key in before.scores if key in after.scores]
    obstacles = list(_obstacles(before, after, keys))
    if obstacles:
        raise ConfigError(" ".join(obstacles))
    values = [
        np.array([side.scores[key].value for key in keys], dtype=np.float64)
        for side in (before, after)
    ]
    return Pair(
        task=task,
        baseline=values[0],
        candidate=values[1],
        clusters=[before.scores[key].cluster for key in keys],
        is_identical=all(before.scores[key] == after.scores[key] for key in keys),
        is_whole=not any(_is_part(side, keys) for side in (before, after)),
        is_same_identity=before.identity == after.identity,
        remarks=tuple(_remarks(task, before, after, keys)),
    )


def _obstacles(before: StoredTask, after: StoredTask, keys: Collection[str]) -> Iterator[str]:
    """Why the scores of two runs must not be compared."""
    prompts = [side.summary["hashes"]["prompts"] for side in (before, after)]
    if UNKNOWN not in prompts and prompts[0] != prompts[1]:
        yield (
            "the questions were put in other words. Evaluate both runs with the same prompts, such "
            "as `prompt_suffix` of the task."
        )
    if _scorer(before.summary) != _scorer(after.summary):
        yield (
            f"the scores are by other definitions ({_named_scorer(before.summary)} and "
            f"{_named_scorer(after.summary)}). Score one of the runs again with runners.score."
        )
    if not before.scores or not after.scores:
        yield (
            f"only the {'baseline' if before.scores else 'candidate'} has scores. Score the other "
            "run with runners.score."
        )
    elif before.summary["hashes"]["data"] != after.summary["hashes"]["data"]:
        changed = differences(before.identity.get("data") or {}, after.identity.get("data") or {})
        files = ", ".join(changed) or "the files"
        splits = " and ".join(side.summary["split"] for side in (before, after))
        yield (
            f"the data differ ({files}; split {splits}). Evaluate both runs on the same question "
            "and annotation files."
        )
    elif not keys:
        yield "the runs have no question in common."
    elif any(before.scores[key].cluster != after.scores[key].cluster for key in keys):
        yield "the same questions are about other images in the one run than in the other."


def _scorer(summary: Mapping[str, Any]) -> Any:
    """What decides a score. Replies of a judge are no part of it: they differ as answers do."""
    judge = summary.get("judge")
    if not judge:
        return summary["hashes"]["scorer"]
    kept = {name: value for name, value in judge.items() if name != "replies_sha256"}
    return summary["definition"], kept


def _named_scorer(summary: Mapping[str, Any]) -> str:
    judge = summary.get("judge")
    return f"{summary['definition']} by {judge['model']}" if judge else str(summary["definition"])


def _is_part(side: StoredTask, keys: Collection[str]) -> bool:
    return bool(side.summary.get("limited")) or len(keys) < len(side.scores)


def _remarks(
    task: str, before: StoredTask, after: StoredTask, keys: Collection[str]
) -> Iterator[str]:
    """What the figures do not say."""
    sides = {"baseline": before, "candidate": after}
    if any(len(keys) < len(side.scores) for side in sides.values()):
        yield (
            f"{task}: compared on the {len(keys):,} questions that both runs were asked; the "
            f"baseline was asked {len(before.scores):,}, the candidate {len(after.scores):,}."
        )
    for name, side in sides.items():
        answered, asked = side.summary["num_answered"], side.summary["num_questions"]
        if answered < asked:
            yield (
                f"{task}: the {name} answered {answered:,} of {asked:,} questions; the others "
                "count as wrong."
            )
        if side.summary["hashes"]["prompts"] == UNKNOWN:
            yield f"{task}: it is not known in which words the {name} was asked."
    changed = differences(_told_identity(before), _told_identity(after))
    if changed and before.is_imported == after.is_imported:
        fields = ", ".join(f"{name} ({_plain(a)}, {_plain(b)})" for name, (a, b) in changed.items())
        yield f"{task}: the runs differ in {fields}."
    if not all(_is_mean(side) for side in sides.values()):
        metric = before.summary["primary_metric"]
        values = [_shown(side.summary["metrics"].get(metric)) for side in sides.values()]
        yield (
            f"{task}: tested is the mean score of the questions, not its {metric}, which is "
            f"{values[0]} in the baseline and {values[1]} in the candidate."
        )


def _told_identity(side: StoredTask) -> dict[str, Any]:
    return {name: side.identity.get(name) for name in _TOLD_IDENTITY}


def _plain(value: Any) -> str:
    """A value of the identity as prose; of a component its name."""
    if isinstance(value, Mapping) and "name" in value:
        value = value["name"]
    return "none" if value is None else str(value)


def _is_mean(side: StoredTask) -> bool:
    """Whether the benchmark's own figure is the mean of the scores."""
    value = side.summary["metrics"].get(side.summary["primary_metric"])
    mean = float(np.mean([score.value for score in side.scores.values()]))
    return value is not None and abs(value - mean) < 1e-9


def _shown(value: float | None) -> str:
    """A fraction as a percentage; points, which are larger than 1, as they are."""
    if value is None:
        return "unknown"
    return f"{100 * value:.2f}" if value <= 1 else f"{value:.2f}"
