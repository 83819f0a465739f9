from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from runners.environment import command, launched_rank, prepare_torch, resume_command
from tests.runners.conftest import Shell


@pytest.mark.parametrize("word", ["overwrite=true", "++overwrite=true", "+overwrite=True"])
def test_command_to_go_on_does_not_set_the_answers_aside(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["eval", "task=gqa", word, "model.path=/a b", "run=overwrite"]
    monkeypatch.setattr("sys.argv", words)
    whole = f"python -m runners.eval task=gqa {word} 'model.path=/a b' run=overwrite"
    assert command("runners.eval") == whole
    go_on = partial(resume_command, "runners.eval")
    assert go_on(is_begun=True, is_swept=False) == whole.replace(f" {word}", "")
    # what it would set aside still stands in its place, or in that of another job
    assert go_on(is_begun=False, is_swept=False) == whole
    assert go_on(is_begun=True, is_swept=True) == whole


def test_command_to_go_on_with_an_experiment_begins_nothing_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["eval", "experiment=mine", "limit=5"])
    go_on = resume_command("runners.eval", is_begun=True, is_swept=False)
    assert go_on == "python -m runners.eval experiment=mine overwrite=false limit=5"


def launch(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"RANK": "1", "WORLD_SIZE": "2"}, None),  # a machine of several, and no launcher
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
        ({"RANK": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, None),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, (0, 2)),
        ({"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1"}, (9, 16)),
    ],
)
def test_one_of_several_processes_is_known(
    variables: dict[str, str], expected: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(monkeypatch, **variables)
    assert launched_rank() == expected


def test_program_that_a_training_starts_is_none_of_its_processes() -> None:
    variables = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    look = "import runners.environment as e; print(e.launched_rank())"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {look!r}], check=True)"
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for code in (look, nested)
    ]
    assert said == ["(1, 2)", "None"]


@pytest.mark.parametrize("program", ["runners.eval", "runners.score", "runners.leaderboard"])
def test_all_processes_of_a_launcher_but_the_first_end(
    program: str, call: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(monkeypatch, RANK="1", WORLD_SIZE="2", LOCAL_RANK="1")
    done = call(f"{program} task=nothing", tmp_path)
    assert (done.code, done.stdout) == (0, "")
    assert "torchrun" in done.stderr
    launch(monkeypatch, RANK="0", LOCAL_RANK="0")
    done = call(f"{program} no_option=1", tmp_path)
    assert done.code == 2
    assert "Leave the launcher out" in done.stderr


@pytest.mark.slow
def test_first_process_of_torchrun_evaluates(shell: Shell, tmp_path: Path) -> None:
    done = shell(
        "python -m torch.distributed.run --nproc_per_node=2 --standalone -m runners.eval task=gqa "
        "data=demo limit=3 canary=off run=mine",
        tmp_path,
    )
    assert done.code == 0, done.stderr
    assert done.json("results/mine/gqa/summary.json")["num_answered"] == 3


_OF_TORCH = ("OMP_WAIT_POLICY", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("PASSIVE", "expandable_segments:True", "expandable_segments:True")),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ("ACTIVE", *2 * ["expandable_segments:True"])),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, ("PASSIVE", "backend:native", None)),
        ({"PYTORCH_CUDA_ALLOC_CONF": ""}, ("PASSIVE", None, "")),
    ],
)
def test_what_torch_reads_is_set_unless_the_user_has_set_it(
    given: dict[str, str], expected: tuple[str | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in _OF_TORCH:
        monkeypatch.setenv(name, "")  # put back at the end
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    prepare_torch()
    assert tuple(map(os.environ.get, _OF_TORCH)) == expected
