"""A model that is there already: the figures and files of the program, options and faults."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import runners
from llava.errors import ConversationError
from runners.errors import ConfigError
from runners.storage.identity import check_identity
from runners.storage.lock import FolderLock
from runners.storage.stored import StoredTask
from tests.checkpoints import LoadedModel
from tests.runners.conftest import CHECKOUT, Finished, Shell, read_lines
from tests.runners.in_training.conftest import LIMIT, answers_hash, ask

TASKS = ("vqav2", "gqa", "scienceqa")


@pytest.fixture(scope="module")
def program(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same questions, asked by the program."""
    command = f"python -m runners.eval model=llava-demo limit={LIMIT} device=cpu run=program"
    finished = shell(command, tmp_path_factory.mktemp("program"))
    assert finished.code == 0, finished.stderr
    return finished


def test_summaries_and_files_are_those_of_the_program(
    demo: LoadedModel, program: Finished, tmp_path: Path
) -> None:
    summaries = ask(demo, "demo", data=None, output_dir=tmp_path / "here")
    assert set(summaries) == set(TASKS)
    for task in TASKS:
        expected = program.json(f"results/program/{task}/summary.json")
        # JSON knows no tuples
        interval = summaries[task]["interval"]
        got = {**summaries[task], "interval": interval and list(interval)}
        assert got | {"timing": None} == expected | {"timing": None}
        for file in ("predictions.jsonl", "scores.jsonl"):
            there = program.workspace / "results/program" / task / file
            assert (tmp_path / "here" / task / file).read_bytes() == there.read_bytes()


@pytest.mark.slow
def test_stored_run_is_one_for_the_other_programs(
    demo: LoadedModel, program: Finished, shell: Shell, tmp_path: Path
) -> None:
    summaries = ask(demo, output_dir=tmp_path / "results" / "step-500")
    stored = StoredTask(tmp_path / "results/step-500/gqa").finished()
    assert len(stored.scores) == LIMIT
    assert stored.manifest.identity["dtype"] == "float32"
    assert stored.manifest.identity["conversation"] == "vicuna_v1"
    rescored = shell("python -m runners.score run=step-500", tmp_path)
    assert rescored.code == 0, rescored.stderr
    assert (
        rescored.json("results/step-500/gqa/summary.json")["metrics"]
        == (summaries["gqa"]["metrics"])
    )
    # no other model goes on with it
    other = program.json("results/program/gqa/manifest.json")["identity"]
    with pytest.raises(ConfigError, match="in_process"):
        check_identity(tmp_path, stored.manifest.identity, other)


def test_earlier_evaluation_in_a_folder_is_set_aside(demo: LoadedModel, tmp_path: Path) -> None:
    for limit in (3, 2):
        ask(demo, output_dir=tmp_path / "run", limit=limit)
    assert len(read_lines(tmp_path / "run/gqa/predictions.jsonl")) == 2
    assert len(read_lines(tmp_path / "run/gqa.old-1/predictions.jsonl")) == 3


def test_folder_of_another_process_is_refused_before_anything_is_asked(
    demo: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its refusal at the end would cost all the answers."""

    def ask_nothing(*_: object) -> None:
        pytest.fail("questions were asked")

    monkeypatch.setattr("runners.in_training.evaluate.answer_task", ask_nothing)
    with FolderLock(tmp_path / "run/gqa"), pytest.raises(ConfigError, match="another process"):
        ask(demo, output_dir=tmp_path / "run", limit=2)


def test_identity_tells_weights_apart(fresh: LoadedModel, tmp_path: Path) -> None:
    ask(fresh, output_dir=tmp_path / "before", limit=2)
    with torch.no_grad():
        fresh.model.lm_head.weight[0, 0] += 1e-6
    ask(fresh, output_dir=tmp_path / "after", limit=2)
    stored = [StoredTask(tmp_path / run / "gqa").finished() for run in ("before", "after")]
    before, after = (task.manifest.identity for task in stored)
    assert before["in_process"] != after["in_process"]


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("engine", ["sequential", {"max_rows": 2}, {"replay": "all"}])
def test_engine_changes_no_answer(demo: LoadedModel, engine: Any) -> None:
    assert answers_hash(ask(demo, engine=engine, limit=12)) == answers_hash(ask(demo, limit=12))


def test_generation_options_are_those_of_the_program(demo: LoadedModel, tmp_path: Path) -> None:
    ask(demo, limit=2, generation={"max_new_tokens": 1}, output_dir=tmp_path / "run")
    lines = read_lines(tmp_path / "run/gqa/predictions.jsonl")
    assert {line["metadata"]["num_new_tokens"] for line in lines} == {1}


def test_template_is_told_from_the_models_name(tiny_model: LoadedModel) -> None:
    by_name = ask(tiny_model, conversation=None, model_name="llava-v1.5-mine", limit=2)
    by_path = ask(tiny_model, conversation=None, model_name=None, limit=2)
    assert by_name["gqa"]["coverage"] == by_path["gqa"]["coverage"] == 1
    with pytest.raises(ConversationError, match="vicuna_v1"):
        ask(demo_like(tiny_model), conversation=None, model_name="mine", limit=2)


def demo_like(loaded: LoadedModel) -> LoadedModel:
    """The same model with a configuration that names nothing known."""
    model = copy.copy(loaded.model)
    model.config = copy.copy(loaded.model.config)
    model.config._name_or_path = "mine"
    return loaded._replace(model=model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "gqq"}, "task/gqq"),
        ({"tasks": []}, "`tasks` must name"),
        ({"tasks": ["gqa", {"_target_": "evals.tasks.gqa.GQA", "data_dir": "x"}]}, "each .* once"),
        ({"tasks": {"_target_": "os.system"}}, "evals.tasks"),
        ({"limit": 0}, "`limit`"),
        ({"engine": "fast"}, "engine/fast"),
        ({"engine": {"replay": "never"}}, "`engine.replay`"),
        ({"generation": {"temprature": 1}}, "temprature"),
        ({"autocast": "int8"}, "`autocast`"),
        ({"data_root": "/data"}, "`data_root`"),
    ],
)
def test_wrong_options_are_named(demo: LoadedModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ask(demo, options.pop("tasks", "gqa"), **options)


@pytest.mark.slow
def test_evaluation_in_training_lets_no_library_talk() -> None:
    """As bitsandbytes does of kernels that it lacks, once peft imports it."""
    code = (
        "import runners, torch; from tests.demo_questions import load_demo\n"
        "demo = load_demo(torch.float32)\n"
        "runners.evaluate(demo.model, demo.tokenizer, demo.image_processor, 'gqa', data='demo', "
        "limit=2, conversation='vicuna_v1', quiet=True)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert finished.stdout == ""
    assert "Failed to load" not in finished.stderr


def test_importing_the_package_imports_nothing() -> None:
    code = "import sys, runners; print([n for n in ('torch', 'hydra') if n in sys.modules])"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="evaluat"):
        runners.evaluat  # noqa: B018 - the access is what is tested
