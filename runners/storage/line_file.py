"""A file of lines that one process appends to, which keeps in memory where each one stands."""

from __future__ import annotations

import errno
import json
import os
from array import array
from collections.abc import Iterator, Sequence, Set
from io import FileIO
from pathlib import Path

from runners.errors import StoreError
from runners.storage.files import json_line, sync_folder, write_atomic

NOWHERE = -1
"""The number of no line, and the place of one that is not there."""


class LineFile:
    """Lines by number. A line is read again where it is needed, and must be what it was.

    Each number has one line at most, the last that it was given.

    Attributes:
        path: The file, which need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places = array("q")
        self._sizes = array("i")
        self._checks = array("q")
        self._file: FileIO | None = None  # open for appending
        self._source: FileIO | None = None  # open for reading

    def put(self, number: int, place: int, line: bytes) -> None:
        """Notes a line that stands in the file, its line feed included."""
        for _ in range(len(self._places), number + 1):
            self._places.append(NOWHERE)
            self._sizes.append(0)
            self._checks.append(0)
        self._places[number] = place
        self._sizes[number] = len(line)
        self._checks[number] = hash(line)

    def has(self, number: int) -> bool:
        """Whether a number has a line."""
        return 0 <= number < len(self._places) and self._places[number] != NOWHERE

    def append(self, number: int, line: bytes) -> None:
        """Writes a whole line or none; what a process has written outlives it without flushing.

        Raises:
            OSError: the disk does not take it.
        """
        if self._file is None:
            self._file = FileIO(self.path, "ab")
            sync_folder(self.path.parent)
        size = os.fstat(self._file.fileno()).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(size)
            raise
        self.put(number, size, line)

    def read(self, number: int) -> bytes:
        """Returns a line, its line feed included.

        Raises:
            StoreError: somebody has changed it since it was written or read.
        """
        if self._source is None:
            self._source = FileIO(self.path, "rb")
        line = os.pread(self._source.fileno(), self._sizes[number], self._places[number])
        if hash(line) != self._checks[number]:
            raise StoreError(
                f"{self.path} was changed by somebody else during the run. The same command keeps "
                "what is intact in it and asks the rest again. Leave the folder alone meanwhile."
            )
        return line

    def sync(self) -> None:
        """Puts what was appended on the disk.

        Raises:
            OSError: the disk does not take it, or the file was removed since it was opened.
        """
        if self._file is not None:
            os.fsync(self._file.fileno())
            _require_in_place(self.path, self._file)

    def rewrite(self, numbers: Sequence[int], odd: Set[int]) -> None:
        """Leaves the lines of these numbers in the file, in this order, and no others.

        Args:
            numbers: Each has a line.
            odd: Those whose line is to be written anew, from the object that it holds.

        Raises:
            StoreError: somebody has changed a line since it was written or read.
            WriteError: the disk does not take it.
        """
        if odd.isdisjoint(numbers) and self._is_in_order(numbers):
            return
        moved = LineFile(self.path)

        def lines() -> Iterator[bytes]:
            place = 0
            for number in numbers:
                line = self.read(number)
                if number in odd:
                    line = json_line(json.loads(line)).encode()
                moved.put(number, place, line)
                place += len(line)
                yield line

        write_atomic(self.path, lines())
        self.close()
        self._places, self._sizes, self._checks = moved._places, moved._sizes, moved._checks

    def _is_in_order(self, numbers: Sequence[int]) -> bool:
        """Whether the file holds these lines, in this order, and no others."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as file:
            there = all(hash(file.readline()) == self._checks[number] for number in numbers)
            return there and not file.read(1)

    def close(self) -> None:
        """Closes the file; what needs it opens it again."""
        for file in (self._file, self._source):
            if file is not None:
                file.close()
        self._file = self._source = None


def _require_in_place(path: Path, file: FileIO) -> None:
    """A file that was removed takes whatever is written to it, until it is closed."""
    if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
