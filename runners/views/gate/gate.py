"""The verdict: does the candidate pass, fail, or can these questions not tell?

A task fails if the candidate's score dropped and chance does not explain it. It passes if nothing
changed, or if a drop that matters is ruled out. Otherwise it is undecided, which is no pass: too
few questions prove nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.figures.paired_tests import PairedComparison, detectable_difference, drop_bound, holm
from runners.views.gate.pairing import Pair

PASS, FAIL, UNDECIDED = "pass", "fail", "undecided"
_MARGIN = 0.03
"""What a drop must surely be below to pass, where no tolerated drop is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is tolerated.

    Attributes:
        alpha: The chance of a false alarm over all tasks together.
        max_drop: The drop that is tolerated; None for none that is significant.
    """

    alpha: float
    max_drop: float | None

    @property
    def failing_drop(self) -> float:
        """A significant drop fails if it is larger than this."""
        return self.max_drop or 0.0

    @property
    def passing_drop(self) -> float:
        """A task passes if its drop is surely no larger than this."""
        return _MARGIN if self.max_drop is None else self.max_drop


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskVerdict:
    """What is found about one task.

    Attributes:
        task: The task's name.
        comparison: The candidate against the baseline.
        p_adjusted: The p value, adjusted for the number of tasks.
        detectable: The smallest drop that would be found with 80% power; None if too little
            changed to tell.
        verdict: `pass`, `fail` or `undecided`.
        remarks: What a reader of the figures has to know.
    """

    task: str
    comparison: PairedComparison
    p_adjusted: float
    detectable: float | None
    verdict: str
    remarks: tuple[str, ...]


def judge(pairs: Sequence[Pair], rule: Rule) -> list[TaskVerdict]:
    """Returns the verdict on each task.

    Args:
        pairs: The tasks, one family of tests.
        rule: What is tolerated.
    """
    adjusted = holm([pair.comparison.p for pair in pairs])
    return [
        _judge(pair, p_adjusted, rule, num_tasks=len(pairs))
        for pair, p_adjusted in zip(pairs, adjusted, strict=True)
    ]


def overall(verdicts: Sequence[TaskVerdict]) -> str:
    """Returns the verdict on the candidate: the worst of its tasks."""
    found = {verdict.verdict for verdict in verdicts}
    return next((verdict for verdict in (FAIL, UNDECIDED) if verdict in found), PASS)


def _judge(pair: Pair, p_adjusted: float, rule: Rule, *, num_tasks: int) -> TaskVerdict:
    comparison = pair.comparison
    # The largest drop that the data leave open; None if they leave any.
    bound = drop_bound(comparison, alpha=rule.alpha)
    detectable = None
    if comparison.standard_error:
        # Holm begins with alpha / m: this is what a drop has to overcome if no other task drops.
        level = rule.alpha / num_tasks
        detectable = detectable_difference(comparison.standard_error, alpha=level)
    remarks = pair.remarks
    if p_adjusted < rule.alpha and -comparison.difference > rule.failing_drop:
        verdict = FAIL
    elif pair.is_unchanged or (bound is not None and bound <= rule.passing_drop):
        verdict = PASS
    else:
        verdict = UNDECIDED
        reason = _why_undecided(comparison, bound, detectable, rule)
        way = "Allow a larger drop with max_drop=, or ask a benchmark with more questions."
        if not pair.is_whole:
            way = "Ask more of them: raise `limit`, or leave it out."
        remarks = (*remarks, f"{pair.task}: undecided, because {reason}. {way}")
    return TaskVerdict(
        task=pair.task,
        comparison=comparison,
        p_adjusted=p_adjusted,
        detectable=detectable,
        verdict=verdict,
        remarks=remarks,
    )


def _why_undecided(
    comparison: PairedComparison, bound: float | None, detectable: float | None, rule: Rule
) -> str:
    asked = f"its {comparison.num_questions:,} questions"
    if bound is None:
        return f"{asked} are about one image, which says nothing about others"
    power = "too few scores changed to tell which drop they would show"
    if detectable is not None:
        power = f"they show a drop of {100 * detectable:.2f} points with 80% power"
    return (
        f"{asked} leave a drop of up to {100 * bound:.2f} points open "
        f"({100 * (1 - rule.alpha):g}% confidence), and {100 * rule.passing_drop:g} are allowed; "
        f"{power}"
    )
