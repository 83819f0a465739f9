"""Numbers in free answers, exactly as they are written."""

from __future__ import annotations

import re
from decimal import Decimal

_NUMERALS = r"\d¼-¾\u2150-\u218f\u2460-\u249b"  # also fractions, and numbers in circles
_NUMBER = r"""
    (?:(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)
    (?:[eE][-+]?[0-9]{1,3})?
"""
_MARKS = r"(?:[*_]|[A-Z]{0,3}\\?[$£¥\u20a0-\u20c0])*"  # of Markdown, and signs of currencies

_SIGNED = re.compile(rf"[-+]? {_NUMBER}", re.VERBOSE)
_WORD = re.compile(
    r"""
    (?: [^\s=<>≤≥≈~±|;!?&"“”„«»`()\[\],:'‘’\u3000-\ufeff，：；！？（）＝]  # no CJK
      | (?<=\d)[,:'’，：](?=\d)
      | (?<=\d)[ \xa0\u2009\u202f](?=\d{3}(?!\d))  # between thousands
    )+
    """,
    re.VERBOSE,
)
_NUMBER_WORD = re.compile(
    rf"""
    (?:\\boxed\{{)? {_MARKS} (?:([-+]) {_MARKS})? ({_NUMBER})
    (?![¹²³\u2070-\u209f]) [^{_NUMERALS}]*  # a power is another number; a unit may follow
    """,
    re.VERBOSE,
)


def last_number(text: str) -> Decimal | None:
    """The number that the last word with a digit is; None if it is none, or there is no such word.

    The word must begin with the number, and have no further digit behind it. A sign, the sign of a
    currency and marks of Markdown may precede it. Commas between thousands, a leading point and
    powers of ten are read.

    >>> last_number("It is 1,200 m."), last_number("3 of 4: -1.5e2 %"), last_number("no")
    (Decimal('1200'), Decimal('-1.5E+2'), None)
    >>> last_number("10-12"), last_number("1,5"), last_number("No.5"), last_number("v1.2.3")
    (None, None, None, None)
    """
    words = _WORD.findall(text.replace("\N{MINUS SIGN}", "-"))
    last = next((word for word in reversed(words) if re.search(f"[{_NUMERALS}]", word)), "")
    found = _NUMBER_WORD.fullmatch(last)
    return _exact((found[1] or "") + found[2]) if found else None


def whole_number(text: str) -> Decimal | None:
    """The number that a text is, and nothing beside it; None if it is none.

    >>> whole_number("-1,200.5"), whole_number("12 m"), whole_number("10-12")
    (Decimal('-1200.5'), None, None)
    """
    return _exact(text) if _SIGNED.fullmatch(text) else None


def _exact(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))
