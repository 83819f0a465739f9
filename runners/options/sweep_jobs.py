"""Jobs of a sweep that a launcher runs in other processes, or on other machines."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import uuid
from pathlib import Path


class RemoteJobs:
    """Exit codes of the jobs that did not run in the process that began the sweep.

    They come back through a folder below the cache, which the machines of a cluster share as they
    share the home directory.
    """

    def __init__(self, cache_dir: str) -> None:
        self._folder = Path(cache_dir).resolve() / "sweeps" / uuid.uuid4().hex
        self._home = _this_process()

    @property
    def is_remote(self) -> bool:
        """Whether this is another process than that which began the sweep."""
        return self._home != _this_process()

    def tell(self, num: int, code: int) -> None:
        """Leaves the exit code of a job, counted from 0, for the process that began the sweep."""
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._folder / f".{num}.tmp"
        scratch.write_text(str(code), encoding="ascii")
        scratch.replace(self._folder / str(num))

    def collect(self) -> list[int]:
        """Returns the exit codes that were left, which are printed and removed."""
        try:
            is_there = self._folder.is_dir()
        except PermissionError:  # the home is closed to this user, and so to every job
            is_there = False
        if not is_there:
            return []
        files = {int(path.name): path for path in self._folder.iterdir() if path.name.isdigit()}
        codes = {num: int(files[num].read_text(encoding="ascii")) for num in sorted(files)}
        for num, code in codes.items():
            print(f"Job {num + 1} of the sweep ended with exit code {code}", file=sys.stderr)
        shutil.rmtree(self._folder)
        return list(codes.values())


def is_lost_job(error: BaseException) -> bool:
    """Whether an error says that a job of a launcher ended without an answer."""
    return type(error).__module__.partition(".")[0] == "submitit"


def _this_process() -> tuple[str, int]:
    return platform.node(), os.getpid()
