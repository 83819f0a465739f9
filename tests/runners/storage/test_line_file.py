from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.errors import StoreError
from runners.storage.line_file import LineFile

LINES = [b'{"a": 1}\n', b'{"a": 22}\n', b'{"a":3}\n']


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LineFile]:
    file = LineFile(tmp_path / "lines.jsonl")
    for number, line in enumerate(LINES):
        file.append(number, line)
    yield file
    file.close()


def test_lines_are_read_by_number(file: LineFile) -> None:
    assert [file.read(number) for number in (2, 0, 1)] == [LINES[2], LINES[0], LINES[1]]
    assert [file.has(number) for number in (-1, 0, 2, 3)] == [False, True, True, False]
    file.append(0, b"{}\n")
    assert file.read(0) == b"{}\n"


def test_rewritten_file_holds_the_given_lines_in_their_order(file: LineFile) -> None:
    file.rewrite([2, 0], odd={2})
    assert file.path.read_bytes() == b'{"a": 3}\n' + LINES[0]
    assert file.read(0) == LINES[0]
    assert file.read(2) == b'{"a": 3}\n'
    assert not file.has(1)
    file.append(1, LINES[1])
    assert file.path.read_bytes() == b'{"a": 3}\n' + LINES[0] + LINES[1]
    assert file.read(1) == LINES[1]


@pytest.mark.parametrize("numbers", [[0, 1, 2], [0, 1], [1, 0, 2], []])
def test_file_is_written_anew_only_if_it_would_change(file: LineFile, numbers: list[int]) -> None:
    before = file.path.stat().st_ino
    file.rewrite(numbers, odd=set())
    assert file.path.read_bytes() == b"".join(LINES[number] for number in numbers)
    assert (file.path.stat().st_ino == before) == (numbers == [0, 1, 2])


@pytest.mark.parametrize("content", [b'{"a": 9}\n' + LINES[1], b"", LINES[0][:4]])
def test_line_that_somebody_changed_is_not_taken_for_what_it_was(
    file: LineFile, content: bytes
) -> None:
    with file.path.open("r+b") as there:  # in place, as some editors do
        there.truncate(0)
        there.write(content)
    with pytest.raises(StoreError, match="changed by somebody else"):
        file.read(0)
    with pytest.raises(StoreError, match="changed by somebody else"):
        file.rewrite([0, 1, 2], odd=set())


def test_file_that_was_replaced_is_put_right(file: LineFile) -> None:
    file.read(0)
    file.path.with_name("other").write_bytes(b"other\n")
    file.path.with_name("other").replace(file.path)
    file.rewrite([0, 1, 2], odd=set())
    assert file.path.read_bytes() == b"".join(LINES)
