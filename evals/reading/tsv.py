"""Tab-separated files as the MMBench tools read them, and the images inside them."""

from __future__ import annotations

import base64
import binascii
import csv
import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from evals.errors import DataError
from evals.reading.files import find_file, marked_encoding
from evals.reading.images import decode_image

MISSING_VALUES = frozenset(
    {
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND"),
        *("1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    }
)
"""The cells that pandas takes for empty unless told otherwise; the official tools rely on it."""


@dataclass(frozen=True, slots=True)
class Base64Image:
    """One image that stands as base64 text in a table; decoded only when it is opened.

    Attributes:
        encoded: The base64 text; empty if there is none.
        path: The table's file.
        place: Where the image stands, for messages.
        key: Hash of the text, so that equal images are one.
    """

    encoded: str = field(repr=False)
    path: Path
    place: str
    key: str = ""

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.encoded.encode()).hexdigest()[:16]
        object.__setattr__(self, "key", digest)

    @property
    def refused(self) -> str:
        """Why there is nothing to open; empty if there is."""
        return "" if self.encoded else f"{self.place} holds no image."

    def exists(self) -> bool:
        """Whether there is any text to decode."""
        return bool(self.encoded)

    def open(self) -> Image.Image:
        """Returns the decoded image in RGB.

        Raises:
            OSError: the text is no base64, or what it encodes is no image.
        """
        if self.refused:
            raise OSError(self.refused)
        try:
            content = base64.b64decode(self.encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise OSError(f"{self.place} is not base64: {error}") from error
        return decode_image(io.BytesIO(content), self.place)


def read_cell(record: Mapping[str, Any], column: str) -> str:
    """The text of a cell; empty where there is none, or where pandas would read nothing.

    >>> read_cell({"A": "none"}, "A"), read_cell({"A": "None"}, "A"), read_cell({}, "A")
    ('none', '', '')
    """
    cell = record.get(column)
    return "" if cell is None or str(cell) in MISSING_VALUES else str(cell)


def read_tsv(
    path: str | Path, columns: Collection[str], *, origin: str = ""
) -> list[tuple[str, dict[str, str]]]:
    """The rows of a tab-separated file with a header, each with its place for messages.

    Cells are texts as they stand, quotes resolved; a quoted cell may hold tabs and line breaks.
    `columns` must be there; `origin` says where the file is to be had.

    Raises:
        DataError: the file is missing, not UTF-8, no such table, or a row has another width.
    """
    path = find_file(path, origin)
    rows = []
    header: list[str] = []
    for number, cells in _iterate_rows(path):
        if not header:
            header = _check_header(path, cells, columns)
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            raise DataError(
                f"{path}:{number} must have {len(header)} tab-separated cells like the header, but "
                f"has {len(cells)}. Fetch the file again."
            )
        rows.append((f"{path}:{number}", dict(zip(header, cells, strict=True))))
    if not rows:
        raise DataError(f"{path} holds no row. Fetch the file again.")
    return rows


def _iterate_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows with the numbers of their last lines."""
    limit = csv.field_size_limit(sys.maxsize)  # an image may be larger than the default limit
    reader = None
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t", strict=True)
            for cells in reader:
                yield reader.line_num, cells
    except UnicodeDecodeError as error:
        line = reader.line_num + 1 if reader else 1
        if encoding := marked_encoding(path):
            raise DataError(
                f"{path} is not UTF-8 text, but {encoding}. Write it as UTF-8, or fetch it again."
            ) from error
        raise DataError(
            f"{path}:{line} or shortly after is not UTF-8 text: {error}. Fetch the file again."
        ) from error
    except csv.Error as error:
        line = reader.line_num if reader else 1
        raise DataError(
            f"{path}:{line} is no tab-separated row: {error}. Fetch the file again."
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch the file again.") from error
    finally:
        csv.field_size_limit(limit)


def _check_header(path: Path, header: list[str], columns: Collection[str]) -> list[str]:
    missing = [name for name in columns if name not in header]
    if len(header) <= 1 and "," in "".join(header):
        raise DataError(
            f"{path}:1 is comma-separated, but must be tab-separated with the columns "
            f"{', '.join(columns)}. Fetch the file again, or write it with tabs."
        )
    if missing:
        raise DataError(
            f"{path}:1 lacks the columns {', '.join(missing)}; it has {', '.join(header)[:200]}. "
            "Fetch the file again."
        )
    if len(set(header)) < len(header):
        raise DataError(f"{path}:1 names a column twice. Fetch the file again.")
    return header
