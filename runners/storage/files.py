"""Files of a run: written whole or not at all, repaired where a process died while appending."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from runners.errors import ConfigError, WriteError

SPOILED_SUFFIX = ".spoiled"
"""Added to the name of a file for the lines of it that were set aside."""

_SCRATCH = re.compile(r"\.(?P<name>.+)\.([0-9a-f]{16}|[1-9]\d*)\.tmp")
"""Of this version, or of an older one, which had the number of the process in it."""

_OLD_S = 24 * 3600.0
"""Scratch that nobody has written to for so long is no living process's, whatever clocks say."""

_PART_OF_LIST = 1024

_CANNOT_SYNC_FOLDERS = frozenset({errno.EINVAL, errno.ENOTSUP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """What was wrong with a file that somebody had been appending to.

    Attributes:
        num_torn: 1 if the last line was unfinished; it was removed.
        num_spoiled: Lines that are none of the file's; they were set aside.
    """

    num_torn: int = 0
    num_spoiled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered(Mended):
    """The same, with the objects of the good lines."""

    records: list[dict[str, Any]]


def write_atomic(path: Path, content: str | bytes | Iterable[bytes]) -> None:
    """Replaces a file by new content, so that a reader sees the old or the new, never a part.

    What comes in pieces is written piece by piece, and never held as a whole.

    The new content is on the disk before it takes the old one's place, and has taken it for good
    when this returns.

    Raises:
        ConfigError: the file is a link, in whose place the new content would be put, or no file.
        WriteError: the disk does not take it.
    """
    require_plain(path)
    with naming_file(path):
        if isinstance(content, str):  # half a character, as JSON can hold it, is none in UTF-8
            content = content.encode(errors="backslashreplace")
        _replace(path, (content,) if isinstance(content, bytes) else content)


def require_plain(path: Path) -> None:
    """Checks that what lies where a file is to be written, if anything, is a file itself.

    Through a link one would write where somebody else points; over it, what it leads to would
    keep its old content without a word.

    Raises:
        ConfigError: it is a link, or no file.
    """
    if path.is_symlink():
        raise ConfigError(
            f"{path} is a link to {path.readlink()}, and results are not written through links. "
            "Remove it, and write to the place that it leads to, or link the folder instead."
        )
    is_there(path)


def is_there(path: Path) -> bool:
    """Whether a file of a run is there, which may be anyone's.

    Raises:
        ConfigError: something else lies there; reading a pipe would wait, and a device never end.
    """
    if path.is_file():
        return True
    if path.exists():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ConfigError(f"{path} is {kind}, where a file of a run belongs. Remove it.")
    return False


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """While it is entered, an error of the disk says which file was being written.

    The system names no file where a disk is full, and a scratch file where it refuses to replace.

    Raises:
        WriteError: the disk does not take what is written.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(error.errno, error.strerror, str(path)) from error


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """While it is entered, an error of the disk says that a stored file cannot be read.

    Args:
        path: The file, or the folder that it lies in.

    Raises:
        ConfigError: it cannot be read: a run may be somebody else's.
    """
    try:
        yield
    except OSError as error:
        told = error.strerror or error
        raise ConfigError(f"{error.filename or path} cannot be read: {told}.") from error


def _replace(path: Path, pieces: Iterable[bytes]) -> None:
    make_folder(path.parent)
    _remove_old_scratch(path)
    # no number of a process: those of other containers and machines are the same ones
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with scratch.open("xb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    sync_folder(path.parent)


def _remove_old_scratch(path: Path) -> None:
    """Removes what a killed process left of replacing a file."""
    for scratch in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        found = _SCRATCH.fullmatch(scratch.name)
        if found is not None and found["name"] == path.name and _is_old(scratch):
            scratch.unlink(missing_ok=True)


def remove_scratch(folder: Path, guarded: Collection[str]) -> None:
    """Removes what killed processes left of replacing files in a folder.

    Args:
        folder: The folder; it need not be there.
        guarded: Names of files that no other process can be writing. What belongs to other files
            stays until it is old, as some process on another machine may be writing it.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        scratch = _SCRATCH.fullmatch(path.name)
        if scratch is None or not path.is_file():
            continue
        if scratch["name"] in guarded or _is_old(path):
            path.unlink(missing_ok=True)


def _is_old(scratch: Path) -> bool:
    try:
        return time.time() - scratch.stat().st_mtime > _OLD_S
    except FileNotFoundError:  # it has just taken its place
        return False


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, so that they outlive a power cut."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Puts the names in a folder on the disk: a new file is lost in a power cut without this."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Such file systems keep names without being asked, or leave no way to ask.
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes one JSON object, indented for people; ASCII, as `json_line` writes it."""
    write_atomic(path, json.dumps(value, indent=2) + "\n")


def hash_data_files(paths: Iterable[Path]) -> dict[str, str]:
    """Returns the sha256 (hex) of each file by its path below the folder that they share."""
    files = [path.absolute() for path in paths]  # some may lie in a cache, elsewhere
    shared = Path(os.path.commonpath([path.parent for path in files])) if files else Path()
    return {path.relative_to(shared).as_posix(): sha256_of_file(path) for path in files}


def write_jsonl(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line."""
    write_atomic(path, (json_line(line).encode() for line in lines))


def json_line(value: Mapping[str, Any]) -> str:
    """Returns one line of a JSONL file; ASCII, so that no character can split or spoil it."""
    return json.dumps(value) + "\n"


def sha256_of_lines(values: Iterable[Mapping[str, Any]]) -> str:
    """Returns the hash (hex) of the JSONL file that these lines make."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(json_line(value).encode())
    return digest.hexdigest()


def recover_jsonl(path: Path) -> Recovered:
    """Returns the objects of a file that was being appended to, and mends it as `mend_lines` does.

    Raises:
        ConfigError: something else lies there, or where spoiled lines are kept.
    """
    records: list[dict[str, Any]] = []

    def take(line: bytes, _: int) -> bool:
        record = parse_line(line)
        if record is not None:
            records.append(record)
        return record is not None

    found = mend_lines(path, take)
    return Recovered(records=records, num_torn=found.num_torn, num_spoiled=found.num_spoiled)


def mend_lines(path: Path, take: Callable[[bytes, int], bool]) -> Mended:
    """Reads a file that was being appended to line by line, and mends it.

    The line that a dying process left unfinished is removed, so that appending can go on. Whole
    lines that are none of this file's, spoiled or put there by somebody else, go to a file of the
    same name with `.spoiled` behind it.

    Args:
        path: The file; it need not be there.
        take: Is given each whole line, its line feed included, and the place at which it stands in
            the mended file; returns whether it is one of the file's own.

    Raises:
        ConfigError: something else lies there, or where such lines are kept.
    """
    if not is_there(path):
        return Mended()
    end, spoiled, is_torn = 0, dict[int, bytes](), False
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if not line.endswith(b"\n"):
                is_torn = True
            elif take(line, end):
                end += len(line)
            else:
                spoiled[number] = line
    if spoiled:
        _set_aside(path, spoiled.values())
    if spoiled or is_torn:
        with path.open("rb") as file:
            lines = (line for number, line in enumerate(file) if number not in spoiled)
            write_atomic(path, (line for line in lines if line.endswith(b"\n")))
    return Mended(num_torn=int(is_torn), num_spoiled=len(spoiled))


def _set_aside(path: Path, lines: Iterable[bytes]) -> None:
    spoiled = path.with_name(path.name + SPOILED_SUFFIX)
    require_plain(spoiled)
    with spoiled.open("ab") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def read_intact_lines(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """Returns the objects of a file that may be being appended to; leaves the file alone.

    Args:
        path: The file; it need not be there.
        limit: Only the first lines are read; None for all.

    Raises:
        ConfigError: something else lies there.
    """
    if not is_there(path):
        return []
    with path.open("rb") as file:
        lines = [line for line in islice(file, limit) if line.endswith(b"\n")]
    return [record for line in lines if (record := parse_line(line)) is not None]


def count_lines(path: Path) -> int:
    """Returns how many whole lines a file has; 0 for one that is not there."""
    if not is_there(path):
        return 0
    with path.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Returns the object in a line; None if it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # broken JSON, broken UTF-8, or nested too deep
        return None
    return record if isinstance(record, dict) else None


def sha256_of_file(path: Path) -> str:
    """Returns the hash of a file's bytes, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """Returns the hash of a value in canonical JSON, as hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_of_json_list(values: Iterable[Any]) -> str:
    """Returns the same for the list of these values, which is never held as a whole."""
    values, separator = iter(values), b""
    digest = hashlib.sha256(b"[")
    while part := list(islice(values, _PART_OF_LIST)):
        digest.update(separator + canonical_json(part)[1:-1].encode())
        separator = b","
    digest.update(b"]")
    return digest.hexdigest()


canonical_json: Callable[[Any], str] = json.JSONEncoder(
    sort_keys=True, separators=(",", ":")
).encode
"""Gives the one JSON text of a value that its hash is of."""
