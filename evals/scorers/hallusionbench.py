"""HallusionBench: yes or no in an answer, a judge's verdict on it, and the figures over groups.

Sources: the reading of yes and no is open-compass/VLMEvalKit @ e8e78f05, `yorn.py`; judge and
figures are tianyi-lab/HallusionBench @ 744007c2, `utils.py`, whose prompt is in `prompts`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from importlib.resources import files
from typing import NamedTuple

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


class Place(NamedTuple):
    """Where a question stands; all but the last name it."""

    category: str
    subcategory: str
    set_id: str
    figure_id: str
    question_id: str
    visual_input: str

    @property
    def lacks_image(self) -> bool:
        """Whether an image is spoken of that is not shown, so that unclear is a right answer."""
        return (self.category, self.figure_id) == ("VS", "0")


Answer = tuple[Place, Sequence[bool]]
"""The place of a question, and whether its answer is right, by each run of the judge if one was
asked; nothing where there is no answer."""


def is_held_right(reply: str | None, place: Place) -> bool:
    """Whether an answer is right by a judge's reply; never if it gave none.

    >>> place = Place("VS", "map", set_id="1", figure_id="0", question_id="0", visual_input="0")
    >>> is_held_right("unclear", place), is_held_right("incorrect", place)
    (True, False)
    >>> is_held_right(None, place)
    False
    """
    if reply is None:
        return False
    verdict = read_verdict(reply)
    return verdict == "correct" or (verdict == "unclear" and place.lacks_image)


def right_shares(answers: Sequence[Answer]) -> dict[str, float | None]:
    """The shares of answers, figures and groups of questions that are right all through.

    A figure that lacks its image is none; a group is one question about all figures of a set. Of
    several runs of the judge each figure is the mean.
    """
    shown = ((place, rights) for place, rights in answers if not place.lacks_image)
    return {
        "aAcc": _group_share(enumerate(rights for _, rights in answers)),
        "fAcc": _group_share(((*place[:3], place.figure_id), rights) for place, rights in shown),
        "qAcc": _question_share(answers),
    }


def easy_and_hard(answers: Sequence[Answer]) -> dict[str, float | None]:
    """The shares of groups of questions about images as they are, and about edited ones."""
    return {
        "easy": _question_share(one for one in answers if one[0].visual_input != "2"),
        "hard": _question_share(one for one in answers if one[0].visual_input == "2"),
    }


def _question_share(answers: Iterable[Answer]) -> float | None:
    return _group_share(((*place[:3], place.question_id), rights) for place, rights in answers)


def _group_share(answers: Iterable[tuple[Hashable, Sequence[bool]]]) -> float | None:
    """The share of groups all of whose answers are right; None if there are none."""
    groups: defaultdict[Hashable, list[Sequence[bool]]] = defaultdict(list)
    for group, rights in answers:
        groups[group].append(rights)
    # An answer that is missing leaves no run in which all are right.
    return mean(mean(map(all, zip(*runs, strict=False))) or 0.0 for runs in groups.values())
