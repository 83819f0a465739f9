"""The same bytes from a Ray cluster of one machine, an actor killed in between."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import runners.workers
from runners.build import build_workers
from runners.errors import ConfigError
from tests.runners.conftest import Finished

pytest.importorskip("ray")

Shell = Callable[[str, Path], Finished]
PROMISED = ("predictions.jsonl", "scores.jsonl")
FAULTY = "engine._target_=tests.faults.faulty_engine.FaultyEngine"


def content(folder: Path) -> dict[str, bytes]:
    return {
        f"{task}/{name}": (folder / task / name).read_bytes()
        for task in ("gqa", "vqav2")
        for name in PROMISED
    }


@pytest.mark.slow
def test_actor_killed_in_mid_run_costs_nothing(
    shell: Shell, demo_run: Finished, demo_options: str, tmp_path: Path
) -> None:
    options = demo_options.replace("engine=sequential", "engine=packed").replace(
        "runner.num_threads=1", "runner=ray runner.num_workers=2"
    )
    [question] = demo_run.lines("results/demo/gqa/predictions.jsonl")[:1]
    key = question["metadata"]["key"]
    fault = f"{FAULTY} +engine.fault=kill +engine.keys={key} +engine.once={tmp_path}/once"
    finished = shell(f"python -m runners.eval {options} run=ray {fault}", tmp_path)
    assert finished.code == 0, finished.stderr
    assert (tmp_path / "once").exists()
    assert content(tmp_path / "results/ray") == content(demo_run.workspace / "results/demo")
    workers = {line["worker"] for line in finished.lines("results/ray/gqa/trace.jsonl")}
    assert workers <= {"ray-0", "ray-1"}


@pytest.mark.slow
def test_poisonous_question_is_recorded_alone(
    shell: Shell, demo_run: Finished, demo_options: str, tmp_path: Path
) -> None:
    options = demo_options.replace("runner.num_threads=1", "runner=ray engine=packed").replace(
        "engine=sequential", ""
    )
    lines = demo_run.lines("results/demo/vqav2/predictions.jsonl")
    key = lines[3]["metadata"]["key"]
    fault = f"{FAULTY} +engine.fault=exit +engine.keys={key}"
    finished = shell(f"python -m runners.eval {options} task=vqav2 run=ray {fault}", tmp_path)
    assert finished.code == 1, finished.stderr
    summary = finished.json("results/ray/vqav2/summary.json")
    assert summary["num_failed"] == {"worker_died": 1}
    assert summary["num_answered"] == len(lines) - 1


def test_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "runners.workers.ray", raising=False)
    monkeypatch.delattr(runners.workers, "ray", raising=False)
    with pytest.raises(ConfigError, match=r"^runner=ray needs Ray.*pip install"):
        build_workers({"_target_": "runners.workers.ray.RayWorkers"})
