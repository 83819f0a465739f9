"""The same bytes from a Ray cluster of one machine, an actor killed in between."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import runners.workers
from llava.generation.request import Completion, ImageProbe, Request, RequestFailure
from runners.errors import ConfigError
from runners.options.runner import RayOptions
from runners.workers.interface import build_workers
from tests.broken_checkpoints import edit_tensors
from tests.faults.faulty_engine import FaultyEngine
from tests.runners.conftest import Finished, Shell, promised_bytes

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra `ray`")

FAULTY, RAISING = "engine=faulty", "engine=raising"


class RaisingEngine(FaultyEngine):
    """Fails as an engine does whose device is lost: the error is not kept to one question.

    Args:
        parts: Of `FaultyEngine`.
        swap: Two files, separated by `+`; a fault puts the first in the second's place.
        probed: The question that fails when it is probed.
        options: Of `FaultyEngine`.
    """

    def __init__(self, *parts: Any, swap: str = "", probed: str = "", **options: Any) -> None:
        super().__init__(*parts, **options)
        self._swap = swap
        self._probed = probed

    def run(self, requests: Sequence[Request]) -> Iterator[Completion | RequestFailure]:
        if self._keys & {request.key for request in requests}:
            if self._swap:
                shutil.copyfile(*self._swap.split("+"))
            self._fail()
        return super().run(requests)

    def probe(self, request: Request) -> ImageProbe | RequestFailure:
        if request.key == self._probed:
            self._fail()
        return super().probe(request)


@pytest.fixture
def faulty(
    shell: Shell, demo_run: Finished, demo_options: str, tmp_path: Path
) -> Callable[..., Finished]:
    """Repeats the demo run on Ray with a fault, at most once, over its first GQA question."""
    options = demo_options.replace("engine=sequential", "").replace(
        "runner.num_threads=1", "runner=ray"
    )
    [question] = demo_run.lines("results/demo/gqa/predictions.jsonl")[:1]
    fault = f"engine.keys={question['metadata']['key']} engine.once={tmp_path}/once"

    def repeat(more: str, engine: str = FAULTY) -> Finished:
        command = f"python -m tests.faults.eval {options} {engine} run=ray {fault} {more}"
        finished = shell(command, tmp_path)
        assert (tmp_path / "once").exists()
        return finished

    return repeat


@needs_ray
@pytest.mark.alone
@pytest.mark.parametrize(
    ("engine", "fault", "told"),
    [
        (FAULTY, "kill runner.num_workers=2", ""),
        (FAULTY, "kill runner.num_workers=2 runner.max_restarts=0", "is gone for good"),
        (FAULTY, "hang runner.hang_s=4", "computes nothing and is started again"),
        (FAULTY, "freeze runner.hang_s=4", "computes nothing and is started again"),
        (RAISING, "raise", "The engine raised RuntimeError: a fault of the test."),
        # the other actor may be through with everything before this one is known to be gone
        (RAISING, "raise runner.num_workers=2 runner.max_restarts=0", "raised"),
    ],
    ids=["started again", "gone for good", "hung", "frozen", "raised", "raised for good"],
)
def test_actor_lost_in_mid_run_costs_nothing(
    faulty: Callable[..., Finished],
    demo_run: Finished,
    tmp_path: Path,
    engine: str,
    fault: str,
    told: str,
) -> None:
    finished = faulty(f"engine.fault={fault}", engine)
    assert finished.code == 0, finished.stderr
    assert told in finished.stderr
    assert promised_bytes(tmp_path / "results/ray") == promised_bytes(
        demo_run.workspace / "results/demo"
    )
    workers = {line["worker"] for line in finished.lines("results/ray/gqa/trace.jsonl")}
    assert workers <= {"ray-0", "ray-1"}


@needs_ray
@pytest.mark.alone
def test_loss_of_the_last_actor_ends_the_run_and_keeps_its_answers(
    faulty: Callable[..., Finished], demo_run: Finished, tmp_path: Path
) -> None:
    finished = faulty("engine.fault=kill runner.max_restarts=0")
    assert finished.code == 1
    assert "No actor is left on the Ray cluster. What was answered is stored" in finished.stderr
    finished = faulty("")
    assert finished.code == 0, finished.stderr
    assert promised_bytes(tmp_path / "results/ray") == promised_bytes(
        demo_run.workspace / "results/demo"
    )


@needs_ray
@pytest.mark.alone
def test_question_that_ends_every_actor_is_recorded_before_the_last_is_gone(
    shell: Shell, demo_run: Finished, demo_options: str, tmp_path: Path
) -> None:
    options = demo_options.replace("engine=sequential", FAULTY).replace(
        "runner.num_threads=1", "runner=ray runner.num_workers=2 runner.max_restarts=0"
    )
    [question] = demo_run.lines("results/demo/vqav2/predictions.jsonl")[:1]
    key = question["metadata"]["key"]
    fault = f"engine.fault=exit engine.keys={key}"
    command = f"python -m tests.faults.eval {options} task=vqav2 run=ray limit=1 canary=off {fault}"
    finished = shell(command, tmp_path)
    assert finished.code == 1, finished.stderr
    [line] = finished.lines("results/ray/vqav2/predictions.jsonl")
    assert line["metadata"]["error"]["cause"] == "worker_died"


@needs_ray
@pytest.mark.alone
@pytest.mark.parametrize(("runner", "trace"), [("ray", "RayTaskError"), ("local", "RemoteError")])
def test_checkpoint_that_cannot_be_loaded_is_told_with_its_place(
    shell: Shell, tiny_checkpoint: Path, tmp_path: Path, runner: str, trace: str
) -> None:
    broken = tmp_path / "llava-v1.5-broken"
    shutil.copytree(tiny_checkpoint, broken)
    config = json.loads((broken / "config.json").read_text())
    tower = tiny_checkpoint.parent / config["mm_vision_tower"]
    (broken / "config.json").write_text(json.dumps(config | {"mm_vision_tower": str(tower)}))
    edit_tensors(broken, lambda tensors: tensors.pop("model.norm.weight"))
    command = f"python -m runners.eval model.path={broken} data=demo data.demo.num_images=1"
    finished = shell(f"env HYDRA_FULL_ERROR=1 {command} runner={runner}", tmp_path)
    assert finished.code == 2, finished.stderr
    assert trace in finished.stderr
    assert "loading.py" in finished.stderr
    last = finished.stderr.rstrip().splitlines()[-1]
    assert last.startswith(f"{broken} lacks 1 of the ")


@needs_ray
@pytest.mark.alone
def test_actor_without_a_place_is_not_waited_for(
    shell: Shell, demo_run: Finished, demo_options: str, tmp_path: Path
) -> None:
    options = demo_options.replace("engine=sequential", "engine=packed")
    all_cores = f"runner.num_workers=2 runner.num_cpus={os.cpu_count()}"
    finished = shell(f"python -m runners.eval {options} run=ray runner=ray {all_cores}", tmp_path)
    assert finished.code == 0, finished.stderr
    assert promised_bytes(tmp_path / "results/ray") == promised_bytes(
        demo_run.workspace / "results/demo"
    )


@needs_ray
@pytest.mark.alone
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (f"{FAULTY} engine.fault=exit", "It was tried twice."),
        (f"{RAISING} engine.fault=raise", "The engine raised RuntimeError: a fault of the test."),
    ],
    ids=["exits", "raises"],
)
def test_poisonous_question_is_recorded_alone(
    shell: Shell, demo_run: Finished, demo_options: str, tmp_path: Path, fault: str, told: str
) -> None:
    options = demo_options.replace("runner.num_threads=1", "runner=ray").replace(
        "engine=sequential", ""
    )
    lines = demo_run.lines("results/demo/vqav2/predictions.jsonl")
    key = lines[3]["metadata"]["key"]
    command = f"python -m tests.faults.eval {options} task=vqav2 run=ray canary=off"
    finished = shell(f"{command} {fault} engine.keys={key}", tmp_path)
    assert finished.code == 1, finished.stderr
    summary = finished.json("results/ray/vqav2/summary.json")
    assert summary["num_failed"] == {"worker_died": 1}
    assert summary["num_answered"] == len(lines) - 1
    failures = [
        line
        for line in finished.lines("results/ray/vqav2/predictions.jsonl")
        if "error" in line["metadata"]
    ]
    assert told in failures[0]["metadata"]["error"]["message"]


@needs_ray
@pytest.mark.alone
@pytest.mark.parametrize("fault", ["exit", "raise"])
def test_actor_that_finds_other_weights_ends_the_run(
    shell: Shell,
    tiny_checkpoint: Path,
    demo_run: Finished,
    demo_options: str,
    tmp_path: Path,
    fault: str,
) -> None:
    tower = tiny_checkpoint.with_name("clip-tiny-56")
    shutil.copytree(tower, tmp_path / tower.name)
    folder = shutil.copytree(tiny_checkpoint, tmp_path / tiny_checkpoint.name)
    [weights] = folder.glob("*.safetensors")
    tensors = {name: tensor + 1 for name, tensor in load_file(weights).items()}
    save_file(tensors, tmp_path / "other.safetensors", metadata={"format": "pt"})
    options = demo_options.replace("engine=sequential", RAISING).replace(
        f"model.path={tiny_checkpoint}", f"model.path={folder}"
    )
    [question] = demo_run.lines("results/demo/gqa/predictions.jsonl")[:1]
    faulty = (
        f"engine.fault={fault} engine.keys={question['metadata']['key']} "
        f"engine.swap={tmp_path}/other.safetensors+{weights}"
    )
    finished = shell(f"python -m tests.faults.eval {options} run=ray runner=ray {faulty}", tmp_path)
    assert finished.code == 1, finished.stderr
    assert "ray-0 found other weights than the run began with" in finished.stderr


@needs_ray
@pytest.mark.alone
@pytest.mark.parametrize("fault", ["exit", "raise"])
def test_canary_goes_on_without_a_question_that_ends_actors(
    shell: Shell, demo_run: Finished, demo_options: str, tmp_path: Path, fault: str
) -> None:
    options = demo_options.replace("engine=sequential", RAISING)
    [first] = demo_run.lines("results/demo/vqav2/predictions.jsonl")[:1]
    faulty = f"engine.fault={fault} engine.probed={first['metadata']['key']}"
    command = f"python -m tests.faults.eval {options} task=vqav2 run=ray runner=ray {faulty}"
    finished = shell(command, tmp_path)
    assert finished.code == 0, finished.stderr
    assert "ray-0 is started again" in finished.stderr


def test_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "runners.workers.ray", raising=False)
    monkeypatch.delattr(runners.workers, "ray", raising=False)
    with pytest.raises(ConfigError, match=r"^runner=ray needs Ray.*pip install"):
        build_workers(RayOptions())
