"""The verdict: does the candidate pass, fail, or can these questions not tell?

A task fails if the candidate's score dropped and chance does not explain it. It passes if nothing
changed, or if a drop that matters is ruled out. Otherwise it is undecided, which is no pass: too
few questions prove nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.figures.paired_tests import (
    PairedComparison,
    compare_paired,
    detectable_difference,
    drop_bound,
    holm,
)
from runners.views.gate.pairing import Pair

PASS, FAIL, UNDECIDED = "pass", "fail", "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is tolerated.

    Attributes:
        alpha: The chance of a false alarm over all tasks together.
        max_drop: The drop that is tolerated; None for none that is significant.
        margin: What a drop must surely be below to pass, where `max_drop` says nothing.
    """

    alpha: float = 0.05
    max_drop: float | None = None
    margin: float = 0.03

    @property
    def failing_drop(self) -> float:
        """A significant drop fails if it is larger than this."""
        return 0.0 if self.max_drop is None else self.max_drop

    @property
    def passing_drop(self) -> float:
        """A task passes if its drop is surely no larger than this."""
        return self.margin if self.max_drop is None else self.max_drop


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskVerdict:
    """What is found about one task.

    Attributes:
        task: The task's name.
        comparison: The candidate against the baseline.
        p_adjusted: The p value, adjusted for the number of tasks.
        bound: The largest drop that the data leave open; None if they leave any.
        detectable: The smallest drop that would be found with 80% power; None if too little
            changed to tell.
        verdict: `pass`, `fail` or `undecided`.
        remarks: What a reader of the figures has to know.
    """

    task: str
    comparison: PairedComparison
    p_adjusted: float
    bound: float | None
    detectable: float | None
    verdict: str
    remarks: tuple[str, ...]


def judge(pairs: Sequence[Pair], rule: Rule, *, seed: int = 0) -> list[TaskVerdict]:
    """Returns the verdict on each task.

    Args:
        pairs: The tasks, one family of tests.
        rule: What is tolerated.
        seed: Of the permutation tests.
    """
    comparisons = [
        compare_paired(pair.baseline, pair.candidate, pair.clusters, seed=seed) for pair in pairs
    ]
    adjusted = holm([comparison.p for comparison in comparisons])
    return [
        _judge(pair, comparison, p_adjusted, rule, len(pairs))
        for pair, comparison, p_adjusted in zip(pairs, comparisons, adjusted, strict=True)
    ]


def overall(verdicts: Sequence[TaskVerdict]) -> str:
    """Returns the verdict on the candidate: the worst of its tasks."""
    found = {verdict.verdict for verdict in verdicts}
    return next((verdict for verdict in (FAIL, UNDECIDED) if verdict in found), PASS)


def _judge(
    pair: Pair, comparison: PairedComparison, p_adjusted: float, rule: Rule, num_tasks: int
) -> TaskVerdict:
    bound = drop_bound(comparison, alpha=rule.alpha)
    error = comparison.standard_error
    # Holm begins with alpha / m: this is what a drop has to overcome if no other task drops.
    level = rule.alpha / num_tasks
    detectable = detectable_difference(error, alpha=level) if error else None
    verdict = decide(
        comparison, p_adjusted, bound, rule, is_proof=pair.is_identical and _is_proof(pair)
    )
    remarks = list(pair.remarks)
    if verdict == UNDECIDED:
        remarks.append(_why_undecided(pair, comparison, bound, detectable, rule))
    return TaskVerdict(
        task=pair.task,
        comparison=comparison,
        p_adjusted=p_adjusted,
        bound=bound,
        detectable=detectable,
        verdict=verdict,
        remarks=tuple(remarks),
    )


def decide(
    comparison: PairedComparison,
    p_adjusted: float,
    bound: float | None,
    rule: Rule,
    *,
    is_proof: bool,
) -> str:
    """Returns `pass`, `fail` or `undecided`.

    Args:
        comparison: The candidate against the baseline.
        p_adjusted: The p value, adjusted for the number of tasks.
        bound: The largest drop that the data leave open; None if they leave any.
        rule: What is tolerated.
        is_proof: Whether identical answers show that nothing changed.
    """
    if p_adjusted < rule.alpha and -comparison.difference > rule.failing_drop:
        return FAIL
    if is_proof or (bound is not None and bound <= rule.passing_drop):
        return PASS
    return UNDECIDED


def _is_proof(pair: Pair) -> bool:
    """Whether identical answers show that nothing changed.

    They do if all questions were asked. After a part of them, another checkpoint may still answer
    the rest in another way; the same one, asked in the same way, does not.
    """
    return pair.is_whole or pair.is_same_identity


def _why_undecided(
    pair: Pair,
    comparison: PairedComparison,
    bound: float | None,
    detectable: float | None,
    rule: Rule,
) -> str:
    asked = f"{comparison.num_questions:,} questions"
    if bound is None:
        reason = f"its {asked} are about one image, which says nothing about others"
    else:
        reason = (
            f"its {asked} leave a drop of up to {100 * bound:.2f} points open "
            f"({100 * (1 - rule.alpha):g}% confidence), and {100 * rule.passing_drop:g} are allowed"
        )
    if detectable is not None:
        reason += f"; they show a drop of {100 * detectable:.2f} points with 80% power"
    elif bound is not None:
        reason += "; too few scores changed to tell which drop they would show"
    way = (
        "Ask more of them: raise `limit`, or leave it out."
        if not pair.is_whole
        else ("Allow a larger drop with max_drop=, or ask a benchmark with more questions.")
    )
    return f"{pair.task}: undecided, because {reason}. {way}"
