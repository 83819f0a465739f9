"""Yes or no as read by the scripts of POPE and MME, and the figures over such answers.

Sources: POPE is haotian-liu/LLaVA @ c121f043, `eval_pope.py`, as in RUCAIBox/POPE @ e3e39262; MME
is `eval_tool/calculation.py` in BradyFU/Awesome-Multimodal-Large-Language-Models @ dd295090.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from evals.records import Prediction, Sample, Score, score_of

_NEGATIONS = frozenset(["No", "no", "not"])


def parse_pope(text: str) -> str:
    """`no` if a negation stands in the first sentence, else `yes`, whatever the answer is.

    >>> parse_pope("No, there is none."), parse_pope("There is not"), parse_pope("NO")
    ('no', 'no', 'yes')
    >>> parse_pope("Yes. But no."), parse_pope("")
    ('yes', 'yes')
    """
    words = text.split(".", maxsplit=1)[0].replace(",", "").split(" ")
    return "yes" if _NEGATIONS.isdisjoint(words) else "no"


def says_yes_or_no(text: str, answer: str) -> bool:
    """Whether what `parse_pope` read stands in the text: `yes` is also what it reads in anything.

    >>> says_yes_or_no("Yes.", "yes"), says_yes_or_no("There is not", "no")
    (True, True)
    >>> says_yes_or_no("NO", "yes"), says_yes_or_no("", "yes")
    (False, False)
    """
    return answer == "no" or "yes" in text.lower()


class YesNo(NamedTuple):
    """The label of a question, and whether its answer was read as yes for want of a no."""

    label: str
    is_unparsed: bool


def judge_yes_no(
    questions: Mapping[str, Sample], predictions: Mapping[str, Prediction]
) -> list[Score]:
    """One score a question, by POPE's reading of its answer; the details are a `YesNo`.

    As in the official script, any target but `no` is a yes.
    """
    scores = []
    for key, question in questions.items():
        label, judgment, is_unparsed = "no" if question.target == "no" else "yes", None, False
        if key in predictions:
            text = predictions[key].text
            answer = parse_pope(text)
            judgment = (float(answer == label), answer)
            is_unparsed = not says_yes_or_no(text, answer)
        scores.append(score_of(question, judgment, YesNo(label, is_unparsed)))
    return scores


def parse_mme(text: str) -> str:
    """`yes`, `no` or `other`, of which the first four characters decide.

    >>> parse_mme("Yes, it is"), parse_mme("None"), parse_mme("The yes"), parse_mme("I do not")
    ('yes', 'no', 'other', 'other')
    """
    head = text.lower()[:4]
    if "yes" in head:  # first, as officially: "no" stands in no head that holds "yes"
        return "yes"
    return "no" if "no" in head else "other"


def binary_figures(pairs: Iterable[tuple[str, str]]) -> dict[str, float | int | None]:
    """Accuracy, precision, recall, F1 and share of `yes` over answers and labels; positive is yes.

    Any answer but `yes` is no, and any label but `no` is yes. A figure whose denominator is 0 is
    None; the official script stops there.

    >>> binary_figures([("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "no")])["f1"]
    0.6666666666666666
    >>> binary_figures([("no", "yes")])["precision"] is None
    True
    """
    outcomes = [(answer == "yes", label != "no") for answer, label in pairs]
    total = len(outcomes)
    num_true = outcomes.count((True, True))
    num_yes = sum(said for said, _ in outcomes)
    precision = _ratio(num_true, num_yes)
    recall = _ratio(num_true, sum(is_so for _, is_so in outcomes))
    f1 = None
    if precision is not None and recall is not None:
        f1 = _ratio(2 * precision * recall, precision + recall)
    return {
        "accuracy": _ratio(num_true + outcomes.count((False, False)), total),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "yes_ratio": _ratio(num_yes, total),
        "num_questions": total,
    }


def count_missing_as_wrong(answer: str | None, label: str) -> tuple[str, str]:
    """Answer and label, where a missing answer is the wrong one.

    >>> count_missing_as_wrong(None, "no"), count_missing_as_wrong("no", "no")
    (('yes', 'no'), ('no', 'no'))
    """
    if answer is None:
        answer = "yes" if label == "no" else "no"
    return answer, label


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
