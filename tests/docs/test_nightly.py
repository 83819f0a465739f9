"""The nightly job on the page on clusters, run for two nights as cron would."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import CHECKOUT
from tests.runners.conftest import program_environment

TEXT = (CHECKOUT / "docs" / "clusters.md").read_text(encoding="utf-8")
(SCRIPT,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
(HISTORY,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ASKED = "data=demo limit=12 conversation=vicuna_v1"
BASELINE = f"""/opt/llava/bin/llava-evals eval model=llava-demo task=[gqa,scienceqa] {ASKED} \\
  run=llava-v1.5-7b results_dir=/data/results"""


@pytest.mark.slow
def test_nightly_job_speaks_where_there_is_something_to_say(tmp_path: Path) -> None:
    demo = CHECKOUT / "llava" / "demo"
    for name in ("llava-demo-early", "clip-demo"):
        shutil.copytree(demo / name, tmp_path / "checkpoints" / name)
    starter = tmp_path / "bin" / "llava-evals"
    starter.parent.mkdir()
    starter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llava_evals "$@"\n')
    starter.chmod(0o755)
    environment = program_environment(tmp_path) | {"PYTHONPATH": str(CHECKOUT)}

    def run(script: str) -> subprocess.CompletedProcess[str]:
        here = script.replace("data.root=/data/benchmarks", f"{ASKED} quiet_s=0")
        here = here.replace("/opt/llava/bin", str(starter.parent)).replace("/data", str(tmp_path))
        return subprocess.run(
            ["sh", "-c", here],
            cwd="/",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    made = run(BASELINE)
    assert made.returncode == 0, made.stderr
    (tmp_path / "results" / "leaderboard.md").write_text("no run")
    first = run(SCRIPT)
    assert (first.returncode, first.stderr) == (0, "")
    assert len(first.stdout.splitlines()) == 1  # of the gate: 12 questions are too few to tell
    assert "llava-demo-early" in first.stdout
    second = run(SCRIPT)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    wrong = run(SCRIPT.replace("task=[", "tusk=["))
    assert wrong.returncode == 2
    assert json.loads(wrong.stderr)["level"] == "error"

    history = HISTORY.replace("/data", str(tmp_path))
    told = subprocess.run(
        [sys.executable, "-c", history], capture_output=True, text=True, check=True
    )
    (line,) = told.stdout.splitlines()
    assert "llava-demo-early" in line
