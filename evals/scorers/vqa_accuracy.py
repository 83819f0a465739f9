"""Soft accuracy against several annotators, as VQAv2, TextVQA and VizWiz use it.

Source: GT-Vision-Lab/VQA @ a013f004, `vqaEval.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evals.normalize import clean_whitespace, normalize_vqa


def score_matches(num_matches: int, num_annotators: int) -> float:
    """The soft accuracy of an answer that so many annotators gave, each told from the others.

    Raises:
        ValueError: there are no annotators.

    >>> [score_matches(matches, 10) for matches in range(6)]
    [0.0, 0.3, 0.6, 0.9, 1.0, 1.0]
    >>> score_matches(1, 1)
    0.0
    """
    if num_annotators < 1:
        raise ValueError(f"`num_annotators` must be at least 1, but is {num_annotators}.")
    thirds = (num_annotators - num_matches) * min(3, num_matches)
    thirds += num_matches * min(3, max(0, num_matches - 1))
    return thirds / (3 * num_annotators)  # one division of whole numbers: no rounding on the way


def score_soft_accuracy(answer: str, targets: Sequence[Mapping[str, Any]]) -> float:
    """The mean over the annotators of min(1, matches among the other annotators / 3).

    `targets` has one record an annotator, with the text to compare under `answer`. Who the others
    are is decided by comparing whole records: records that are equal in all their fields are all
    left out. In official files `answer_id` makes every record distinct.

    Raises:
        ValueError: there are no records.

    >>> records = [{"answer": "cat", "answer_id": n} for n in range(2)]
    >>> records += [{"answer": "dog", "answer_id": n} for n in range(2, 10)]
    >>> score_soft_accuracy("cat", records), score_soft_accuracy("dog", records)
    (0.6, 1.0)
    >>> score_soft_accuracy("cat", [{"answer": "cat"}, {"answer": "cat"}])
    0.0
    """
    if not targets:
        raise ValueError("`targets` must hold at least one record, but is empty.")
    matching = [target for target in targets if target["answer"] == answer]
    if not matching:
        return 0.0
    # A record that differs in its answer is no copy of a matching one: for it all matches count.
    thirds = (len(targets) - len(matching)) * min(3, len(matching))
    thirds += sum(min(3, sum(other != target for other in matching)) for target in matching)
    return thirds / (3 * len(targets))  # one division of whole numbers: no rounding on the way


def score_vqa(
    text: str,
    answers: Sequence[str],
    *,
    records: Sequence[Mapping[str, Any]] | None = None,
    always_normalize: bool = False,
) -> tuple[float, str]:
    """The soft accuracy of an answer, and the answer in the form in which it was compared.

    Args:
        text: The model's answer.
        answers: What each annotator says; at least one.
        records: Their records, in the same order, where ids do not tell them all apart.
        always_normalize: Whether to normalize even where all annotators agree.

    >>> score_vqa("Yes", ["yes"] * 10)
    (0.0, 'Yes')
    >>> score_vqa("Yes.", ["yes"] * 9 + ["no"])
    (1.0, 'yes')
    """
    # Few answers differ from each other, and to normalize is to clean first.
    distinct = {clean_whitespace(answer) for answer in set(answers)}
    if always_normalize or len(distinct) > 1:
        text, targets = normalize_vqa(text), list(map(normalize_vqa, answers))
    else:
        text, targets = clean_whitespace(text), list(distinct) * len(answers)
    if records is None:
        return score_matches(targets.count(text), len(targets)), text
    # Records are compared after normalization, which can make two of them equal.
    compared = [{**record, "answer": one} for record, one in zip(records, targets, strict=True)]
    return score_soft_accuracy(text, compared), text
