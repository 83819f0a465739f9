"""What a field of a JSON file may be: in words, for messages, and as a test of its value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.tiling import ASPECT_RATIOS_IN_WORDS, is_aspect_ratio

_LARGEST = 2**31 - 1
_MOST_LAYERS = 1000


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field may be: in words, and as a test of its value."""

    words: str
    holds: Callable[[Any], bool]

    def __or__(self, other: Rule) -> Rule:
        return Rule(
            f"{self.words} or {other.words}",
            lambda value: self.holds(value) or other.holds(value),
        )


def one_of(*values: object) -> Rule:
    """Returns the rule that a field is one of some values, of the same type."""
    words = ", ".join(value if isinstance(value, str) else json.dumps(value) for value in values)
    return Rule(
        f"one of {words}" if len(values) > 1 else words,
        lambda found: any(type(found) is type(value) and found == value for value in values),
    )


def whole(least: int = 1, most: int = _LARGEST) -> Rule:
    """Returns the rule that a field is a whole number within limits."""
    limits = f"from {least} to {most}" if most < _LARGEST else f">= {least}"
    return Rule(
        f"a whole number {limits}", lambda value: type(value) is int and least <= value <= most
    )


def matching(pattern: str, words: str) -> Rule:
    """Returns the rule that a field is text of a pattern, which words describe."""
    return Rule(words, lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value)))


def list_of(rule: Rule, least: int = 0, most: int = _LARGEST) -> Rule:
    """Returns the rule that a field is a list of what another rule says, in such a number."""
    return Rule(
        f"a list of {f'{least} times ' if least == most else ''}{rule.words}",
        lambda value: (
            isinstance(value, list) and least <= len(value) <= most and all(map(rule.holds, value))
        ),
    )


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a number and finite."""
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


FLAG = Rule("true or false", lambda value: isinstance(value, bool))
ANY_TEXT = Rule("text", lambda value: isinstance(value, str))
TEXT = Rule("text", lambda value: isinstance(value, str) and bool(value))
OBJECT = Rule("an object", lambda value: isinstance(value, dict))
NUMBER = Rule("a number", is_number)
POSITIVE = Rule("a positive number", lambda value: is_number(value) and value > 0)
DECIMAL = Rule(
    "a positive number written as a decimal, such as 1.2",
    lambda value: POSITIVE.holds(value) and (type(value) is float or value == 1),
)
EPSILON = Rule(
    "a positive number written as a decimal, such as 1e-05",
    lambda value: type(value) is float and POSITIVE.holds(value),
)
ASPECT_RATIO = Rule(f"one of {ASPECT_RATIOS_IN_WORDS}", is_aspect_ratio)
NULL = one_of(None)
OFF = one_of(False, None)
TOKEN_ID = whole(-_LARGEST)
PAIRS = list_of(list_of(whole(), 2, 2), 1)
NUM_LAYERS = whole(1, _MOST_LAYERS)
ACTIVATION = one_of(
    *("silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu")
)


def check_fields(
    fields: Mapping[str, Any], rules: Mapping[str, Rule], path: Path, prefix: str = ""
) -> None:
    """Raises CheckpointError if a field that a JSON object has is not what its name's rule says.

    `prefix` says where in the file the object is, `text_config.` for instance.
    """
    for name, rule in rules.items():
        if name in fields and not rule.holds(fields[name]):
            raise unknown_value(f"{prefix}{name}", rule.words, fields[name], path)


def unknown_value(name: str, words: str, value: object, path: Path) -> CheckpointError:
    """Returns the error for a field of a JSON file that is not what it must be."""
    return CheckpointError(
        f"`{name}` must be {words}, but is {value!r:.100} in {path}. If that is a mistake, correct "
        "it, or take the file that was saved with the checkpoint; if the model was trained so, it "
        "can only be evaluated with the code that trained it."
    )
