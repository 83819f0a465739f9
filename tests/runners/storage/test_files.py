from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runners.storage.files import (
    Recovered,
    read_intact_lines,
    recover_jsonl,
    remove_scratch,
    sha256_of_file,
    write_atomic,
    write_json,
)

WHOLE = b'{"a": 1}\n{"a": 2}\n'


@pytest.mark.parametrize(
    ("content", "kept", "num_dropped"),
    [
        (WHOLE, WHOLE, 0),
        (b"", b"", 0),
        (WHOLE + b'{"a"', WHOLE, 1),
        (WHOLE + b'{"a": 3}', WHOLE, 1),  # whole, but nobody knows that it is
        (WHOLE + b'{"a": "\xc3', WHOLE, 1),
        (b'{"a": 1}\n\x00\x00\x00\n{"a": 2}\n', WHOLE, 1),
        (b'{"a": 1}\n[1]\n{"a": 2}\n{', WHOLE, 2),
        (b'{"a": 1}\n' + b"[" * 99_999 + b'\n{"a": 2}\n', WHOLE, 1),
        (b"{", b"", 1),
    ],
)
def test_unfinished_lines_are_removed(
    tmp_path: Path, content: bytes, kept: bytes, num_dropped: int
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(content)
    found = recover_jsonl(path)
    assert path.read_bytes() == kept
    assert len(found.records) == kept.count(b"\n")
    assert found.num_torn + found.num_spoiled == num_dropped


def test_missing_file_holds_nothing(tmp_path: Path) -> None:
    assert recover_jsonl(tmp_path / "none.jsonl") == Recovered(records=[])
    assert not (tmp_path / "none.jsonl").exists()


def test_reading_leaves_an_unfinished_line_to_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(WHOLE + b'{"a"')
    assert read_intact_lines(path) == [{"a": 1}, {"a": 2}]
    assert path.read_bytes() == WHOLE + b'{"a"'


def test_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


DEAD = 2**22 + 1  # larger than any number of a process


@pytest.mark.parametrize(
    ("name", "is_removed"),
    [
        (f".manifest.json.{DEAD}.tmp", True),
        (f".scores.jsonl.{DEAD}.tmp", True),
        (f".scores.jsonl.{'9' * 30}.tmp", True),
        (f".manifest.json.{os.getppid()}.tmp", True),  # no other process can be writing it
        (f".scores.jsonl.{os.getppid()}.tmp", False),
        (f"manifest.json.{DEAD}.tmp", False),
        (f".manifest.json.{DEAD}.tmp.txt", False),
        (".manifest.json.tmp", False),
        (".manifest.json.mine.tmp", False),
        (f".{DEAD}.tmp", False),
        ("manifest.json", False),
    ],
)
def test_only_what_killed_processes_left_is_removed(
    name: str, is_removed: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("half")
    (tmp_path / f".folder.{DEAD}.tmp").mkdir()
    remove_scratch(tmp_path, ["manifest.json"])
    assert (tmp_path / name).exists() is not is_removed
    assert (tmp_path / f".folder.{DEAD}.tmp").is_dir()


def test_nothing_is_removed_where_no_folder_is(tmp_path: Path) -> None:
    remove_scratch(tmp_path / "none", [])


@pytest.mark.parametrize("text", ["\ud800", "\u2028", "\x00", "\u00e9 \U0001f600"])
def test_any_text_stands_in_a_json_file(tmp_path: Path, text: str) -> None:
    write_json(tmp_path / "file.json", {text: [text]})
    assert json.loads((tmp_path / "file.json").read_bytes()) == {text: [text]}


def test_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "file").startswith("ba7816bf8f01cfea")
