"""Runs an evaluation that is killed where a test says so, without a trace of that in the product.

`python -m tests.faults.killing_eval --step "stored line" --after 7 --target parent -- OPTIONS` runs
`runners.eval OPTIONS` and sends SIGKILL when the step is reached for the 7th time. The steps:

    stored line                       an answer is in both files
    trace.jsonl line                  a trace is written, its answer is not
    predictions.jsonl line            the same as a stored line, told by the file
    torn trace.jsonl line             half of a trace is written
    torn predictions.jsonl line       half of an answer is written
    before fsync, after fsync         of any file or folder
    before rename of NAME             a new manifest.json, predictions.jsonl, trace.jsonl,
    after rename of NAME              scores.jsonl, summary.json, summary.csv ... takes its place

Targets: `parent` is this process, `worker` one of its workers, `both` all of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from runners.storage.answer_store import AnswerStore
from runners.storage.files import json_line

TARGETS = ("parent", "worker", "both")


class Trap:
    """Kills at one occurrence of one step."""

    def __init__(self, step: str, after: int, target: str) -> None:
        self._step = step
        self._after = after
        self._target = target
        self._count = 0

    def reach(self, step: str) -> None:
        """Counts a step and kills if it is the one."""
        if self.is_now(step):
            self.kill()

    def is_now(self, step: str) -> bool:
        """Counts a step; returns whether it is the one."""
        if step != self._step:
            return False
        self._count += 1
        return self._count == self._after

    def kill(self) -> None:
        """Kills the target."""
        workers = multiprocessing.active_children()
        if self._target == "worker":
            workers = workers[:1]
        if self._target != "parent":
            for worker in workers:
                worker.kill()
        if self._target != "worker":
            kill_self()


def kill_self() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL cannot be survived.")


def arm(trap: Trap) -> None:
    """Makes the store and the file operations of this process count their steps."""
    append, add = AnswerStore._append, AnswerStore.add
    fsync, replace = os.fsync, Path.replace

    def counted_append(store: AnswerStore, name: str, number: int, record: dict[str, Any]) -> None:
        if trap.is_now(f"torn {name} line"):
            line = json_line(record).encode()
            with (store._folder / name).open("ab") as file:
                file.write(line[: len(line) // 2])
            trap.kill()
        append(store, name, number, record)
        trap.reach(f"{name} line")

    def counted_add(store: AnswerStore, line: dict[str, Any], trace: dict[str, Any]) -> None:
        add(store, line, trace)
        trap.reach("stored line")

    def counted_fsync(descriptor: int) -> None:
        trap.reach("before fsync")
        fsync(descriptor)
        trap.reach("after fsync")

    def counted_replace(path: Path, target: Path) -> Path:
        trap.reach(f"before rename of {target.name}")
        replaced = replace(path, target)
        trap.reach(f"after rename of {target.name}")
        return replaced

    AnswerStore._append = counted_append  # type: ignore[method-assign]
    AnswerStore.add = counted_add  # type: ignore[method-assign]
    os.fsync = counted_fsync  # type: ignore[assignment]
    Path.replace = counted_replace  # type: ignore[method-assign]


def read_trap(words: list[str]) -> tuple[Trap, list[str]]:
    """Returns the trap that the words before `--` describe, and the words behind it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--step", required=True)
    parser.add_argument("--after", type=int, required=True)
    parser.add_argument("--target", choices=TARGETS, default="parent")
    place = words.index("--")
    given = parser.parse_args(words[:place])
    return Trap(given.step, given.after, given.target), words[place + 1 :]


# A worker process imports this module under another name.
if __name__ == "__main__":
    from runners.eval import main
    from tests.faults.engines import register_engines

    register_engines()
    trap, options = read_trap(sys.argv[1:])
    arm(trap)
    sys.argv[1:] = options
    main()
