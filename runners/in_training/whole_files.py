"""Whether a file of a checkpoint is whole: as long as it says, with nothing left to be written.

A copy may take the whole space of a file at once and fill it bit by bit, in any order. What is not
written yet reads as zeros, so that the length alone says nothing.
"""

from __future__ import annotations

import json
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evals.reading.files import file_state

Bytes = npt.NDArray[np.uint8]

_OLD_FORMAT = b"\x80\x02"
_MAX_HEADER_BYTES = 100 << 20
_NOT_WHOLE = "is not whole"
_HOLE = (
    "is not whole: it holds zeros where a copy has taken the space and not written yet, at "
    "{place}. If they are meant to be there, evaluate it with runners.eval"
)
_BLOCK, _LARGE_HOLE, _EDGE = 4096, 1 << 20, 64
"""In bytes: a block, a hole in any tensor, and what is looked at on both sides where two meet."""


def flaw_of(path: Path) -> str:
    """Returns what keeps a file from being whole; empty if it is.

    Raises:
        OSError: it cannot be read.
    """
    return _flaw_of(path, file_state(path))


def is_whole(path: Path) -> bool:
    """Whether a file is as long as its own header says, and nothing in it is left to be written.

    Of a .bin file in torch's old format, which is a bare pickle, only its end is looked at.
    """
    return not flaw_of(path)


@lru_cache(maxsize=4096)
def _flaw_of(path: Path, _state: tuple[int, ...]) -> str:
    """The same of a file in that state, since a large one is read for it from end to end."""
    if path.suffix == ".safetensors":
        return _flaw_of_safetensors(path)
    if path.suffix == ".json":
        return "" if _is_json(path) else _NOT_WHOLE
    if path.suffix == ".model":
        return _flaw_of_tokenizer(path)
    with path.open("rb") as file:
        is_old = file.read(2) == _OLD_FORMAT
    if is_old:
        end = np.memmap(path, np.uint8, "r")[-_BLOCK:]
        return "" if end.any() else _HOLE.format(place="its end")
    return _flaw_of_zip(path)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


def _flaw_of_tokenizer(path: Path) -> str:
    import sentencepiece

    try:
        sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError):  # what it says where a file is cut or no such model
        return _NOT_WHOLE
    return ""


def _flaw_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:  # reads the directory, which comes last
            spoiled = archive.testzip()
    except (zipfile.BadZipFile, EOFError):
        return _NOT_WHOLE
    if spoiled is None:
        return ""
    return f"{_NOT_WHOLE}: the checksum of {spoiled} in it is that of other content"


def _flaw_of_safetensors(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(_MAX_HEADER_BYTES, size - 8):
            return _NOT_WHOLE
        content = file.read(length)
    try:
        header = json.loads(content)
        extents = sorted(
            (int(entry["data_offsets"][0]), int(entry["data_offsets"][1]), str(name))
            for name, entry in header.items()
            if name != "__metadata__"
        )
    except (ValueError, AttributeError, KeyError, IndexError, TypeError, RecursionError):
        return _NOT_WHOLE
    start = 8 + length
    if size != start + max((end for _, end, _ in extents), default=0):
        return _NOT_WHOLE
    data = np.memmap(path, np.uint8, "r")[start:]
    place = _find_hole({name: data[begin:end] for begin, end, name in extents if begin < end})
    return _HOLE.format(place=place) if place else ""


def _find_hole(tensors: dict[str, Bytes]) -> str:
    """Names a tensor with zeros that no training leaves; empty if there is none.

    A tensor of zeros alone may be meant, as a bias or a fresh adapter is, and so may a few rows of
    an embedding. Not meant are zeros that go on from within one tensor, or from the begin of the
    file, into another one or to its end.
    """
    is_open, is_crossing = True, False
    for name, values in tensors.items():
        if not values.any():
            is_crossing = True
            continue
        if (is_open and is_crossing and not values[:_EDGE].any()) or _is_torn(values):
            return name
        is_open, is_crossing = not values[-_EDGE:].any(), True
    ends_in_zeros = bool(tensors) and not values.any()
    return name if is_open and ends_in_zeros else ""


def _is_torn(values: Bytes) -> bool:
    """Whether a tensor that is not all zeros has a run of them that is too long to be meant."""
    blocks = values[: len(values) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    written = np.flatnonzero(blocks.any(axis=1))
    gaps = (np.diff(written, prepend=-1, append=len(blocks)) - 1) * _BLOCK
    too_long = max(2 * _BLOCK, len(values) // 16)
    # What an embedding has been padded with for speed stands at its end.
    return bool(gaps.max() >= too_long or gaps[:-1].max(initial=0) >= _LARGE_HOLE)
