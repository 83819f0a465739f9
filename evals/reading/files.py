"""Files on disk: readers that say where a file breaks.

Every file named X is also found as X.gz. Whatever is wrong with a file ends in a `DataError` that
names the file, the place in it, what is wrong and the remedy.
"""

from __future__ import annotations

import codecs
import gc
import gzip
import json
import re
import zlib
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar, overload

from evals.errors import DataError, MissingFileError

T = TypeVar("T")

_ID_TYPES = (str, int)
_MAX_DIGITS = 4_000  # Python reads no longer number from a text
_GZIP_MARK = b"\x1f\x8b"
_SPACE = re.compile(r"[ \t\n\r]*")
TRAINING_HINT = (
    "Its entries have `conversations`, as LLaVA's training data do: a question is an object with "
    "`question_id`, `image` and `text` (what the human says, without <image>), and may have an "
    "`answer` (docs/own_questions.md)."
)
"""How questions are made of LLaVA's training data."""
_DECODER = json.JSONDecoder()


def find_file(path: str | Path, origin: str = "") -> Path:
    """The existing file at `path` or `path`.gz; `origin` says where it is to be had.

    Raises:
        MissingFileError: neither exists as a file.
    """
    found = find_optional(path)
    if found is None and Path(path).exists():
        kind = "a folder" if Path(path).is_dir() else "no regular file"
        raise MissingFileError(f"{path} is {kind}. Name a file.")
    if found is None:
        remedy = f"It is to be had from {origin}." if origin else "Check the path."
        raise MissingFileError(
            f"{path} does not exist, nor does {Path(path).name}.gz beside it. {remedy}"
        )
    return found


def find_optional(path: str | Path) -> Path | None:
    """The existing file at `path` or `path`.gz, or None."""
    path = Path(path)
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            return candidate
    return None


def find_all(paths: Iterable[str | Path]) -> list[Path]:
    """Those of the files that exist, each as itself or as its `.gz`."""
    return [found for path in paths if (found := find_optional(path))]


def read_bytes(path: Path) -> bytes:
    """The content of an existing file, decompressed if it is a gzip file, whatever its name.

    Raises:
        DataError: the file cannot be read or decompressed.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MARK) else content
    except PermissionError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. Give yourself the right to read it."
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch the file again.") from error


def read_json(path: str | Path, origin: str = "") -> Any:
    """The value in a JSON file.

    Raises:
        DataError: the file is missing, no UTF-8, no JSON, or an object in it repeats a name.
    """
    path = find_file(path, origin)
    with _faults_named(path), collection_paused():
        return json.loads(_read_utf8(path).decode(), object_pairs_hook=_unique_names)


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keeps the collector of cycles from visiting millions of new objects again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read_utf8(path: Path) -> bytes:
    """The content of an existing text file in UTF-8 without a mark; UTF-16 and UTF-32 are known.

    Raises:
        DataError: the file cannot be read, or is marked as UTF-16 or UTF-32 and is none.
    """
    content = read_bytes(path)
    encoding = json.detect_encoding(content)
    if encoding.startswith("utf-8"):
        return content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode(encoding).encode()
    except UnicodeDecodeError as error:
        if encoding not in ("utf-16", "utf-32"):  # guessed by zeros, which a torn file has too
            return content
        raise DataError(
            f"{path} begins as {encoding.upper()} text, but is none: {error}. Write it as UTF-8."
        ) from error


def marked_encoding(path: Path) -> str:
    """The name of the encoding that an existing file begins as, if it is UTF-16 or UTF-32."""
    encoding = json.detect_encoding(read_bytes(path)[:4])
    return "" if encoding.startswith("utf-8") else encoding[:6].upper()


def describe_json_error(error: Exception) -> str:
    """What is wrong with a text that is no JSON, without advice that is for programmers."""
    if isinstance(error, ValueError) and str(error).startswith("Exceeds the limit"):
        return "a number in it has thousands of digits"
    return str(error)


class _FaultError(Exception):
    """What is wrong with the content of a file, after its name."""


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    """Has what is wrong with a JSON file say where."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}. Fetch the file again.") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno} is not JSON: {error.msg} (column {error.colno}). "
            "Fetch the file again."
        ) from error
    except RecursionError as error:
        raise DataError(f"{path} is nested too deep to be read. Fetch the file again.") from error
    except ValueError as error:  # the only other one of the decoder
        raise DataError(
            f"{path} cannot be read: {describe_json_error(error)}. Fetch the file again."
        ) from error
    except _FaultError as error:
        raise DataError(f"{path} {error}") from error


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _FaultError(
                    f"holds {name!r} twice in one object. Every id must occur once; remove one."
                )
            seen.add(name)
    return mapping


def iterate_json_list(path: Path, field: str, origin: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of the list `field` in a JSON file's object, each with its place for messages.

    For large files: the text is held once, its objects never all.

    Raises:
        DataError: the file is missing, no UTF-8 or no JSON, or has no such list or an empty one.
    """
    path = find_file(path, origin)
    number, place = -1, f"{path}: {field}"
    with _faults_named(path):
        text = _read_utf8(path).decode()
        for number, entry in enumerate(_iterate_list(text, field)):
            yield f"{place}[{number}]", entry
    if number < 0:
        raise DataError(f"{path}: `{field}` is empty. Fetch the file again.")


def _find_list(text: str, field: str) -> int:
    """The position after the opening bracket of the list."""
    wanted, remedy = f"must be an object with the list `{field}`, but", "Fetch the file again."
    position = _skip_space(text, 0)
    if text[position : position + 1] != "{":
        json.loads(text)  # says what is wrong if it is no JSON at all
        raise _FaultError(f"{wanted} is none. {remedy}")
    position = _skip_space(text, position + 1)
    while text[position : position + 1] == '"':
        name, position = _DECODER.raw_decode(text, position)
        position = _skip_space(text, _expect(text, _skip_space(text, position), ":"))
        if name == field:
            if text[position : position + 1] != "[":
                raise _FaultError(f"{wanted} `{field}` is none. {remedy}")
            return position + 1
        _, position = _DECODER.raw_decode(text, position)
        position = _skip_space(text, position)
        if text[position : position + 1] == ",":
            position = _skip_space(text, position + 1)
    if text[position : position + 1] != "}":
        raise json.JSONDecodeError(
            "Expecting property name enclosed in double quotes", text, position
        )
    raise _FaultError(f"{wanted} lacks `{field}`. {remedy}")


def _iterate_list(text: str, field: str) -> Iterator[Any]:
    position = _skip_space(text, _find_list(text, field))
    is_first = True
    while text[position : position + 1] != "]":
        if not is_first:
            position = _skip_space(text, _expect(text, position, ","))
        entry, position = _DECODER.raw_decode(text, position)
        yield entry
        position, is_first = _skip_space(text, position), False
    before = f'{{"{field}": 0'  # as if the object began here: a cut file has no end, a doubled two
    try:
        json.loads(before + text[position + 1 :], object_pairs_hook=_unique_names)
    except json.JSONDecodeError as error:
        place = position + 1 + error.pos - len(before)
        raise json.JSONDecodeError(error.msg, text, place) from error


def _expect(text: str, position: int, mark: str) -> int:
    if text[position : position + 1] != mark:
        raise json.JSONDecodeError(f"Expecting '{mark}' delimiter", text, position)
    return position + 1


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def iterate_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The non-blank lines of an existing file with their numbers from 1.

    Only a line feed ends a line, as in the official readers.

    Raises:
        DataError: the file cannot be read or decompressed.
    """
    for number, line in enumerate(BytesIO(_read_utf8(path)), start=1):
        if line.strip():
            yield number, line.removesuffix(b"\n")


def read_jsonl(path: str | Path, origin: str = "") -> list[tuple[int, dict[str, Any]]]:
    """The objects of a file with one JSON object a line, each with its line number from 1.

    Raises:
        DataError: the file is missing, or a line is no JSON object.
    """
    return list(iterate_jsonl(path, origin))


def iterate_jsonl(path: str | Path, origin: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    """The same, one object after the other; an error is raised where it is come to."""
    path, is_first = find_file(path, origin), True
    for number, line in iterate_lines(path):
        try:
            record = _read_value(line.removeprefix(codecs.BOM_UTF8).decode(errors="surrogatepass"))
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested too deep
            _refuse_whole_json(path)
            remedy = "Mend or remove the line."
            if is_first:  # more is wrong than one line
                remedy = f"{path.name} must hold one JSON object a line (JSON Lines): convert it."
            raise DataError(
                f"{path}:{number} is not JSON: {describe_json_error(error)}. {remedy}"
            ) from error
        if not isinstance(record, dict):
            _refuse_whole_json(path)
            raise DataError(f"{path}:{number} is no JSON object. Mend or remove the line.")
        yield number, record
        is_first = False


def _read_value(text: str) -> Any:
    """As `json.loads`, which takes twice as long where there is no space around the value."""
    if text.startswith("{") and text.endswith("}"):
        value, end = _DECODER.raw_decode(text)
        if end == len(text):
            return value
    return json.loads(text)


def _refuse_whole_json(path: Path) -> None:
    """Refuses a file that is one JSON value as a whole where one object a line is looked for.

    Raises:
        DataError: it is.
    """
    if kind := whole_json(path):
        hint = f" {TRAINING_HINT}" if b'"conversations"' in _read_utf8(path) else ""
        raise DataError(
            f"{path} is one JSON {kind}, but must hold one JSON object a line (JSON Lines). Write "
            f"each entry on a line of its own.{hint}"
        )


def whole_json(path: Path) -> str:
    """What an existing file is if it is one JSON value as a whole: `list` or `object`, else empty.

    A file with one JSON object on its only line is both, and empty here.
    """
    content = _read_utf8(path).strip()
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if isinstance(value, list):
        return "list"
    return "object" if isinstance(value, dict) and b"\n" in content else ""


def file_state(path: Path) -> tuple[int, ...]:
    """Returns what changes whenever a file is written to or replaced by another.

    That is its size, time of change in ns, ctime in ns and inode: `cp -p`, `rsync -t` and archives
    leave another file with the same time, and maybe of the same size. `llava.content_hash.state_of`
    is the same rule for those who may import it.

    Raises:
        OSError: it is not there, or out of reach.
        ValueError: it has no possible name.
    """
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def visible(paths: Iterable[Path]) -> list[Path]:
    """The paths in the order of their names, without hidden ones such as macOS's `._x`."""
    return sorted(path for path in paths if not path.name.startswith("."))


@overload
def require(record: Any, field: str, kind: type[T], where: str) -> T: ...


@overload
def require(record: Any, field: str, kind: tuple[type[Any], ...], where: str) -> Any: ...


def require(record: Any, field: str, kind: type[Any] | tuple[type[Any], ...], where: str) -> Any:
    """The value of a field that must be there and of the given type, or types; a bool is no int.

    `where` is file and place of the record, for the message.

    Raises:
        DataError: the record is no object, lacks the field, or holds another type there.
    """
    if type(record) is dict and type(record.get(field)) is kind:  # most files are as they should be
        return record[field]
    if not isinstance(record, dict):
        raise DataError(f"{where} must be a JSON object, but is {_shown(record)}. Mend the entry.")
    if field not in record:
        there = ", ".join(map(repr, record)) or "none"
        raise DataError(
            f"{where} lacks the field `{field}`; its fields are {there:.200}. Add it, or fetch the "
            "file again."
        )
    value = record[field]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
        raise DataError(
            f"{where}: `{field}` must be {names}, but is {_shown(value)}. Mend the entry."
        )
    return value


def require_id(record: Any, field: str, where: str) -> str | int:
    """The value of a field that must hold an id, a text or a whole number.

    Raises:
        DataError: as `require`.
    """
    if type(record) is dict and type(record.get(field)) in _ID_TYPES:
        return record[field]
    return require(record, field, _ID_TYPES, where)


def require_texts(record: Any, field: str, where: str) -> tuple[str, ...]:
    """The value of a field that must hold a list of texts, which may be empty.

    Raises:
        DataError: as `require`, or an item is no text.
    """
    items = require(record, field, list, where)
    odd = [item for item in items if not isinstance(item, str)]
    if odd:
        raise DataError(
            f"{where}: `{field}` must be a list of texts, but holds {_shown(odd[0])}. Mend the "
            "entry."
        )
    return tuple(items)


def is_number(text: str) -> bool:
    """Whether a text is a whole number of a length that ids and counts have.

    >>> is_number("12"), is_number("-1"), is_number("9" * 5000)
    (True, False, False)
    """
    return text.isdecimal() and len(text) <= _MAX_DIGITS


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def check_unique(keys: Iterable[Hashable], where: str) -> None:
    """Checks that no key occurs twice.

    Raises:
        DataError: a key does; the message names the first.
    """
    seen = set()
    for key in keys:
        if key in seen:
            raise DataError(f"{where}: the id {key!r} occurs twice. Every id must occur once.")
        seen.add(key)
