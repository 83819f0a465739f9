"""What may import what, and that every configuration composes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from runners.options.build import read_settings, read_task_specs
from runners.options.eval import EvalConfig
from runners.options.register import register
from runners.options.score import ScoreConfig

CHECKOUT = Path(__file__).parents[1]
PACKAGES = ("llava", "evals", "runners")
HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
CONFIGURATION = ("hydra", "omegaconf")
CONFIGS = sorted(
    path.relative_to(CHECKOUT / "conf") for path in (CHECKOUT / "conf").glob("*/*.yaml")
)


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (CHECKOUT / package).rglob("*.py"):
            parts = path.relative_to(CHECKOUT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at whatever place."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module


def users(package: str, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{name} imports {imported}"
        for name, path in MODULES.items()
        if name.split(".")[0] == package
        for imported in imports(path)
        if imported.split(".")[0] in forbidden
    ]


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("llava", ("evals", "runners", "conf", *CONFIGURATION)),
        ("evals", ("llava", "runners", "conf", *HEAVY, *CONFIGURATION)),
    ],
)
def test_packages_keep_to_their_layer(package: str, forbidden: tuple[str, ...]) -> None:
    assert users(package, forbidden) == []


def test_every_package_is_looked_at() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(PACKAGES)
    assert len(CONFIGS) > 20


def test_no_import_cycle() -> None:
    graph = {
        name: {imported for imported in imports(path) if imported in MODULES} - {name}
        for name, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for imported in graph[name]:
                visit(imported, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_importing_llava_imports_nothing() -> None:
    assert set(imports(MODULES["llava"])) <= {"__future__"}


@pytest.mark.parametrize(
    "module",
    [
        *(
            "runners.evaluation.course",
            "runners.score",
            "runners.options.program",
            "runners.submit",
            "runners.doctor",
        ),
        "runners.watch",
        *("runners.leaderboard", "runners.regress", "runners.report"),
    ],
)
def test_parent_process_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY[:1]} if name in sys.modules])"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "[]"


def test_no_module_lets_hydra_build_what_a_configuration_names() -> None:
    assert [name for name, path in MODULES.items() if "instantiate" in path.read_text()] == []


def test_composed_options_stay_at_the_border() -> None:
    """Beyond the first lines of a program, options have types of their own."""
    programs = {f"runners.{path.stem}" for path in (CHECKOUT / "runners").glob("*.py")}
    beyond = [
        name
        for name, path in MODULES.items()
        if name not in programs and not name.startswith("runners.options.")
        if {"omegaconf", "hydra"} & {imported.split(".")[0] for imported in imports(path)}
    ]
    assert beyond == []


@pytest.fixture(scope="module")
def composed() -> Iterator[None]:
    register()
    with initialize_config_module(version_base="1.3", config_module="conf"):
        yield


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_choice_composes(path: Path, composed: None) -> None:
    overrides = [f"{path.parent}={path.stem}"]
    if path.stem in ("checkpoint", "lora-sweep", "slurm-sweep"):
        overrides.append("model.path=x")
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
