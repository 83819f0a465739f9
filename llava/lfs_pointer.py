"""Git LFS pointers: what lies in a clone where the content was not fetched."""

from __future__ import annotations

from pathlib import Path

from llava.errors import CheckpointError

_FIRST_WORDS = b"version https://git-lfs"


def refuse_lfs_pointer(path: Path) -> None:
    """Checks that a file is not the Git LFS pointer to its content.

    Raises:
        CheckpointError: it is.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        is_pointer = file.read(len(_FIRST_WORDS)) == _FIRST_WORDS
    if is_pointer:
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself. Run `git lfs pull` in "
            f"{path.parent}, or download the file."
        )
