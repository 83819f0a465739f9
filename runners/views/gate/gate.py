"""The verdict: does the candidate pass, fail, or can these questions not tell?

A task fails if the candidate's score dropped and chance does not explain it. It passes if nothing
changed, if the score rose and chance does not explain it, or if a drop that matters is ruled out.
Otherwise it is undecided, which is no pass: too few questions prove nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.figures.paired_tests import PairedComparison, detectable_difference, drop_bound, holm
from runners.options.regress import RegressConfig
from runners.storage.stored import StoredRun
from runners.views.gate.pairing import Pair

PASS, FAIL, UNDECIDED = "pass", "fail", "undecided"
MARGIN = 0.03
"""What a drop must surely be below to pass, where no tolerated drop is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskVerdict:
    """What is found about one task.

    Attributes:
        pair: The task of both runs.
        p_adjusted: The p value, adjusted for the number of tasks.
        detectable: The smallest drop that would be found with 80% power; None if the images are
            too few for any.
        verdict: `pass`, `fail` or `undecided`.
        remarks: What a reader of the figures has to know.
    """

    pair: Pair
    p_adjusted: float
    detectable: float | None
    verdict: str
    remarks: tuple[str, ...]

    @property
    def task(self) -> str:
        """The task's name."""
        return self.pair.task

    @property
    def comparison(self) -> PairedComparison:
        """The candidate against the baseline."""
        return self.pair.comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is found about the candidate.

    Attributes:
        baseline: The run that is held against.
        candidate: The run that is judged.
        settings: What was asked.
        tasks: One a task that was compared.
        uncompared: About tasks that were not.
    """

    baseline: StoredRun
    candidate: StoredRun
    settings: RegressConfig
    tasks: Sequence[TaskVerdict]
    uncompared: Sequence[str]

    @property
    def title(self) -> str:
        """Which run is held against which."""
        return f"{self.candidate.name} against {self.baseline.name}"

    @property
    def overall(self) -> str:
        """The worst of the tasks' verdicts."""
        found = {task.verdict for task in self.tasks}
        return next((verdict for verdict in (FAIL, UNDECIDED) if verdict in found), PASS)

    @property
    def remarks(self) -> list[str]:
        """All that a reader of the figures has to know."""
        return [*(remark for task in self.tasks for remark in task.remarks), *self.uncompared]


def judge(pairs: Sequence[Pair], settings: RegressConfig) -> list[TaskVerdict]:
    """Returns the verdict on each task; together they are one family of tests."""
    adjusted = holm([pair.comparison.p for pair in pairs])
    # Holm begins with alpha / m: this is what a drop has to overcome if no other task drops.
    level = settings.alpha / len(pairs)
    return [
        _judge(pair, p_adjusted, settings, level)
        for pair, p_adjusted in zip(pairs, adjusted, strict=True)
    ]


def _judge(pair: Pair, p_adjusted: float, settings: RegressConfig, level: float) -> TaskVerdict:
    found, alpha = pair.comparison, settings.alpha
    bound = drop_bound(found, alpha=alpha)  # the largest drop that the data leave open
    allowed = MARGIN if settings.max_drop is None else settings.max_drop
    detectable = detectable_difference(found, alpha=level)
    remarks = pair.remarks
    is_significant = p_adjusted < alpha
    is_gain = is_significant and found.difference > 0
    # A significant drop fails, be it surely within the margin. A significant gain passes: the same
    # test rules out any drop, where the bound, which supposes less, may leave one open.
    if is_significant and -found.difference > (settings.max_drop or 0.0):
        verdict = FAIL
    elif pair.is_unchanged or is_gain or (bound is not None and bound <= allowed):
        verdict = PASS
        if pair.is_unchanged:
            remarks = (*remarks, f"{pair.task}: no answer differs, as they were compared.")
    else:
        verdict = UNDECIDED
        reason = _why_undecided(found, bound, allowed, detectable, alpha)
        way = "Allow a larger drop with max_drop=, or ask a benchmark with more questions."
        if not pair.is_answered:
            way = "First have the questions answered that have no answer."
        elif pair.is_limited:
            way = "Ask more of them: raise `limit`, or leave it out."
        elif not pair.is_whole:
            way = "Ask the rest of them too, or join the shards that did."
        remarks = (*remarks, f"{pair.task}: undecided, because {reason}. {way}")
    return TaskVerdict(
        pair=pair,
        p_adjusted=p_adjusted,
        detectable=detectable,
        verdict=verdict,
        remarks=remarks,
    )


def _why_undecided(
    found: PairedComparison,
    bound: float | None,
    allowed: float,
    detectable: float | None,
    alpha: float,
) -> str:
    asked = f"its {found.num_questions:,} questions"
    if bound is None:
        return f"{asked} are about one image, which says nothing about others"
    if found.num_clusters < found.num_questions:
        asked += f" in {found.num_clusters:,} groups (by image)"
    power = "they are too few to show any drop with 80% power"
    if detectable is not None:
        power = f"they show a drop of {100 * detectable:.2f} points with 80% power"
    return (
        f"{asked} leave a drop of up to {100 * bound:.2f} points open ({100 * (1 - alpha):g}% "
        f"confidence), and the most allowed is {100 * allowed:g}; {power}"
    )
