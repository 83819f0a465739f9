"""JSON values as records: every field must be of the type that its record declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from evals.records import LARGEST_FIGURE

Record = TypeVar("Record")


def read_record(kind: type[Record], content: object, name: str = "") -> Record:
    """Returns the record in a JSON object; what its type has no field for is left out.

    Args:
        kind: A dataclass whose fields are plain values, mappings with texts as keys, sequences,
            enumerations, records, or one of these or None.
        content: The JSON value.
        name: The field that holds it, for messages; empty for the whole of a file.

    Raises:
        ValueError: a field is missing or of another type, or a number is beyond any scale.
    """
    if not isinstance(content, dict):
        raise ValueError(f"`{name}` is no object" if name else "it is no object")
    hints = get_type_hints(kind)
    values = {}
    for part in fields(kind):  # type: ignore[arg-type]
        full = f"{name}.{part.name}" if name else part.name
        if part.name in content:
            values[part.name] = _read(hints[part.name], content[part.name], full)
        elif part.default is MISSING and part.default_factory is MISSING:
            raise ValueError(f"`{full}` is missing")
    return kind(**values)


def _read(hint: Any, value: Any, name: str) -> Any:
    origin, inside = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is UnionType:
        kind, _ = sorted(inside, key=lambda each: each is NoneType)
        return None if value is None else _read(kind, value, name)
    if origin is None:
        return _read_plain(hint, value, name)
    if origin is Mapping and isinstance(value, dict):
        return {key: _read(inside[1], part, f"{name}.{key}") for key, part in value.items()}
    if origin is Sequence and isinstance(value, (list, tuple)):
        return [_read(inside[0], part, name) for part in value]
    if origin is tuple and isinstance(value, (list, tuple)) and len(value) == len(inside):
        return tuple(_read(kind, part, name) for kind, part in zip(inside, value, strict=True))
    raise ValueError(f"`{name}` is of another type")


def _read_plain(kind: type[Any], value: Any, name: str) -> Any:
    if is_dataclass(kind):
        return read_record(kind, value, name)
    if issubclass(kind, Enum):
        return kind(value)
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"`{name}` is of another type")
    if kind is float and not abs(value) < LARGEST_FIGURE:
        raise ValueError(f"`{name}` is no number, or beyond any scale")
    return value
