"""Broken checkpoints through the program: one paragraph, exit 2, nothing stored."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.broken_checkpoints import (
    WAYS,
    Broken,
    Workshop,
    tower_not_found,
)
from tests.runners.conftest import program_environment

FAST = (tower_not_found,)


def run_on(broken: Broken, workspace: Path) -> subprocess.CompletedProcess[str]:
    questions = workspace / "questions.jsonl"
    questions.write_text('{"question_id": 1, "text": "Is it red?"}\n')
    options = [
        f"model.path={broken.path}",
        "task=custom",
        f"tasks.custom.questions={questions}",
        "conversation=vicuna_v1",
        f"results_dir={workspace / 'results'}",
    ]
    options += [f"model.base={broken.base}"] if broken.base else []
    environment = program_environment(workspace / "cache") | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "runners.eval", *options],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def check(break_one: Callable[[Workshop], Broken], folder: Path) -> None:
    broken = break_one(Workshop(folder))
    done = run_on(broken, folder)
    assert done.returncode == 2, done.stderr
    assert re.search(broken.message, done.stderr, re.DOTALL), done.stderr
    assert "Traceback" not in done.stderr
    assert not list((folder / "results").rglob("predictions.jsonl"))


@pytest.mark.parametrize("break_one", FAST, ids=lambda way: way.__name__)
def test_refusal_reaches_the_user(break_one: Callable[[Workshop], Broken], tmp_path: Path) -> None:
    check(break_one, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("break_one", WAYS, ids=lambda way: way.__name__)
def test_every_refusal_reaches_the_user(
    break_one: Callable[[Workshop], Broken], tmp_path: Path
) -> None:
    check(break_one, tmp_path)


@pytest.mark.slow
def test_full_error_adds_the_traceback(tmp_path: Path) -> None:
    broken = tower_not_found(Workshop(tmp_path))
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "runners.eval",
                f"model.path={broken.path}",
                "limit=1",
                f"results_dir={tmp_path}",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        del os.environ["HYDRA_FULL_ERROR"]
    assert done.returncode == 2
    assert "Traceback" in done.stderr
