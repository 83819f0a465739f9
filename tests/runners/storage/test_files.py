from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.errors import ConfigError, WriteError
from runners.storage.files import (
    Recovered,
    count_lines,
    hash_data_files,
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


@pytest.mark.usefixtures("in_own_folder")
def test_data_files_are_named_below_the_folder_that_they_share(tmp_path: Path) -> None:
    near, far = Path("data/gqa/a.json"), tmp_path / "cache/b.parquet"
    for path in (near, far, Path("data/b.json")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    assert set(hash_data_files([near])) == {"a.json"}
    assert set(hash_data_files([near, Path("data/b.json")])) == {"gqa/a.json", "b.json"}
    assert set(hash_data_files([near, far])) == {"data/gqa/a.json", "cache/b.parquet"}


def test_missing_file_holds_nothing(tmp_path: Path) -> None:
    assert recover_jsonl(tmp_path / "none.jsonl") == Recovered(records=[])
    assert not (tmp_path / "none.jsonl").exists()


def test_reading_leaves_an_unfinished_line_to_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(WHOLE + b'{"a"')
    assert read_intact_lines(path) == [{"a": 1}, {"a": 2}]
    assert path.read_bytes() == WHOLE + b'{"a"'


def test_failed_write_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "old")

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(WriteError, match=r"file\.txt"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_half_a_character_is_written_as_json_has_it(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"said": "cut \ud83d"})
    assert json.loads(path.read_bytes()) == {"said": "cut \ud83d"}


MARK, DEAD = "0123456789abcdef", 2**22 + 1  # the latter is no process here, but perhaps elsewhere


@pytest.mark.parametrize(
    ("name", "is_removed", "is_removed_once_old"),
    [
        (f".manifest.json.{MARK}.tmp", True, True),  # no other process can be writing it
        (f".manifest.json.{os.getppid()}.tmp", True, True),
        (f".scores.jsonl.{MARK}.tmp", False, True),
        (f".scores.jsonl.{DEAD}.tmp", False, True),
        (f".scores.jsonl.{os.getppid()}.tmp", False, True),
        (f"manifest.json.{MARK}.tmp", False, False),
        (f".manifest.json.{MARK}.tmp.txt", False, False),
        (".manifest.json.tmp", False, False),
        (".manifest.json.mine.tmp", False, False),
        (f".{MARK}.tmp", False, False),
        ("manifest.json", False, False),
    ],
)
def test_only_what_killed_processes_left_is_removed(
    name: str, is_removed: bool, is_removed_once_old: bool, tmp_path: Path
) -> None:
    path = tmp_path / name
    (tmp_path / f".folder.{MARK}.tmp").mkdir()
    for age_s, expected in ((0, is_removed), (3600, is_removed), (90_000, is_removed_once_old)):
        path.write_text("half")
        os.utime(path, (time.time() - age_s, time.time() - age_s))
        remove_scratch(tmp_path, ["manifest.json"])
        assert path.exists() is not expected
    assert (tmp_path / f".folder.{MARK}.tmp").is_dir()


def test_two_writers_of_one_file_leave_each_other_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In two containers they may be of the same number; each is put in place whole."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    path, replace, inside = tmp_path / "table.md", Path.replace, []

    def meanwhile(scratch: Path, target: Path) -> Path:
        if not inside:
            inside.append(scratch)
            write_atomic(path, "second")
            assert path.read_text() == "second"
            assert scratch.read_text() == "first"
        return replace(scratch, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    write_atomic(path, "first")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_of_a_file_goes_with_a_later_writing(tmp_path: Path) -> None:
    left, other = tmp_path / f".a.md.{MARK}.tmp", tmp_path / f".a.md.b.{MARK}.tmp"
    for path in (left, other):
        path.write_text("half")
        os.utime(path, (1e9, 1e9))
    write_atomic(tmp_path / "a.md", "whole")
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize("target", ["there.md", "nowhere/there.md", "a.md"])
def test_link_is_neither_followed_nor_replaced(tmp_path: Path, target: str) -> None:
    (tmp_path / "there.md").write_text("somebody's")
    (tmp_path / "a.md").symlink_to(target)
    with pytest.raises(ConfigError, match=rf"a\.md is a link to {target}"):
        write_atomic(tmp_path / "a.md", "ours")
    assert (tmp_path / "a.md").is_symlink()
    assert (tmp_path / "there.md").read_text() == "somebody's"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize(
    "use", [recover_jsonl, read_intact_lines, count_lines, lambda path: write_atomic(path, "ours")]
)
def test_what_is_no_file_is_neither_read_nor_written(
    use: Callable[[Path], object], make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match=r"a\.jsonl is .*Remove it"):
        use(tmp_path / "a.jsonl")


def test_spoiled_lines_go_through_no_link(tmp_path: Path) -> None:
    """They may be a stranger's, and so may be the link."""
    (tmp_path / "a.jsonl").write_text("rm -rf /\n")
    (tmp_path / "profile").write_text("mine\n")
    (tmp_path / "a.jsonl.spoiled").symlink_to("profile")
    with pytest.raises(ConfigError, match="is a link to profile"):
        recover_jsonl(tmp_path / "a.jsonl")
    assert (tmp_path / "profile").read_text() == "mine\n"


def test_nothing_is_removed_where_no_folder_is(tmp_path: Path) -> None:
    remove_scratch(tmp_path / "none", [])


@pytest.mark.parametrize("text", ["\ud800", "\u2028", "\x00", "\u00e9 \U0001f600"])
def test_any_text_stands_in_a_json_file(tmp_path: Path, text: str) -> None:
    write_json(tmp_path / "file.json", {text: [text]})
    assert json.loads((tmp_path / "file.json").read_bytes()) == {text: [text]}


def test_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "file").startswith("ba7816bf8f01cfea")
