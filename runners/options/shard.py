"""One of several parts of a run, as `runner.shard` names it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SHARD = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of several parts of a run, which other machines may answer at the same time.

    Attributes:
        index: Which one, from 1.
        count: How many there are.
    """

    index: int
    count: int

    @property
    def option(self) -> str:
        """The part as `runner.shard` names it."""
        return f"{self.index}/{self.count}"

    @property
    def suffix(self) -> str:
        """What the name of a run ends with when it is this part only."""
        return f"shard-{self.index}-of-{self.count}"


def read_shard(text: object) -> Shard | None:
    """Returns the part of a run that `runner.shard` names; None for the whole run.

    >>> read_shard("2/8").suffix
    'shard-2-of-8'

    Raises:
        ValueError: it names none.
    """
    if text is None:
        return None
    match = _SHARD.fullmatch(str(text))
    index, count = (int(number) for number in match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise ValueError(
            f"`runner.shard` must be a part and their number, from 1/8 to 8/8, but is {text!r}. "
            "Leave it out for the whole run."
        )
    return Shard(index=index, count=count)
