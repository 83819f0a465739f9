"""Files of a run: written whole or not at all, repaired where a process died while appending."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_atomic(path: Path, content: str) -> None:
    """Replaces a file by new content, so that a reader sees the old or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("w", encoding="utf-8", newline="\n") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes one JSON object, indented for people."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def hash_data_files(paths: Iterable[Path]) -> dict[str, str]:
    """Returns the sha256 (hex) of each file by its path below the folder that they share."""
    files = list(paths)
    shared = Path(os.path.commonpath([path.parent for path in files])) if files else Path()
    return {path.relative_to(shared).as_posix(): sha256_of_file(path) for path in files}


def write_jsonl(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line."""
    write_atomic(path, "".join(json_line(line) for line in lines))


def json_line(value: Mapping[str, Any]) -> str:
    """Returns one line of a JSONL file; ASCII, so that no character can split or spoil it."""
    return json.dumps(value) + "\n"


def recover_jsonl(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Returns the objects of a file that was being appended to, and how many lines were dropped.

    A line that a dying process left unfinished, or that a crash of the machine spoiled, is removed
    from the file, so that appending can go on. Nothing is lost but that line's answer, which is
    asked again.
    """
    content = path.read_bytes() if path.exists() else b""
    *lines, torn = content.split(b"\n")
    kept = [line for line in lines if _parse(line) is not None]
    num_dropped = len(lines) - len(kept) + bool(torn)
    if num_dropped:
        write_atomic(path, b"".join(line + b"\n" for line in kept).decode())
    return read_intact_lines(path), num_dropped


def read_intact_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the objects of a file that may be being appended to; leaves the file alone."""
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    return [record for line in lines if (record := _parse(line)) is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:  # broken JSON or broken UTF-8
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
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
