"""The folders of tasks: who may write them, and how they are put out of the way."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runners.storage.files import sync_folder
from runners.storage.lock import FolderLock

logger = logging.getLogger(__name__)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """While it is entered, no other process writes a task's folder.

    Raises:
        ConfigError: another process writes there, or this one may not.
        StoreError: the disk is full.
    """
    lock = FolderLock(folder)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def set_aside(folder: Path) -> None:
    """Renames a task's folder, if it is there, to the first free `<task>.old-N`."""
    if not folder.exists():
        return
    names = (folder.with_name(f"{folder.name}.old-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    folder.rename(aside)
    sync_folder(folder.parent)
    logger.info("%s is kept as %s", folder, aside)
