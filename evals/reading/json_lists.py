"""Large JSON lists, read entry by entry: the file's text is held once, its objects never all."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evals.errors import DataError
from evals.reading.files import find_file, read_bytes

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def iterate_json_list(path: Path, field: str, origin: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a list in the object that a JSON file holds, each with its place for messages.

    Args:
        path: The file.
        field: The name of the list in the outermost object.
        origin: Where the file is to be had, for messages.

    Raises:
        DataError: the file is missing, no UTF-8 or no JSON, or has no such list or an empty one.
    """
    path = find_file(path, origin)
    try:
        text = read_bytes(path).removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}. Fetch the file again.") from error
    number, place = -1, f"{path}: {field}"
    try:
        for number, entry in enumerate(_iterate(text, _find_list(text, field))):
            yield f"{place}[{number}]", entry
    except _NoListError as error:
        raise DataError(
            f"{path} must be an object with the list `{field}`, but {error}. Fetch the file again."
        ) from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno} is not JSON: {error.msg} (column {error.colno}). "
            "Fetch the file again."
        ) from error
    except RecursionError as error:
        raise DataError(f"{path} is nested too deep to be read. Fetch the file again.") from error
    if number < 0:
        raise DataError(f"{path}: `{field}` is empty. Fetch the file again.")


class _NoListError(Exception):
    """The outermost value is no object with the wanted list."""


def _find_list(text: str, field: str) -> int:
    """The position after the opening bracket of the list."""
    position = _skip(text, 0)
    if text[position : position + 1] != "{":
        json.loads(text)  # says what is wrong if it is no JSON at all
        raise _NoListError("is none")
    position = _skip(text, position + 1)
    while text[position : position + 1] == '"':
        name, position = _DECODER.raw_decode(text, position)
        position = _skip(text, _expect(text, _skip(text, position), ":"))
        if name == field:
            if text[position : position + 1] != "[":
                raise _NoListError(f"`{field}` is none")
            return position + 1
        _, position = _DECODER.raw_decode(text, position)
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
    if text[position : position + 1] != "}":
        raise json.JSONDecodeError(
            "Expecting property name enclosed in double quotes", text, position
        )
    raise _NoListError(f"lacks `{field}`")


def _iterate(text: str, position: int) -> Iterator[Any]:
    position = _skip(text, position)
    if text[position : position + 1] == "]":
        return
    while True:
        entry, position = _DECODER.raw_decode(text, position)
        yield entry
        position = _skip(text, position)
        if text[position : position + 1] == "]":
            return
        position = _skip(text, _expect(text, position, ","))


def _expect(text: str, position: int, mark: str) -> int:
    if text[position : position + 1] != mark:
        raise json.JSONDecodeError(f"Expecting '{mark}' delimiter", text, position)
    return position + 1


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position
