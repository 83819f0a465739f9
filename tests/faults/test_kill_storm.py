"""Runs that are killed again and again, anywhere, end in the bytes of an undisturbed run."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.runners.conftest import CHECKOUT, program_environment, promised_bytes, read_lines

TASKS = ("vqav2", "gqa", "scienceqa")
OPTIONS = (
    "data.demo.num_images=3",
    "run=storm",
    "runner.num_threads=1",
    "canary=off",
    "engine=faulty",
)
STEPS = (
    "torn trace.jsonl line",
    "torn predictions.jsonl line",
    "trace.jsonl line",
    "before fsync",
    "after fsync",
    "before rename of manifest.json",
    "after rename of manifest.json",
    "before rename of predictions.jsonl",
    "after rename of predictions.jsonl",
    "before rename of trace.jsonl",
    "before rename of scores.jsonl",
    "before rename of summary.json",
    "after rename of summary.json",
)
TIMEOUT_S = 300


@dataclass(frozen=True)
class Kill:
    """Where one session of a run is killed."""

    step: str
    after: int
    target: str
    num_workers: int


def draw(rng: random.Random, num_left: int) -> Kill:
    """Three of four at a stored line, the others at some step of the store."""
    target = rng.choice(("parent", "parent", "worker", "both"))
    num_workers = rng.choice((1, 2, 3))
    if rng.random() < 0.75:
        return Kill("stored line", rng.randint(1, max(1, num_left)), target, num_workers)
    return Kill(rng.choice(STEPS), rng.randint(1, 3), target, num_workers)


def run(folder: Path, options: Sequence[str], trap: Sequence[str] = ()) -> int:
    program = ["tests.faults.killing_eval", *trap, "--"] if trap else ["tests.faults.eval"]
    command = [sys.executable, "-m", *program, *OPTIONS, *options, f"results_dir={folder}"]
    finished = subprocess.run(
        command,
        cwd=CHECKOUT,
        env=program_environment(folder.parent / "cache"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert finished.returncode in (0, -signal.SIGKILL), finished.stderr
    return finished.returncode


def num_stored(folder: Path) -> int:
    return sum(
        len({json.loads(line)["metadata"]["key"] for line in whole_lines(path)})
        for path in folder.glob("storm/*/predictions.jsonl")
    )


def whole_lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().split(b"\n")[:-1] if line]


def doubled_items(log: Path) -> dict[str, set[tuple[str, str]]]:
    """For each process, the items in it with an answer that another process gave again."""
    by_key = defaultdict(list)
    for line in log.read_text().splitlines():
        process, item, key = line.split(" ", 2)
        by_key[key].append((process, item))
    doubled = defaultdict(set)
    for places in by_key.values():
        for process, item in places[:-1]:
            doubled[process].add((process, item))
    return doubled


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("storm") / "undisturbed"
    assert run(folder, ["runner.num_workers=1"]) == 0
    return folder


def storm(undisturbed: Path, name: str, kills: int, seed: int) -> tuple[int, int]:
    """Kills one run so often, finishes it and compares; returns kills, and those after an answer.

    A kill that comes when all is done does not count: the run is begun anew.
    """
    rng = random.Random(seed)
    expected = promised_bytes(undisturbed / "storm")
    total = num_stored(undisturbed)
    num_killed = num_late = attempt = 0
    while num_killed < kills:
        folder = undisturbed.parent / f"{name}-{attempt}"
        log = folder.with_suffix(".log")
        attempt += 1
        code = -signal.SIGKILL
        while code != 0 and num_killed < kills:
            before = num_stored(folder)
            kill = draw(rng, total - before)
            options = [f"runner.num_workers={kill.num_workers}", f"engine.log={log}"]
            trap = ["--step", kill.step, "--after", str(kill.after), "--target", kill.target]
            code = run(folder, options, trap)
            after = num_stored(folder)
            assert after >= before, "a stored answer was lost"
            happened = code != 0 or kill.target == "worker"
            num_killed += happened
            num_late += happened and after > 0
        assert (
            run(folder, [f"runner.num_workers={rng.choice((1, 2, 3))}", f"engine.log={log}"]) == 0
        )
        assert promised_bytes(folder / "storm") == expected
        for task in TASKS:
            keys = [line["key"] for line in read_lines(folder / "storm" / task / "trace.jsonl")]
            assert len(keys) == len(set(keys))
        assert all(len(items) <= 1 for items in doubled_items(log).values())
    return num_killed, num_late


@pytest.mark.slow
def test_killed_runs_end_in_the_same_bytes(undisturbed: Path) -> None:
    num_killed, num_late = storm(undisturbed, "few", kills=3, seed=7)
    assert num_killed == 3
    assert num_late > 0


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_a_hundred_kills(undisturbed: Path) -> None:
    num_killed, num_late = storm(undisturbed, "many", kills=100, seed=0)
    print(f"{num_killed} kills, {num_late} of them after the first answer")
    assert num_killed >= 100
    assert num_late >= 70
