"""What `tests.house` does not say of imports, and that every configuration composes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose
from omegaconf import OmegaConf

from runners.options.build import read_settings, read_task_specs
from runners.options.eval import EvalConfig
from runners.options.score import ScoreConfig
from tests.house import CHECKOUT, PACKAGES, inside, modules, room

CONFIGS = sorted(
    path.relative_to(CHECKOUT / "conf") for path in (CHECKOUT / "conf").glob("*/*.yaml")
)
TORCH_FREE = (
    "runners.options",
    "runners.storage",
    "runners.scoring",
    "runners.views",
    *(f"runners.{program}" for program in ("eval", "score", "submit", "doctor", "watch")),
    *(f"runners.{program}" for program in ("leaderboard", "regress", "report", "view", "command")),
)
"""Rooms and programs whose process never has torch in it."""


def test_every_package_is_looked_at() -> None:
    assert {name.split(".")[0] for name in modules()} == set(PACKAGES)
    assert len(CONFIGS) > 20


def test_no_import_cycle() -> None:
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for imported in {*modules()[name].imports} & modules().keys() - {name}:
                visit(imported, (*trail, name))
            done.add(name)

    for name in modules():
        visit(name, ())


def test_importing_llava_imports_nothing() -> None:
    assert set(modules()["llava"].imports) <= {"__future__"}


def test_parent_process_imports_no_torch() -> None:
    names = [name for place in TORCH_FREE for name in inside(place)]
    assert len(names) > len(TORCH_FREE)
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(f'{name} imports torch')\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_no_module_lets_hydra_build_what_a_configuration_names() -> None:
    assert [name for name, module in modules().items() if "instantiate" in module.text] == []


def test_composed_options_stay_at_the_border() -> None:
    """Beyond the first lines of a program, options have types of their own."""
    beyond = [
        name
        for name, module in modules().items()
        if room(name) not in ("runners.options", "runners.programs") and name != "runners.view"
        if {"omegaconf", "hydra"} & {imported.split(".")[0] for imported in module.imports}
    ]
    assert beyond == []


def test_only_experiments_say_that_they_are_sweeps() -> None:
    """The fixture `composed_once` relies on it."""
    modes = {
        path.relative_to(CHECKOUT / "conf").parent.name
        for path in (CHECKOUT / "conf").rglob("*.yaml")
        if OmegaConf.select(OmegaConf.load(path), "hydra.mode") is not None
    }
    assert modes == {"experiment"}


@pytest.mark.few_cases(12)
@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_choice_composes(path: Path, composed: None) -> None:
    overrides = [f"{path.parent}={path.stem}"]
    if path.stem in ("checkpoint", "lora-sweep", "slurm-sweep"):
        overrides.append("model.path=x")
    if path.stem == "slurm-sweep":
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    if path.parent.name == "judge":  # the only group that an evaluation does not know
        assert read_settings(compose("score", overrides=overrides), ScoreConfig).judge.name
        return
    config = compose("eval", overrides=overrides)
    if path.stem == "custom":
        config.tasks.custom.questions = "questions.jsonl"
    settings = read_settings(config, EvalConfig)
    assert settings.tasks


@pytest.mark.parametrize("task", ["gqa", "vqav2", "scienceqa", "custom"])
def test_every_task_is_built_from_its_configuration(task: str, composed: None) -> None:
    config = compose("eval", overrides=[f"task={task}"])
    if task == "custom":
        config.tasks.custom.questions = "questions.jsonl"
    [spec] = read_task_specs(config).values()
    assert spec.build().name == task


def test_a_benchmark_never_falls_back_to_demo_data(composed: None) -> None:
    config = compose("eval", overrides=["task=gqa"])
    tasks = OmegaConf.to_container(config.tasks, resolve=True)
    assert tasks["gqa"]["data_dir"] == "playground/data/eval/gqa"
    assert tasks["gqa"]["split"] == "testdev_balanced"


def test_demo_suite_reads_demo_data(composed: None) -> None:
    config = compose("eval")
    assert list(config.tasks) == ["vqav2", "gqa", "scienceqa"]
    assert {config.tasks[name].split for name in config.tasks} == {"demo"}


def test_configuration_files_are_short() -> None:
    long = [
        path for path in CONFIGS if len((CHECKOUT / "conf" / path).read_text().split("\n")) > 20
    ]
    assert long == []
