"""Judged benchmarks: what the judge model is asked, how its reply is read, what comes out.

Sources: MM-Vet is yuweihao/MM-Vet @ acde843e, `mm-vet_evaluator.ipynb`; LLaVA-Bench is
haotian-liu/LLaVA @ c121f043, `eval_gpt_review_bench.py`, `summarize_gpt_review.py` and
`llava/eval/table/rule.json`. The prompts are theirs, character by character, in `prompts`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from statistics import fmean, pstdev

from evals.reading.replies import JudgeRequest

UNREADABLE_PAIR = (-1.0, -1.0)
"""The scores of a review that the official script cannot read."""

_MAX_POINTS = 10.0
_MAX_GRADE = 3  # tokens: a digit, a point and a digit

_RETRY_REQUEST = "Predict the correctness of the answer (digit): "

_PROMPTS = files("evals.scorers") / "prompts"

MMVET_PROMPT = (_PROMPTS / "mmvet.txt").read_text(encoding="utf-8")
"""What precedes the row that the judge of MM-Vet completes."""

OWN_PROMPT = (_PROMPTS / "own_questions.txt").read_text(encoding="utf-8")
"""What the judge of own questions is asked, with the places of question, target and answer."""

LLAVABENCH_SYSTEM = (
    "You are a helpful and precise assistant for checking the quality of the answer."
)
"""The system message for the judge of LLaVA-Bench."""

LLAVABENCH_ROLE = "Assistant"
"""What the two answerers are called in all categories."""

LLAVABENCH_RULE = (_PROMPTS / "llavabench.txt").read_text(encoding="utf-8")
"""What the judge of LLaVA-Bench is asked to do, the same in all categories."""


def build_mmvet_request(question: str, target: str, answer: str, attempt: int = 0) -> JudgeRequest:
    """The call that grades one answer of MM-Vet; `attempt` replies to it could not be read before.

    The target is the reference, alternatives joined by `<OR>` and parts by `<AND>`.
    """
    # As in the examples of the prompt, whose marks stand between spaces.
    target = target.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    row = " | ".join([question, target, answer, ""])
    prompt = f"{MMVET_PROMPT}\n{row}"
    if attempt:
        prompt += f"\n{_RETRY_REQUEST}"
    # Cold, the judge repeats itself.
    return JudgeRequest(prompt=prompt, temperature=0.5 * attempt, max_tokens=_MAX_GRADE)


def build_own_request(question: str, target: str, answer: str, attempt: int = 0) -> JudgeRequest:
    """The call that grades an answer to an own question; `attempt` is as for MM-Vet."""
    prompt = OWN_PROMPT.format(question=question, target=target, answer=answer)
    return JudgeRequest(prompt=prompt, temperature=0.5 * attempt, max_tokens=_MAX_GRADE)


def parse_grade(reply: str | None) -> float | None:
    r"""The grade in a judge's reply to MM-Vet or to own questions, None if there is none.

    >>> parse_grade("0.5 because"), parse_grade("1\n"), parse_grade("0.5,"), parse_grade("2")
    (0.5, 1.0, None, None)
    """
    try:
        grade = float((reply or "").split(" ", maxsplit=1)[0].strip())
    except ValueError:
        return None
    return grade if 0 <= grade <= 1 else None


def deviation_of_runs(runs: Sequence[Sequence[float]]) -> float:
    """The population deviation of the mean grade between the judge's runs over the same answers.

    `runs` has the grades of each question, one a run.

    Raises:
        ValueError: there are no grades, or not equally many.

    >>> deviation_of_runs([[1.0, 0.0], [1.0, 1.0]])
    0.25
    """
    if not runs or not runs[0] or any(len(grades) != len(runs[0]) for grades in runs):
        raise ValueError("`runs` must hold equally many grades for each question, at least one.")
    return pstdev(fmean(grades) for grades in zip(*runs, strict=True))


def build_llavabench_request(
    context: str, question: str, reference: str, answer: str
) -> JudgeRequest:
    """The call that compares an answer of LLaVA-Bench with that of the text-only reference model.

    The context is the caption that stands for the image.
    """
    role = LLAVABENCH_ROLE
    prompt = (
        f"[Context]\n{context}\n\n[Question]\n{question}\n\n"
        f"[{role} 1]\n{reference}\n\n[End of {role} 1]\n\n"
        f"[{role} 2]\n{answer}\n\n[End of {role} 2]\n\n[System]\n{LLAVABENCH_RULE}\n\n"
    )
    return JudgeRequest(prompt=prompt, system=LLAVABENCH_SYSTEM, temperature=0.2, max_tokens=1024)


def parse_score(reply: str) -> tuple[float, float]:
    r"""The scores of reference and model in a review; (-1, -1) if they cannot be read.

    >>> parse_score("8 9\nBoth are fine."), parse_score("8.5 7"), parse_score("8, 9")
    ((8.0, 9.0), (8.5, 7.0), (-1.0, -1.0))
    """
    parts = reply.split("\n", maxsplit=1)[0].replace(",", " ").split(" ")
    if len(parts) != 2:
        return UNREADABLE_PAIR
    try:
        return float(parts[0]), float(parts[1])
    except ValueError:
        return UNREADABLE_PAIR


def read_points(review: str | None) -> tuple[float, float] | None:
    r"""The points of reference and model in a review, 0 to 10; None if they are not both there.

    Where the official script reads a pair, it is that pair. It also reads what the script misses
    for a space more or less: officially such a review counts -1 to -1, which is a tie.

    >>> read_points("8 9\nBoth are fine."), read_points("8, 6"), read_points("80 60")
    ((8.0, 9.0), (8.0, 6.0), None)
    """
    review = review or ""
    pair = parse_score(review)
    if pair == UNREADABLE_PAIR:
        pair = parse_score(" ".join(review.split("\n", maxsplit=1)[0].replace(",", " ").split()))
    return pair if all(0 <= points <= _MAX_POINTS for points in pair) else None


def compare_to_reference(pairs: Sequence[tuple[float, float]]) -> Mapping[str, float | None]:
    """The model's mean score as a share of the reference's, and both means.

    `pairs` are the scores of reference and model, 1 to 10. The means are rounded to three decimals
    first, as in the official script. A figure that is no number, because a reply held none such, is
    None.

    Raises:
        ValueError: there are no pairs.

    >>> compare_to_reference([(8.0, 6.0), (8.0, 8.0)])
    {'score': 0.875, 'reference_mean': 8.0, 'model_mean': 7.0}
    """
    if not pairs:
        raise ValueError("`pairs` must hold at least one pair of scores, but is empty.")
    reference, model = (
        round(points, 3) if math.isfinite(points := fmean(pair[side] for pair in pairs)) else None
        for side in (0, 1)
    )
    score = model / reference if reference and model is not None else None
    return {"score": score, "reference_mean": reference, "model_mean": model}
