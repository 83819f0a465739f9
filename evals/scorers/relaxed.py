"""Relaxed accuracy, as ChartQA uses it: numbers may be a twentieth off.

Source: google-research/pix2struct @ 945f27e9, `metrics.py`.
"""

from __future__ import annotations

_TOLERANCE = 0.05


def score_relaxed(text: str, target: str, tolerance: float = _TOLERANCE) -> float:
    """1.0 if both are numbers and differ by no more than a share of the target, else 0.0.

    Where one is no number, or the target is 0, they must be the same text but for case.

    >>> [score_relaxed(text, "20") for text in ("21", "21.1", "20 bars", "2000%")]
    [1.0, 0.0, 0.0, 1.0]
    >>> score_relaxed("0.0", "0"), score_relaxed("YES", "yes"), score_relaxed("5", "5%")
    (0.0, 1.0, 0.0)
    """
    number, wanted = _number(text), _number(target)
    if number is None or not wanted:
        return float(text.lower() == target.lower())
    return float(abs(number - wanted) / abs(wanted) <= tolerance)


def _number(text: str) -> float | None:
    """The number that a text is, a percentage as a share; None if it is none.

    >>> _number("5%"), _number("1e3"), _number("12,345"), _number("5 %")
    (0.05, 1000.0, None, 0.05)
    """
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
