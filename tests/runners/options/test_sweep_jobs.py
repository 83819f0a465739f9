"""Sweeps whose jobs run elsewhere: on a cluster, or here in processes of a launcher's own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose
from omegaconf import DictConfig

from runners.options import program
from runners.options.sweep_jobs import EndedJob, RemoteJobs
from tests.runners.conftest import CHECKOUT, Finished

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra `slurm`")

LOCAL = ["-m", "hydra/launcher=submitit_local", "hydra.launcher.submitit_folder=jobs/%j"]
FILES = ("predictions.jsonl", "scores.jsonl")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return tmp_path


def ending_as_its_path_says(config: DictConfig) -> int:
    word = Path(config.model.path).name
    Path(f"{word}.pid").write_text(str(os.getpid()))
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "defect":
        raise KeyError("a bug")
    return int(word)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("0", "00"), 0),
        (("1", "0", "2"), 2),
        (("143", "2"), 143),
    ],
)
def test_sweep_of_a_launcher_ends_with_the_gravest_code_of_its_jobs(
    words: tuple[str, ...], code: int, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ",".join(f"/{word}" for word in words)
    argv = [*LOCAL, "model=checkpoint", f"model.path={paths}"]
    assert program.run("eval", ending_as_its_path_says, argv) == code
    said = capsys.readouterr().err
    for number, word in enumerate(words, 1):
        assert f"Job {number} of the sweep ended with exit code {int(word)}" in said
    pids = {Path(f"{word}.pid").read_text() for word in words}
    assert len(pids) == len(words)
    assert str(os.getpid()) not in pids
    assert list((workspace / "cache" / "llava-evals" / "sweeps").iterdir()) == []


@pytest.mark.slow  # the launcher waits for a while before it gives a job up
def test_killed_job_makes_the_sweep_incomplete(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*LOCAL, "model.path=/killed"]
    assert program.run("eval", ending_as_its_path_says, argv) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_defect_of_a_job_elsewhere_is_not_taken_for_bad_input(workspace: Path) -> None:
    with pytest.raises(KeyError, match="a bug"):
        program.run("eval", ending_as_its_path_says, [*LOCAL, "model.path=/defect"])


def test_codes_are_those_of_one_sweep(tmp_path: Path) -> None:
    first, second = RemoteJobs(str(tmp_path)), RemoteJobs(str(tmp_path))
    for num, code in ((10, 1), (2, 0)):
        first.tell(
            EndedJob(num=num, code=code, overrides=[f"limit={num}"], figures={"gqa": "1.00"})
        )
    second.tell(EndedJob(num=0, code=2))
    jobs = first.collect()
    assert [(job.num, job.code, job.overrides) for job in jobs] == [
        (2, 0, ["limit=2"]),
        (10, 1, ["limit=10"]),
    ]
    assert first.collect() == []
    assert [job.code for job in second.collect()] == [2]


def test_slurm_experiment_composes_and_names_the_resources(composed: None) -> None:
    config = compose(
        "eval",
        overrides=["experiment=slurm-sweep", "model.path=a", "hydra.launcher.partition=gpu"],
        return_hydra_config=True,
    )
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.gpus_per_node, launcher.partition) == (1, "gpu")
    assert str(launcher.submitit_folder) == "results/.slurm/%j"
    assert config.hydra.mode.name == "MULTIRUN"


SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[1]).read()
assert "--gpus-per-node=1" in script and "--partition=gpu" in script, script
[last] = re.findall(r"--array=0-([0-9]+)", script)
one = dict.fromkeys(("SLURM_JOB_NUM_NODES", "SLURM_NTASKS"), "1")
first = dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0")
where = dict(SLURM_JOB_NODELIST="here", SLURM_ARRAY_JOB_ID="7")
for task in range(int(last) + 1):
    which = dict(SLURM_ARRAY_TASK_ID=str(task), SLURM_JOB_ID=str(70 + task))
    subprocess.Popen(
        ["bash", "-c", script],
        env={{**os.environ, **one, **first, **where, **which}},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
print("Submitted batch job 7")
"""
SRUN = """#!/bin/bash
shift 5  # --unbuffered --output FILE --error FILE
exec "$@"
"""
SACCT = """#!/bin/bash
echo 'JobID|State|NodeList'
for task in 0 1 2; do echo "7_$task|RUNNING|here"; done
"""


@pytest.fixture
def slurm(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of SLURM that a sweep uses, for this machine alone."""
    folder = workspace / "bin"
    folder.mkdir()
    commands = {"sbatch": SBATCH.format(python=sys.executable), "srun": SRUN, "sacct": SACCT}
    for name, content in commands.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_slurm_experiment_submits_a_job_for_each_checkpoint(
    slurm: None, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("0", "1", "2"):
        (workspace / "runs" / word).mkdir(parents=True)
    argv = [
        "experiment=slurm-sweep",
        "model=checkpoint",
        "model.path=runs/*",
        "hydra.launcher.partition=gpu",
    ]
    assert program.run("eval", ending_as_its_path_says, argv) == 2
    said = capsys.readouterr().err
    for number in range(3):
        assert f"Job {number + 1} of the sweep ended with exit code {number}" in said
    assert (workspace / "results" / ".slurm").is_dir()


@pytest.mark.slow
def test_sweep_over_nodes_gives_the_bytes_of_a_sweep_here(
    shell: Callable[[str, Path], Finished], tmp_path: Path
) -> None:
    options = "task=gqa data=demo limit=4 quantization=none,nf4 runner.num_threads=1"
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, launcher in ((here, ""), (there, " ".join(LOCAL[1:]))):
        folder.mkdir()
        finished = shell(f"python -m runners.eval -m {launcher} {options}", folder)
        assert finished.code == 0, finished.stderr
    runs = {path.name for path in (here / "results").iterdir()}
    assert len(runs) == 2
    for run in runs:
        for name in FILES:
            made = there / "results" / run / "gqa" / name
            assert made.read_bytes() == (here / "results" / run / "gqa" / name).read_bytes()
        manifest = json.loads((there / "results" / run / "gqa" / "manifest.json").read_text())
        assert "hydra/launcher=submitit_local" in manifest["environment"]["command"]


@pytest.mark.slow
def test_bad_job_of_a_launcher_does_not_stop_the_others(
    shell: Callable[[str, Path], Finished], tmp_path: Path
) -> None:
    command = (
        f"python -m runners.eval {' '.join(LOCAL)} task=gqa data=demo limit=4 "
        "model.path=/nowhere/llava-v1.5-a,llava-demo conversation=vicuna_v1"
    ).replace("llava-demo", str(CHECKOUT / "llava" / "demo" / "llava-demo"), 1)
    finished = shell(command, tmp_path)
    assert finished.code == 2, finished.stderr
    assert "Job 1 of the sweep ended with exit code 2" in finished.stderr
    assert "Job 2 of the sweep ended with exit code 0" in finished.stderr
