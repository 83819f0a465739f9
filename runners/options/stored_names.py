"""Benchmarks that stored runs have under names of their own, such as by `tasks.custom.name=menus`.

No file in `conf/task` has such a name, or `custom` lacks its questions. A program that reads stored
runs takes it all the same, as an empty entry of `tasks`, where a run that it may mean holds such a
benchmark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from runners.options.conf_files import list_choices, read_choice
from runners.options.words import is_multirun

_CHOICE = "task="
_READERS = frozenset({"publish", "regress", "report", "score", "view"})
_RUNS = ("run", "runs", "baseline", "candidate")
_NAME = re.compile(r"[A-Za-z_][\w-]*")


def choose_stored(argv: Sequence[str], program: str) -> list[str]:
    """Returns a command line in which the benchmarks that only stored runs have are entries."""
    makes_a_run = any(word.startswith("predictions=") for word in argv)
    if program not in _READERS or makes_a_run or is_multirun(argv):
        return list(argv)
    chosen = [word.removeprefix(_CHOICE) for word in argv if word.startswith(_CHOICE)]
    parts = [p.strip().strip("'\"") for value in chosen for p in value.strip("[]").split(",")]
    own = [
        name
        for name in dict.fromkeys(parts)
        if _NAME.fullmatch(name) and not _is_described(name, argv) and _is_stored(name, argv)
    ]
    if not own:
        return list(argv)
    others = [part for part in parts if part not in own]
    words = [word for word in argv if not word.startswith(_CHOICE)]
    options = tuple(f"tasks.{name}." for name in own)  # of what is no entry yet
    return [
        *([f"{_CHOICE}[{','.join(others)}]"] if others else []),
        *(f"+tasks.{name}={{}}" for name in own),
        *(f"++{word}" if word.startswith(options) else word for word in words),
    ]


def _is_described(name: str, argv: Sequence[str]) -> bool:
    """Whether there is a benchmark of the name without a run: it lacks no option."""
    config = read_choice("task", name, argv)
    if config is None:
        return name in list_choices("task", argv)
    given = {word.partition("=")[0].lstrip("+") for word in argv}
    needed = [str(key) for key in config if OmegaConf.is_missing(config, key)]
    return all(f"tasks.{name}.{key}" in given for key in needed)


def _is_stored(name: str, argv: Sequence[str]) -> bool:
    """Whether a run in the folder of results, or one that is named by its path, holds it."""
    given = dict(word.split("=", 1) for word in argv if "=" in word)
    results = Path(given.get("results_dir", "results").strip("'\"")).expanduser()
    runs = ",".join(given.get(option, "").strip("[]") for option in _RUNS).split(",")
    named = [Path(run.strip().strip("'\"")).expanduser() for run in runs if run.strip()]
    return any((run / name).is_dir() for run in (*results.glob("*"), *named))
