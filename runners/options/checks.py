"""Checks of single options; each message names the option and says what it must be.

None leaves an option open and passes; which options may be None is a matter of their types.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from runners.options.spellings import near

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def check_fields(options: DataclassInstance, prefix: str = "") -> None:
    """Checks all options of a schema whose fields say what they may be.

    `prefix` is what their names begin with on the command line.

    Raises:
        ValueError: one is not.
    """
    for each in fields(options):
        name, value = f"{prefix}{each.name}", getattr(options, each.name)
        if "choices" in each.metadata:
            check_choice(name, value, each.metadata["choices"])
        if "least" in each.metadata:
            check_at_least(name, value, each.metadata["least"], each.metadata.get("remedy", ""))


def check_choice(name: str, value: str | None, known: Sequence[str]) -> None:
    """Checks that an option is one of the known words.

    Raises:
        ValueError: it is not.
    """
    if value is not None and value not in known:
        meant = near(value, known)
        asked = f" Did you mean `{name}={meant}`?" if meant else ""
        raise ValueError(f"`{name}` must be one of {', '.join(known)}, but is {value!r}.{asked}")


def check_at_least(name: str, value: float | None, least: float, remedy: str = "") -> None:
    """Checks that a number is not below another.

    Raises:
        ValueError: it is, or is NaN; the message ends with the remedy.
    """
    if value is not None and not value >= least:  # NaN is neither smaller nor larger
        raise ValueError(f"`{name}` must be {least} or larger, but is {value}. {remedy}".rstrip())


def check_positive(name: str, value: float) -> None:
    """Checks that a number is larger than 0 and finite.

    Raises:
        ValueError: it is not.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be larger than 0 and finite, but is {value}.")
