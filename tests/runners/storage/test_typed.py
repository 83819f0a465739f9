from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest

from runners.storage.typed import read_record


class Color(str, Enum):
    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Inner:
    text: str
    share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Outer:
    number: int
    is_odd: bool = False
    color: Color = Color.RED
    inner: Inner | None = None
    by_name: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    parts: Sequence[str] = ()
    ends: tuple[float, float] | None = None
    anything: Mapping[str, Any] = field(default_factory=dict)


def test_record_is_read_with_all_that_it_holds() -> None:
    content = {
        "number": 3,
        "is_odd": True,
        "color": "red",
        "inner": {"text": "a", "share": 1, "foreign": 2},
        "by_name": {"a": {"b": None, "c": 2}},
        "parts": ["x"],
        "ends": [0, 1.5],
        "anything": {"a": [1, {}]},
        "foreign": 1,
    }
    assert read_record(Outer, content) == Outer(
        number=3,
        is_odd=True,
        inner=Inner(text="a", share=1),
        by_name={"a": {"b": None, "c": 2}},
        parts=["x"],
        ends=(0, 1.5),
        anything={"a": [1, {}]},
    )


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([], "it is no object"),
        ({}, "`number` is missing"),
        ({"number": True}, "`number` is of another type"),
        ({"number": 1.0}, "`number` is of another type"),
        ({"number": 1, "is_odd": 1}, "`is_odd` is of another type"),
        ({"number": 1, "color": []}, "Color"),
        ({"number": 1, "inner": []}, "`inner` is no object"),
        ({"number": 1, "inner": {}}, r"`inner\.text` is missing"),
        (
            {"number": 1, "inner": {"text": "", "share": float("nan")}},
            r"`inner\.share` is no number",
        ),
        ({"number": 1, "by_name": {"a": {"b": 10**400}}}, r"`by_name\.a\.b` is no number"),
        ({"number": 1, "by_name": {"a": 1}}, r"`by_name\.a` is of another type"),
        ({"number": 1, "parts": "text"}, "`parts` is of another type"),
        ({"number": 1, "parts": [1]}, "`parts` is of another type"),
        ({"number": 1, "ends": [0.5]}, "`ends` is of another type"),
    ],
)
def test_value_of_another_type_is_refused_by_name(content: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_record(Outer, content)
