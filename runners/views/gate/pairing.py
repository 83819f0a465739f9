"""Two runs side by side: which questions both were asked, and what each made of them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from evals.errors import DataError
from evals.figures.paired_tests import PairedComparison, compare_paired
from runners.errors import ConfigError
from runners.storage.comparable import num_without_known_images, obstacles
from runners.storage.identity import UNKNOWN, differences
from runners.storage.run_table import render_metric
from runners.storage.stored import FinishedTask, StoredRun
from runners.storage.summary import Hashes, StoredScore, SummaryFile
from runners.views.leaderboard.entries import printable

_TOLD_IDENTITY = (
    *("conversation", "dtype", "attention", "vision_tower_dtype", "tf32", "quantization"),
    *("generation", "engine", "seed", "prompt_version", "prompt_format"),
)
"""What is told of two identities when it differs; weights differ as a matter of course."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One task of two runs, on the questions that both were asked.

    Attributes:
        task: The task's name.
        comparison: The candidate against the baseline.
        is_whole: Whether both runs were asked all questions of the split.
        is_limited: Whether a run was asked fewer by its option `limit`.
        is_answered: Whether both runs have answered all that they were asked.
        is_unchanged: Whether identical answers show that nothing changed.
        is_same: Whether both are one run, or copies of one, or imports of one answer file.
        hashes: What the scores of the baseline and of the candidate were made of.
        seconds: How long the comparison took.
        remarks: What a reader of the figures has to know.
    """

    task: str
    comparison: PairedComparison
    is_whole: bool
    is_limited: bool
    is_answered: bool
    is_unchanged: bool
    is_same: bool
    hashes: tuple[Hashes, Hashes]
    seconds: float
    remarks: tuple[str, ...]


class _NothingToCompareError(Exception):
    """A task is not there, or has no scores, in a run."""


def pair_runs(
    baseline: StoredRun, candidate: StoredRun, named: Collection[str], *, seed: int
) -> tuple[list[Pair], list[str]]:
    """Returns the tasks of two runs, paired by question, and remarks about those that are not.

    Args:
        baseline: The run that is held against.
        candidate: The run that is judged.
        named: The tasks that must be compared; empty for all that both have.
        seed: Of the permutation tests.

    Raises:
        ConfigError: a task must not be compared, or there is none to compare; the message holds
            all reasons.
    """
    problems: list[str] = []
    remarks: list[str] = []
    pairs: list[Pair] = []
    for task in sorted(named or {*baseline.tasks, *candidate.tasks}):
        try:
            pairs.append(_pair(task, baseline, candidate, seed))
        except _NothingToCompareError as reason:
            (problems if named else remarks).append(f"{task} is not compared: {reason}")
        except (ConfigError, DataError) as error:
            problems.append(f"{task}: {error}")
    # All reasons come in one message. Remarks are reasons only if nothing is left to compare.
    if problems or not pairs:
        reasons = problems or [*remarks, "No task is left."]
        refusal = f"{candidate.folder} cannot be compared with {baseline.folder}."
        raise ConfigError("\n".join([refusal, *reasons]))
    return pairs, remarks


def _pair(task: str, baseline: StoredRun, candidate: StoredRun, seed: int) -> Pair:
    started = time.monotonic()
    lacking = [str(run.folder) for run in (baseline, candidate) if task not in run.tasks]
    if lacking:
        raise _NothingToCompareError(f"there are no answers to it in {' and '.join(lacking)}.")
    before, after = baseline.tasks[task].finished(), candidate.tasks[task].finished()
    found = obstacles(before, after, ("baseline", "candidate"))
    if found and (before.scores or after.scores):  # without any, nothing would be compared
        raise ConfigError(" ".join(obstacle.message for obstacle in found))
    comparison = compare_scores(before.scores, after.scores, seed=seed)
    if comparison is None:
        raise _NothingToCompareError(
            "neither run has scores of it. Its split has no annotations, or no judge was asked."
        )
    num_common = comparison.num_questions
    is_whole = not any(
        side.summary.origin.limited or num_common < len(side.scores) for side in (before, after)
    )
    is_identical = all(
        score == after.scores[key] for key, score in before.scores.items() if key in after.scores
    )
    # After a part of the questions, another checkpoint may still answer the rest in another way;
    # the same one, asked in the same way, does not.
    is_proof = is_whole or before.manifest.identity == after.manifest.identity
    return Pair(
        task=task,
        comparison=comparison,
        is_whole=is_whole,
        is_limited=any(side.summary.origin.limit is not None for side in (before, after)),
        is_answered=before.summary.coverage == after.summary.coverage == 1,
        is_unchanged=is_identical and is_proof,
        is_same=baseline.folder.resolve() == candidate.folder.resolve(),
        hashes=(before.summary.hashes, after.summary.hashes),
        seconds=time.monotonic() - started,
        remarks=tuple(f"{task}: {remark}" for remark in _remarks(before, after, num_common)),
    )


def _is_copied(before: FinishedTask, after: FinishedTask) -> bool:
    """Whether the answers of both were given once, and copied."""
    if before.summary.hashes.answers != after.summary.hashes.answers:
        return False
    ours, theirs = before.manifest, after.manifest
    if ours.imported_sha256 or theirs.imported_sha256:
        return ours.imported_sha256 == theirs.imported_sha256
    is_begun_alike = ours.started is not None and ours.history == theirs.history
    return is_begun_alike and ours.identity == theirs.identity


def compare_scores(
    before: Mapping[str, StoredScore], after: Mapping[str, StoredScore], *, seed: int = 0
) -> PairedComparison | None:
    """Returns one run's scores by key against another's, on the questions that both have scores of.

    None where there are no such questions.
    """
    keys = [key for key in before if key in after]
    if not keys:
        return None
    return compare_paired(
        [before[key].value for key in keys],
        [after[key].value for key in keys],
        [before[key].cluster for key in keys],
        seed=seed,
    )


def _remarks(before: FinishedTask, after: FinishedTask, num_common: int) -> Iterator[str]:
    """What the figures do not say."""
    if _is_copied(before, after):
        yield "the answers of both were given once, and copied: nothing can have dropped."
    sides = {"baseline": before, "candidate": after}
    if any(num_common < len(side.scores) for side in sides.values()):
        yield (
            f"compared on the {num_common:,} questions that both runs were asked; the baseline was "
            f"asked {len(before.scores):,}, the candidate {len(after.scores):,}."
        )
    common = before.scores.keys() & after.scores.keys()
    for name, side in sides.items():
        yield from _remarks_on(name, side, common)
    codes = {side.summary.hashes.code for side in sides.values()}
    if None not in codes and len(codes) > 1:
        yield (
            "the runs were scored by two versions of the scoring code. runners.score run=NAME "
            "scores one again."
        )
    told = [
        {name: side.manifest.identity.get(name) for name in _TOLD_IDENTITY}
        for side in (before, after)
    ]
    changed = differences(told[0], told[1])
    # Of an imported file nothing of this is known: beside a run all of it would seem to differ.
    one_is_imported = len({side.manifest.imported_sha256 is None for side in sides.values()}) > 1
    if changed and not one_is_imported:
        fields = ", ".join(f"{name} ({_plain(a)}, {_plain(b)})" for name, (a, b) in changed.items())
        yield f"the runs differ in {fields}."
    if not all(_is_mean(side) for side in sides.values()):
        metric = before.summary.primary_metric
        first, second = (_shown(side.summary, metric) for side in sides.values())
        yield (
            f"tested is the mean score of the questions, not its {metric}, which is {first} in the "
            f"baseline and {second} in the candidate."
        )


def _remarks_on(name: str, side: FinishedTask, common: AbstractSet[str]) -> Iterator[str]:
    """What has to be known of one of the runs."""
    answered, asked = side.summary.num_answered, side.summary.num_questions
    if answered < asked:
        others = "the others count as wrong."
        yield f"the {name} answered {answered:,} of {asked:,} questions; {others}"
    if side.summary.on_other_data:
        yield f"the {name} is {printable(side.summary.on_other_data)}."
    if side.summary.hashes.prompts == UNKNOWN:
        yield f"it is not known in which words the {name} was asked."
    if unknown := num_without_known_images(side, common):
        yield (
            f"it is not known about which images the {name} was asked {unknown:,} of the "
            f"{len(common):,} questions."
        )


def _plain(value: Any) -> str:
    """A value of the identity as prose; of a component its name."""
    if isinstance(value, Mapping) and "name" in value:
        value = value["name"]
    return "none" if value is None else printable(str(value))


def _is_mean(side: FinishedTask) -> bool:
    """Whether the benchmark's own figure is the mean of the scores."""
    value = side.summary.metrics.get(side.summary.primary_metric)
    mean = fmean(score.value for score in side.scores.values())
    return value is not None and abs(value - mean) < 1e-9  # the sum has another order


def _shown(summary: SummaryFile, metric: str) -> str:
    return "unknown" if summary.metrics.get(metric) is None else render_metric(summary, metric)
