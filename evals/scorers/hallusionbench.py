"""HallusionBench: yes or no in an answer, a judge's verdict on it, and the figures over groups.

Sources: the reading of yes and no is open-compass/VLMEvalKit @ e8e78f05, `yorn.py`; judge and
figures are tianyi-lab/HallusionBench @ 744007c2, `utils.py`, whose prompt is in `prompts`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from importlib.resources import files

from evals.figures.metrics import mean
from evals.normalize import strip_punctuation
from evals.reading.replies import JudgeRequest

PROMPT = (files("evals.scorers") / "prompts" / "hallusionbench.txt").read_text(encoding="utf-8")
"""What the judge is asked, with the places of question, reference and prediction."""

_PERIOD = re.compile(r"(?<!\d)\.(?!\d)")
_WORDS = frozenset(["yes", "no"])
_MAX_TOKENS = 16  # as lmms-eval asks; officially there is no limit


def read_yes_no(text: str) -> str:
    """`yes` or `no` if only the one is a word of the answer, else `other`.

    >>> read_yes_no("Yes, it is."), read_yes_no("There is no line"), read_yes_no("yes-man")
    ('yes', 'no', 'yes')
    >>> read_yes_no("Yes and no"), read_yes_no("**No**"), read_yes_no("Yes: two"), read_yes_no("")
    ('other', 'other', 'other', 'other')
    """
    said = _WORDS.intersection(strip_punctuation(text.lower(), _PERIOD).split())
    return next(iter(said)) if len(said) == 1 else "other"


def read_verdict(reply: str) -> str:
    """`correct`, `incorrect` or `unclear`, as the official script finds it in a judge's reply.

    >>> read_verdict("Incorrect."), read_verdict("not correct"), read_verdict("right")
    ('incorrect', 'correct', 'unclear')
    """
    reply = reply.lower()
    return next((verdict for verdict in ("incorrect", "correct") if verdict in reply), "unclear")


def build_request(question: str, reference: str, answer: str) -> JudgeRequest:
    """The call that grades one answer; the reference tells what is right, in a sentence."""
    prompt = PROMPT.format(question=question, reference=reference, answer=answer)
    return JudgeRequest(prompt=prompt, temperature=1.0, max_tokens=_MAX_TOKENS)


def share_of_right_groups(answers: Iterable[tuple[Hashable, bool]]) -> float | None:
    """The share of groups all of whose answers are right; None if there are none.

    `answers` has the group of each answer, and whether it is right.

    >>> share_of_right_groups([("a", True), ("a", False), ("b", True)])
    0.5
    """
    groups: defaultdict[Hashable, list[bool]] = defaultdict(list)
    for group, is_right in answers:
        groups[group].append(is_right)
    return mean(map(all, groups.values()))
