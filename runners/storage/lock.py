"""Who may write to the folder of a task, one process at a time, and how it is set aside."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from runners.errors import DISK_FULL, ConfigError, StoreError
from runners.logs import LOG_FILE
from runners.options.names import VERDICT
from runners.storage.answer_store import PREDICTIONS_FILE, TRACE_FILE
from runners.storage.files import (
    SPOILED_SUFFIX,
    make_folder,
    remove_scratch,
    require_plain,
    sync_folder,
)
from runners.storage.manifest import MANIFEST_FILE
from runners.storage.summary import SCORES_FILE, SUMMARY_FILE

logger = logging.getLogger(__name__)

_GUARDED = (MANIFEST_FILE, PREDICTIONS_FILE, TRACE_FILE)
"""What nobody writes without the lock."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP})
"""What a file system without locks answers."""


def lock_at(path: Path, wait_s: float = 0.0) -> FileLock:
    """Returns a lock that is had within some seconds, usually at once, or not at all.

    What would stand in for it where a disk has no locks outlives a killed process, so nothing does.
    """
    return FileLock(path, timeout=wait_s, fallback_to_soft=False)


class FolderLock:
    """A lock beside a folder that results are written to, so that that itself can be set aside.

    While it is entered, no other process writes there. Somebody may remove the lock file meanwhile,
    and then another process gets the folder, so that whoever writes looks again: `require_held`.

    Args:
        folder: The task's folder, in the run's, or that of a judge in the task's.
        busy: What to do where another process has it; a sentence.
        elsewhere: The options that choose another place.
    """

    def __init__(
        self,
        folder: Path,
        *,
        busy: str = "Wait for it, or choose another name with run=NAME.",
        elsewhere: str = "results_dir=DIR",
    ) -> None:
        self._folder = folder
        self._busy = busy
        self._elsewhere = elsewhere
        self._path = _lock_path(folder)
        self._lock = lock_at(self._path)
        self._held: os.stat_result | None = None

    def acquire(self) -> None:
        """Takes the folder for this process, and clears it of what a killed one left.

        Raises:
            ConfigError: another process has it, or what lies there cannot be read and written.
            StoreError: the disk is full.
        """
        run_dir = self._folder.parent
        try:
            make_folder(run_dir)
            self._held = self._make()
            self._lock.acquire()
        except Timeout as error:
            raise ConfigError(
                f"{self._folder} is being written by another process, which holds "
                f"{self._path}. {self._busy}"
            ) from error
        except OSError as error:
            if error.errno in DISK_FULL:
                raise _store_error(run_dir, error) from error
            if error.errno in _NO_LOCKS:
                raise ConfigError(
                    f"{run_dir} lies on a file system without locks, so that nothing would keep "
                    "two runs from writing there at once. Keep results on another one with "
                    f"{self._elsewhere}."
                ) from error
            remedy = f"Keep results elsewhere with {self._elsewhere}."
            if error.errno == errno.ENAMETOOLONG:
                remedy = "Choose a shorter name with run=NAME."
            raise ConfigError(f"{run_dir} cannot be written: {error}. {remedy}") from error
        try:
            self.require_held()  # that what is locked is what lies there
            self._require_access()
            remove_scratch(self._folder, _GUARDED)
        except BaseException:
            self.release()  # a later job of the sweep may be able to go on
            raise

    def is_taken(self) -> bool:
        """Whether another process has the folder; not where that cannot be seen."""
        if not self._path.exists():
            return False
        try:
            with self._lock:
                return False
        except Timeout:
            return True
        except OSError:
            return False  # whoever acquires it is told why that is not possible

    def require_held(self) -> None:
        """Checks that the lock file still is the one that this process has locked.

        Raises:
            StoreError: it was removed, so that another process may have the folder by now.
        """
        try:
            found = self._path.lstat()
        except FileNotFoundError as error:
            if self._path.parent.exists():
                raise self._lost() from error
            return  # all is gone, which the next writing says
        if self._held is None or not os.path.samestat(found, self._held):
            raise self._lost()

    def set_aside(self) -> None:
        """Sets the folder aside; what comes in the place of a link has a lock of its own.

        Raises:
            ConfigError: another process has that one.
            StoreError: the disk is full.
        """
        set_aside(self._folder)
        before, self._path = self._lock, _lock_path(self._folder)
        if Path(before.lock_file) != self._path:
            self._lock = lock_at(self._path)
            try:
                self.acquire()
            finally:
                before.release()

    def release(self) -> None:
        """Gives the folder free."""
        self._lock.release()

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _make(self) -> os.stat_result:
        """Makes the lock file if it is not there, and says which one it is."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def _lost(self) -> StoreError:
        return StoreError(
            f"{self._path} was removed while this run held it, so that another one may write to "
            f"{self._folder}: this one stops. What was answered before is stored; the same command "
            "goes on from there. Leave the lock file alone while a run is going on."
        )

    def _require_access(self) -> None:
        if self._folder.exists() and not self._folder.is_dir():
            raise ConfigError(
                f"{self._folder} is no folder, where one with results belongs. Remove it, or "
                "choose another name with run=NAME."
            )
        spoiled = (name + SPOILED_SUFFIX for name in (PREDICTIONS_FILE, TRACE_FILE))
        for name in (*_GUARDED, SCORES_FILE, SUMMARY_FILE, *spoiled):
            require_plain(self._folder / name)
        require_plain(self._folder.with_name(LOG_FILE))
        files = (self._folder / name for name in _GUARDED)
        for path in (self._folder.parent, self._folder, *files):
            wanted = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
            if path.exists() and not os.access(path, wanted):
                raise ConfigError(
                    f"{path} cannot be read and written by this user. Change its permissions, or "
                    f"keep results elsewhere with {self._elsewhere}."
                )


def _lock_path(folder: Path) -> Path:
    real = Path(os.path.realpath(folder))  # so that two links to one folder have one lock
    return real.with_name(f".{real.name}.lock")


def set_aside(folder: Path) -> None:
    """Renames a task's folder, if it is there, to the first free `<task>.old-N`, with verdicts."""
    if not folder.exists():
        return
    move_verdicts(folder)
    names = (folder.with_name(f"{folder.name}.old-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not os.path.lexists(name))
    folder.rename(aside)
    sync_folder(folder.parent)
    logger.info("%s is kept as %s", folder, aside)


def move_verdicts(folder: Path) -> None:
    """Moves the gate's verdicts over a run into a task's folder, as its answers are others now."""
    for verdict in sorted(folder.parent.glob(f"{VERDICT}*")):
        if verdict.is_dir() and not (verdict / MANIFEST_FILE).exists():
            target = folder / verdict.name
            if target.exists():
                shutil.rmtree(target)
            shutil.move(verdict, target)  # a linked folder is on another disk
            logger.info("%s is over earlier answers, and is now in %s", verdict, folder)


@contextmanager
def explaining_disk_errors(folder: Path) -> Iterator[None]:
    """While it is entered, a disk that does not take what is written stops the run.

    Raises:
        StoreError: the disk is full, broken or gone, or the folder was removed.
    """
    try:
        yield
    except OSError as error:
        raise _store_error(folder, error) from error


def _store_error(folder: Path, error: OSError) -> StoreError:
    if error.errno == errno.ENOENT:
        return StoreError(
            f"{error.filename or folder} was removed while the run was writing to it. Start it "
            "again with the same command, which asks whatever is not stored, and leave the folder "
            "alone meanwhile."
        )
    remedy = "Make room there." if error.errno in DISK_FULL else "See what is wrong with that disk."
    return StoreError(
        f"{folder} cannot be written: {error}. {remedy} What was answered before is stored; the "
        "same command goes on from there."
    )
