"""Where a run happens: versions, machine, command; and how old this process is."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path

_IMPORTED_AT = time.monotonic()
_PACKAGES = (
    "llava-evals",
    "torch",
    "transformers",
    "tokenizers",
    "sentencepiece",
    "pillow",
    "numpy",
    "accelerate",
    "bitsandbytes",
    "peft",
)


def now() -> str:
    """Returns the time in UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def command(module: str) -> str:
    """Returns the command line of this process, ready to be pasted into a shell."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def resume_command(module: str) -> str:
    """Returns the command that goes on with a run: without what would set its answers aside."""
    words = [word for word in sys.argv[1:] if not word.startswith("overwrite=")]
    return shlex.join(["python", "-m", module, *words])


def describe_environment() -> dict[str, object]:
    """Returns versions, machine and source state, none of which may change an answer."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "num_cores": num_cores(),
        "versions": {name: installed_version(name) for name in _PACKAGES},
        "git": _git_state(),
    }


def num_cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def process_age_s() -> float:
    """Returns the seconds since this process was started.

    Where the system does not tell (elsewhere than on Linux), since this module was imported.
    """
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED_AT


def installed_version(package: str) -> str | None:
    """Returns the version of an installed package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, object] | None:
    """Commit of the checkout that this code runs from; None where it is an installed package."""
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / ".git").exists():
        return None
    hidden = subprocess.DEVNULL
    git = partial(subprocess.check_output, cwd=checkout, stderr=hidden, text=True, timeout=10)
    try:
        commit = git(["git", "rev-parse", "HEAD"]).strip()
        return {"commit": commit, "changed": bool(git(["git", "status", "--porcelain", "-uno"]))}
    except (OSError, subprocess.SubprocessError):
        return None
