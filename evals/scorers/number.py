"""Numbers in free answers, exactly as they are written."""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = re.compile(
    r"""
    (?:(?<!\w)[-+])?                                      # no sign is what joins two numbers
    (?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)
    (?:[eE][-+]?[0-9]{1,3}(?![0-9]))?
    """,
    re.VERBOSE,
)


def last_number(text: str) -> Decimal | None:
    """The last number in a text; None if there is none.

    Commas between thousands, a leading point, signs and powers of ten are read.

    >>> last_number("It is 1,200 m."), last_number("3 of 4: -1.5e2 %"), last_number("no")
    (Decimal('1200'), Decimal('-1.5E+2'), None)
    >>> last_number("10-12"), last_number("1,5")
    (Decimal('12'), Decimal('5'))
    """
    found = _NUMBER.findall(text.replace("\N{MINUS SIGN}", "-"))
    return _exact(found[-1]) if found else None


def whole_number(text: str) -> Decimal | None:
    """The number that a text is, and nothing beside it; None if it is none.

    >>> whole_number("-1,200.5"), whole_number("12 m"), whole_number("10-12")
    (Decimal('-1200.5'), None, None)
    """
    return _exact(text) if _NUMBER.fullmatch(text) else None


def _exact(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))
