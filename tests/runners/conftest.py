"""Programs as a user starts them, and runs that several tests look at."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

CHECKOUT = Path(__file__).parents[2]
TIMEOUT_S = 120

Start = Callable[..., "subprocess.Popen[str]"]


@dataclass(frozen=True)
class Finished:
    """How a program ended."""

    code: int
    stdout: str
    stderr: str
    workspace: Path

    def lines(self, path: str) -> list[dict[str, Any]]:
        return read_lines(self.workspace / path)

    def json(self, path: str) -> dict[str, Any]:
        return json.loads((self.workspace / path).read_text())


Shell = Callable[[str, Path], Finished]
"""Runs a command line in a folder."""


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def promised_bytes(run_dir: Path) -> dict[str, bytes]:
    """The files of a run that are the same however it was computed, by their path in it."""
    paths = [*run_dir.glob("*/predictions.jsonl"), *run_dir.glob("*/scores.jsonl")]
    assert paths, f"{run_dir} holds no answers"
    return {path.relative_to(run_dir).as_posix(): path.read_bytes() for path in paths}


def program_environment(cache: Path) -> dict[str, str]:
    not_a_users = ("HYDRA_FULL_ERROR", "PYTHONUNBUFFERED")
    environment = {k: v for k, v in os.environ.items() if k not in not_a_users}
    bin_dir = str(Path(sys.executable).parent)
    return environment | {
        "PATH": os.pathsep.join([bin_dir, environment.get("PATH", "")]),
        "PYTHONPATH": str(CHECKOUT),
        "XDG_CACHE_HOME": str(cache),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def shell(cache_home: Path) -> Callable[[str, Path], Finished]:
    """Runs one command line in a shell, literally, in a folder of its own."""

    def run(command: str, workspace: Path) -> Finished:
        finished = subprocess.run(
            command,
            shell=True,
            cwd=workspace,
            env=program_environment(cache_home),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Finished(finished.returncode, finished.stdout, finished.stderr, workspace)

    return run


@pytest.fixture
def call(
    cache_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """Runs one program in this process instead of a new one: for what ends before a model loads."""

    def run(command: str, workspace: Path) -> Finished:
        module, *options = shlex.split(command.removeprefix("python -m "))
        program = importlib.import_module(module)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with monkeypatch.context() as patch:
            patch.chdir(workspace)
            patch.setenv("XDG_CACHE_HOME", str(cache_home))
            patch.delenv("HYDRA_FULL_ERROR", raising=False)
            patch.setattr(sys, "argv", [str(program.__file__), *options])
            patch.setattr(sys, "excepthook", sys.excepthook)  # the program sets one of its own
            with pytest.raises(SystemExit) as ended:
                program.main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        said = capsys.readouterr()
        return Finished(ended.value.code, said.out, said.err, workspace)

    return run


@pytest.fixture(scope="session")
def start(cache_home: Path) -> Start:
    """Starts one command in a process group of its own and returns at once."""

    def run(command: str, workspace: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            shlex.split(command),
            cwd=workspace,
            env=program_environment(cache_home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return run


@pytest.fixture(scope="session")
def demo_options(tiny_checkpoint: Path) -> str:
    """Options of a run over two small demo tasks with an untrained model."""
    return (
        f"model.path={tiny_checkpoint} task=[gqa,vqav2] data=demo data.demo.num_images=1 "
        "generation.max_new_tokens=6 runner.num_threads=1 engine=sequential"
    )


@pytest.fixture(scope="session")
def demo_run(
    shell: Callable[[str, Path], Finished],
    demo_options: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Finished:
    """An uninterrupted run, in `results/demo`; tests leave it as it is."""
    workspace = tmp_path_factory.mktemp("demo_run")
    return shell(f"python -m runners.eval {demo_options} run=demo", workspace)


@pytest.fixture
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a program that is called in this process see what a user in an empty folder does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A question file and two images in `images`; one question has an image that is not there."""
    (tmp_path / "images").mkdir()
    for name, color in (("red.png", "red"), ("blue.png", "blue")):
        Image.new("RGB", (40, 30), color).save(tmp_path / "images" / name)
    records = [
        {"question_id": 1, "image": "red.png", "text": "What color is it?", "answer": "red"},
        {"question_id": 2, "image": "gone.png", "text": "What is missing?", "answer": "this"},
        {"question_id": "3", "text": "What has no image?", "answer": "text"},
        {"question_id": 4, "image": ["red.png", "blue.png"], "text": "Which?", "answer": "both"},
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
