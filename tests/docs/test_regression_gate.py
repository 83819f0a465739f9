"""The page on the gate: its commands run, and its recipe runs what it says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from runners.options.program import run as run_program
from runners.regress import regress
from tests.runners.conftest import program_environment
from tests.runners.gated_runs import right, store

PAGE = Path(__file__).parents[2] / "docs" / "regression_gate.md"
TEXT = PAGE.read_text(encoding="utf-8")
OVERVIEW, LAST_LINE, ON_DROPS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
(WORKFLOW,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)

Shell = Callable[[str], int]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs commands beside two runs of two benchmarks, of which the candidate is no worse."""
    monkeypatch.chdir(tmp_path)
    for task in ("gqa", "pope"):
        for run in ("llava-v1.5-7b", "ckpt-2000"):
            store(run, task, right(600, 9))
    shutil.copytree("results/llava-v1.5-7b", "baselines/llava-v1.5-7b")

    def run(command: str) -> int:
        environment = program_environment(tmp_path)
        environment |= {"NAME": "ckpt-2000", "GITHUB_STEP_SUMMARY": "summary.md"}
        return subprocess.run(command, shell=True, env=environment, check=False).returncode

    return run


def replace_candidate(scores: list[float], **changes: object) -> None:
    shutil.rmtree("results/ckpt-2000")
    store("ckpt-2000", "gqa", scores, **changes)


@pytest.mark.parametrize("command", OVERVIEW.strip().splitlines())
def test_commands_run(command: str, shell: Shell) -> None:
    python, flag, program, *options = shlex.split(command)
    assert [python, flag, program] == ["python", "-m", "runners.regress"]
    assert run_program("regress", regress, options) == 0


@pytest.mark.slow
def test_training_script_ends_with_the_verdict(shell: Shell) -> None:
    evaluation, gate = LAST_LINE.split("&&")
    assert evaluation.startswith("python -m runners.eval ")
    replace_candidate(right(600, 60))
    assert shell(f"true && {gate}") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scores", "changes", "stops"),
    [
        ([*right(9), *right(591, 18)], {}, False),  # 9 gained, 18 lost: undecided
        (right(600, 60), {}, True),
        (right(600, 9), {"hashes": {"prompts": "q"}}, True),
    ],
)
def test_only_drops_and_refusals_stop_the_lenient_script(
    scores: list[float], changes: dict[str, object], stops: bool, shell: Shell
) -> None:
    replace_candidate(scores, **changes)
    assert (shell(ON_DROPS) != 0) == stops
    assert Path("verdict/verdict.json").exists() != bool(changes)


@pytest.mark.slow
def test_workflow_gates_on_what_a_baseline_in_the_repository_holds(shell: Shell) -> None:
    steps = yaml.safe_load(WORKFLOW)["jobs"]["gate"]["steps"]
    (command,) = [step["run"] for step in steps if "runners.regress" in step.get("run", "")]
    for path in Path("baselines").rglob("predictions.jsonl"):
        path.unlink()
    Path("results/ckpt-2000").rename("results/candidate")
    assert shell(command) == 0
    (summary,) = [step["run"] for step in steps if "STEP_SUMMARY" in step.get("run", "")]
    assert shell(summary) == 0
    assert "Pass" in Path("summary.md").read_text()
