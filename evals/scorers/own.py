"""What own questions can be scored by, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from evals.records import Judgment
from evals.scorers.anls import score_anls
from evals.scorers.choice import parse_choice
from evals.scorers.exact import score_exact
from evals.scorers.number import last_number
from evals.scorers.relaxed import score_relaxed
from evals.scorers.vqa_accuracy import score_vqa


class OwnScorer(NamedTuple):
    """A way to score own questions.

    Attributes:
        judge: What an answer is worth, given the answer, its target and the options by name; None
            where nothing is scored, a judge model does it, or POPE's rule.
        metric: What the mean of the scores is called.
        options: The names of the options that it takes.
    """

    judge: Callable[..., Judgment] | None
    metric: str = "accuracy"
    options: tuple[str, ...] = ()


def _exact(text: str, target: str, *, ignore_case: bool) -> Judgment:
    answer = text.strip()
    return score_exact(_cased(answer, ignore_case), _cased(target, ignore_case)), answer


def _contains(text: str, target: str, *, ignore_case: bool) -> Judgment:
    answer = text.strip()
    return float(_cased(target, ignore_case) in _cased(answer, ignore_case)), answer


def _cased(text: str, ignore_case: bool) -> str:
    return text.casefold() if ignore_case else text


def _regex(text: str, target: str, *, ignore_case: bool) -> Judgment:
    answer = text.strip()
    found = re.search(target, answer, re.IGNORECASE if ignore_case else 0)
    return float(found is not None), answer


def _numeric(text: str, target: Decimal, *, tolerance: float) -> Judgment:
    number = last_number(text)
    if number is None:
        return 0.0, None
    return float(abs(number - target) <= Decimal(str(tolerance))), str(number)


def _relaxed(text: str, target: str) -> Judgment:
    answer = text.strip()
    return score_relaxed(answer, target), answer


def _choice(text: str, target: str) -> Judgment:
    letter = parse_choice(text)
    return float(letter == target), letter


SCORERS: Mapping[str, OwnScorer] = {
    "none": OwnScorer(None),
    "exact": OwnScorer(_exact, options=("ignore_case",)),
    "contains": OwnScorer(_contains, options=("ignore_case",)),
    "regex": OwnScorer(_regex, options=("ignore_case",)),
    "numeric": OwnScorer(_numeric, options=("tolerance",)),
    "vqa_accuracy": OwnScorer(score_vqa, "vqa_accuracy"),
    "anls": OwnScorer(score_anls, "anls"),
    "relaxed": OwnScorer(_relaxed, "relaxed_accuracy"),
    "yes_no": OwnScorer(None),
    "choice": OwnScorer(_choice),
    "judge": OwnScorer(None, "score", options=("judge", "replies")),
}
"""What own questions may be scored by, as `scorer=NAME`."""


def check_options(scorer: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a scorer takes, of those that are given; those left alone are falsy.

    Raises:
        ValueError: another option is given.
    """
    for name, value in given.items():
        if value and name not in SCORERS[scorer].options:
            takers = [other for other in SCORERS if name in SCORERS[other].options]
            raise ValueError(
                f"`{name}` is an option of {' and '.join(takers)}, but `scorer` is {scorer}. Leave "
                "it out, or set another scorer."
            )
    return {name: given[name] for name in SCORERS[scorer].options}
