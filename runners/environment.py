"""Where a run happens: versions, machine, command; and how old this process is."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache, partial
from importlib import metadata
from pathlib import Path

from runners.logs import mask_secrets

COMMAND = "llava-evals"
"""The console script."""
_IMPORTED_AT = time.monotonic()
_SOURCES = ("llava", "evals", "runners")
_SOURCE_SUFFIXES = frozenset({".py", ".txt"})
_LOCAL_RANK = "LOCAL_RANK"
_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
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
    """Returns the command line of this process, ready to be pasted into a shell.

    Passwords and keys in it are masked.
    """
    return _in_a_shell(module, sys.argv[1:])


def resume_command(module: str, *, is_begun: bool, is_swept: bool) -> str:
    """Returns the command that goes on with the run of this process.

    Args:
        module: The program.
        is_begun: Whether what `overwrite` sets aside has been set aside.
        is_swept: Whether the run is one of a sweep.
    """
    words = sys.argv[1:]
    return _in_a_shell(module, to_go_on(words, is_swept=is_swept) if is_begun else words)


def to_go_on(words: Sequence[str], *, is_swept: bool) -> list[str]:
    """Returns the options of a run that has begun, without `overwrite`: that would begin it anew.

    An experiment may have set it too, unseen. In a sweep it stays, for the jobs that have not
    begun: they would show the answers of old.

    >>> to_go_on(["task=gqa", "++overwrite=true"], is_swept=False)
    ['task=gqa']
    >>> to_go_on(["experiment=mine"], is_swept=False)
    ['experiment=mine', 'overwrite=false']
    """
    if is_swept:
        return list(words)
    kept: list[str] = []
    for word in words:
        name = word.lstrip("+").partition("=")[0]
        kept += [word] if name != "overwrite" else []
        kept += ["overwrite=false"] if name == "experiment" else []
    return kept


def called(module: str) -> list[str]:
    """Returns the words that start a program as this process was: by the command, or a module."""
    started, name = Path(sys.argv[0]), module.rpartition(".")[2]
    if started.stem == COMMAND:
        return [COMMAND, name]
    if started.parent.name == COMMAND.replace("-", "_"):
        return ["python", "-m", started.parent.name, name]
    return ["python", "-m", module]


def _in_a_shell(module: str, options: Sequence[str]) -> str:
    return mask_secrets(shlex.join([*called(module), *options]))


def describe_environment() -> dict[str, object]:
    """Returns versions, machine and source state, none of which may change an answer."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "num_cores": num_cores(),
        "versions": {name: installed_version(name) for name in _PACKAGES},
        "git": _git_state(),
        "source": source_hash(),
    }


@cache
def source_hash(*packages: str) -> str:
    """Returns a hash of the source files of packages, whatever a version or commit says.

    Without any, it is of all that answers and scores.
    """
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for package in packages or _SOURCES:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in _SOURCE_SUFFIXES and path.is_file():
                name = path.relative_to(root).as_posix()
                digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


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


def prepare_torch() -> None:
    """Sets variables that torch reads when it is imported, as far as the user has not set them."""
    # Threads that wait by spinning make a small model ten times slower once they have to share
    # the cores with something else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # No two packs have the same shapes: without segments that grow, what one has freed does not
    # fit the next. The second name is the only one that torch before 2.9 knows; later ones warn of
    # it, but look no further once they have found the first.
    if not any(name in os.environ for name in _ALLOCATOR):
        os.environ.update(dict.fromkeys(_ALLOCATOR, "expandable_segments:True"))


def launched_rank() -> tuple[int, int] | None:
    """Returns which of several processes this one is, from 0, and how many there are.

    Only where torchrun, accelerate launch or the like started the program several times; None for
    a program of its own, also one that such a process started.
    """
    rank, count, local = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", _LOCAL_RANK))
    if not (rank.isdecimal() and count.isdecimal() and local.isdecimal()) or int(count) < 2:
        return None
    return None if _parent_has(_LOCAL_RANK) else (int(rank), int(count))


def _parent_has(name: str) -> bool:
    """Whether this process inherited a variable; False where the system does not tell."""
    try:
        variables = Path(f"/proc/{os.getppid()}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(variable.startswith(f"{name}=".encode()) for variable in variables)


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
