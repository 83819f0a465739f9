"""The prompt suffix is an option like any other; configurations hold the tasks' own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import get_class

from runners.config import register
from tests.runners.conftest import Finished

TASKS = "gqa vqav2 textvqa pope mme scienceqa seedbench vizwiz mmbench mmbench_cn".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def composed() -> Iterator[None]:
    register()
    with initialize_config_module(version_base="1.3", config_module="conf"):
        yield


@pytest.mark.parametrize("task", TASKS)
def test_configured_suffix_is_the_default_of_the_task(task: str, composed: None) -> None:
    spec = compose("eval", overrides=[f"task={task}"]).tasks[task]
    parameters = inspect.signature(get_class(spec._target_).__init__).parameters
    assert spec.prompt_suffix == parameters["prompt_suffix"].default


def test_suffix_is_taken_as_it_is_typed(
    shell: Callable[[str, Path], Finished], demo_options: str, tmp_path: Path
) -> None:
    options = demo_options.replace("task=[gqa,vqav2]", "task=gqa")
    finished = shell(
        f"python -m runners.eval {options} limit=1 run=a tasks.gqa.prompt_suffix=' Say, well: x'",
        tmp_path,
    )
    assert finished.code == 0, finished.stderr
    [line] = finished.lines("results/a/gqa/predictions.jsonl")
    assert line["prompt"].endswith("? Say, well: x")
