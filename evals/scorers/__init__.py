"""Judgments of one answer: pure functions, one metric a module; by name those for own questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from evals.records import Judgment
from evals.scorers.choice import parse_choice
from evals.scorers.exact import score_exact
from evals.scorers.vqa_accuracy import score_vqa
from evals.scorers.yes_no import parse_pope


def _judge_exact(text: str, target: str) -> Judgment:
    return score_exact(text.strip(), target), text.strip()


def _judge_yes_no(text: str, target: str) -> Judgment:
    answer = parse_pope(text)
    return score_exact(answer, target), answer


def _judge_choice(text: str, target: str) -> Judgment:
    letter = parse_choice(text)
    return float(letter == target), letter


SCORERS: Mapping[str, Callable[[str, Any], Judgment] | None] = {
    "none": None,
    "exact": _judge_exact,
    "vqa_accuracy": score_vqa,
    "yes_no": _judge_yes_no,
    "choice": _judge_choice,
}
"""What own questions may be scored by, as `scorer=NAME`: given an answer and its target."""
