"""What a program exits with, situation by situation."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from tests.runners.conftest import CHECKOUT, TIMEOUT_S, Shell, Start

EVAL = "python -m runners.eval"
FAULTY = "python -m tests.faults.eval engine=faulty"
NUM_QUESTIONS = 60
NUM_IMAGES = 30

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Case:
    """A command, what it is to exit with, and a word of what it is to say."""

    command: str
    code: int
    said: str = ""


# {own}: options of a run on own questions that ends well; run `done` is such a run, complete
CASES = {
    "complete": Case(f"{EVAL} {{own}} run=a", 0, "results in"),
    "complete before": Case(f"{EVAL} {{own}} run=done", 0, "no model is loaded"),
    "only planned": Case(f"{EVAL} {{own}} dry_run=true", 0),
    "help": Case(f"{EVAL} --help", 0),
    "without a scorer": Case(
        f"{EVAL} {{own}} run=b tasks.custom.scorer=none", 0, "without a scorer. Set tasks.custom"
    ),
    "failures that are allowed": Case(f"{EVAL} {{torn}} run=c max_failures=1", 0),
    "rescored": Case("python -m runners.score run=done", 0),
    "imported": Case("python -m runners.score {data} predictions={good} run=d", 0),
    "leaderboard": Case("python -m runners.leaderboard", 0),
    "report": Case("python -m runners.report runs=[done] output=report.html", 0),
    "no drop": Case(
        "python -m runners.regress baseline=done candidate=done allow_same=true", 0, "pass"
    ),
    "repeated from its manifest": Case(f"{EVAL} manifest=results/done", 0),
    "unreadable image": Case(f"{EVAL} {{torn}} run=e", 1, "Incomplete"),
    "missing image": Case(f"{EVAL} {{gone}} run=f", 1, "not there"),
    "question that ends workers": Case(
        f"{FAULTY} {{own}} limit=6 run=g engine.fault=exit engine.keys=5", 1, "Incomplete"
    ),
    "out of memory over one question": Case(
        f"{FAULTY} {{own}} run=h engine.fault=oom engine.keys=5", 1, "Incomplete"
    ),
    "gate failed": Case("python -m runners.regress baseline=good candidate=bad", 1, "fail"),
    "disk full": Case(f"ulimit -f 4; {EVAL} {{own}} run=i", 1),
    "sweep with a failure": Case(f"{EVAL} -m {{torn}} limit=2,3", 1, "Incomplete"),
    "unknown option": Case(f"{EVAL} {{own}} limt=5", 2, "limt"),
    "unknown value": Case(f"{EVAL} {{own}} dtype=float8", 2, "dtype"),
    "out of range": Case(f"{EVAL} {{own}} limit=0", 2, "limit"),
    "unknown engine": Case(f"{EVAL} {{own}} run=j engine._target_=llava.Nothing", 2, "`engine`"),
    "unknown task": Case(f"{EVAL} task=nothing", 2, "nothing"),
    "unknown template": Case(f"{EVAL} {{own}} conversation=nonsense", 2, "nonsense"),
    "no checkpoint": Case(f"{EVAL} {{own}} model.path=/nowhere/llava-v1.5", 2, "/nowhere"),
    "no questions": Case(f"{EVAL} {{own}} tasks.custom.questions=none.jsonl", 2, "none.jsonl"),
    "malformed questions": Case(f"{EVAL} {{own}} tasks.custom.questions=bad.jsonl", 2, "bad.jsonl"),
    "no data": Case(f"{EVAL} task=gqa", 2, "playground"),
    "no image at all": Case(f"{EVAL} {{own}} tasks.custom.images=/nowhere run=k", 2, "no question"),
    "no such device": Case(f"{EVAL} {{own}} run=l device=cuda:9", 2, "cuda:9"),
    "other options than the run's": Case(f"{EVAL} {{own}} run=done seed=3", 2, "seed"),
    "held lock": Case(f"{EVAL} {{own}} run=held", 2, "another process"),
    "results that cannot be written": Case(f"{EVAL} {{own}} results_dir=q.jsonl/a", 2),
    "nothing to compare with": Case(
        "python -m runners.regress baseline=done candidate=nobody", 2, "nobody"
    ),
    "too little to decide": Case("python -m runners.regress baseline=few candidate=few2", 3),
    "no results": Case("python -m runners.leaderboard results_dir=none", 2, "none"),
    "no such run to show": Case("python -m runners.report runs=[nobody]", 2, "nobody"),
    "no answers to score": Case(
        "python -m runners.score {data} predictions=no.jsonl run=z", 2, "no.jsonl"
    ),
    "missing part": Case("python -m runners.score run=m merge=[m-shard-1-of-2]", 2),
    "sweep with bad input": Case(f"{EVAL} -m {{own}} run=done seed=0,3", 2, "seed"),
}


def answers(right: Callable[[int], bool]) -> str:
    return "".join(
        json.dumps({"question_id": i, "prompt": f"Is it {i}?", "text": "yes" if right(i) else "no"})
        + "\n"
        for i in range(NUM_QUESTIONS)
    )


@pytest.fixture(scope="module")
def workspace(
    shell: Shell, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A folder with questions, answers and runs; and what the commands put in for names."""
    folder = tmp_path_factory.mktemp("codes")
    (folder / "images").mkdir()
    for i in range(NUM_IMAGES):
        Image.new("RGB", (40, 30), (8 * i, 50, 60)).save(folder / f"images/{i}.png")
    (folder / "images/torn.png").write_bytes((folder / "images/0.png").read_bytes()[:60])
    questions = [
        {"question_id": i, "image": f"{i % NUM_IMAGES}.png", "text": f"Is it {i}?", "answer": "yes"}
        for i in range(NUM_QUESTIONS)
    ]
    for name, image in (("q", "0.png"), ("torn", "torn.png"), ("gone", "gone.png")):
        lines = [{**questions[0], "image": image}, *questions[1:]]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "bad.jsonl").write_text('{"question_id": 1, "text"\n')
    (folder / "good.jsonl").write_text(answers(lambda _: True))
    (folder / "wrong.jsonl").write_text(answers(lambda i: i % 2 == 0))
    (folder / "few.jsonl").write_text(answers(lambda i: i != 7))
    base = (
        f"model.path={tiny_checkpoint} task=custom tasks.custom.images=images runner.num_threads=1 "
        "tasks.custom.scorer=exact generation.max_new_tokens=2 "
    )
    data = "task=custom tasks.custom.questions=q.jsonl tasks.custom.images=images "
    names = {
        "own": f"{base} tasks.custom.questions=q.jsonl",
        "torn": f"{base} tasks.custom.questions=torn.jsonl",
        "gone": f"{base} tasks.custom.questions=gone.jsonl",
        "data": f"{data} tasks.custom.scorer=exact",
        "good": "good.jsonl",
    }
    prepared = [
        f"{EVAL} {names['own']} run=done",
        f"python -m runners.score {names['data']} predictions=good.jsonl run=good",
        f"python -m runners.score {names['data']} predictions=wrong.jsonl run=bad",
        f"python -m runners.score {names['data']} predictions=good.jsonl run=few",
        f"python -m runners.score {names['data']} predictions=few.jsonl run=few2",
    ]
    for command in prepared:
        finished = shell(command, folder)
        assert finished.code == 0, finished.stderr
    return folder, names


@pytest.mark.parametrize("name", CASES)
def test_exit_code(name: str, shell: Shell, workspace: tuple[Path, dict[str, str]]) -> None:
    folder, names = workspace
    case = CASES[name]
    (folder / "results/held").mkdir(exist_ok=True)
    with FileLock(folder / "results/held/.custom.lock"):
        finished = shell(case.command.format(**names), folder)
    assert finished.code == case.code, finished.stderr
    assert case.said in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    assert "\n\n" not in finished.stderr.strip()


def test_page_of_promises_counts_the_situations() -> None:
    page = (CHECKOUT / "docs/promises.md").read_text()
    assert f"(`faults/test_exit_codes.py`, {len(CASES) + len(SIGNALS)} situations)" in page


SIGNALS = {
    "Ctrl-C": (signal.SIGINT, 130, "", 1),
    "Ctrl-C twice": (signal.SIGINT, 130, "", 2),
    "Ctrl-C five times": (signal.SIGINT, 130, "", 5),
    "Ctrl-C five times in a sweep": (signal.SIGINT, 130, "-m seed=0,1", 5),
    "SIGTERM": (signal.SIGTERM, 143, "", 1),
    "Ctrl-C in a sweep": (signal.SIGINT, 130, "-m seed=0,1", 1),
    "SIGTERM without time": (signal.SIGTERM, 143, "runner.grace_s=0", 1),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_exit_code_after_a_signal(
    name: str, start: Start, workspace: tuple[Path, dict[str, str]]
) -> None:
    folder, names = workspace
    signum, code, options, num_times = SIGNALS[name]
    run = f"signal-{list(SIGNALS).index(name)}"
    slow = f"engine.slow_worker={folder}/{run}.marker engine.slowness=20"
    command = f"{FAULTY} {options} {names['own']} run={run} generation.max_new_tokens=9 {slow}"
    program = start(" ".join(shlex.split(command)), folder)
    deadline = time.monotonic() + TIMEOUT_S
    stored = folder / f"results/{run}/custom/manifest.json"
    while not stored.exists():
        assert program.poll() is None, program.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(num_times):
        os.killpg(program.pid, signum)
        time.sleep(0.2)
    try:
        said = program.communicate(timeout=TIMEOUT_S)[1]
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        raise
    assert program.returncode == code, said
    assert "To go on: python -m runners.eval" in said
    assert "Traceback" not in said
