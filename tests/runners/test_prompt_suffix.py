"""The prompt suffix is an option like any other; configurations hold the tasks' own."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose
from hydra.utils import get_object

from evals.benchmark import Benchmark
from runners.options.build import default_spec, read_task_specs
from runners.options.eval import EvalConfig
from runners.options.help_text import render_help
from runners.options.mistakes import find_mistakes
from runners.options.task_spec import TaskSpec
from runners.options.words import quote_free_text
from tests.runners.conftest import Finished

TASKS = (
    *("gqa", "vqav2", "textvqa", "pope", "mme", "scienceqa", "seedbench", "vizwiz", "mmbench"),
    *("mmbench_cn", "ai2d", "chartqa", "docvqa", "infovqa", "okvqa"),
)


@pytest.mark.few_cases(4)
@pytest.mark.parametrize("task", TASKS)
def test_configured_suffix_is_the_default_of_the_task(task: str, composed: None) -> None:
    spec = compose("eval", overrides=[f"task={task}"]).tasks[task]
    parameters = inspect.signature(get_object(spec._target_)).parameters
    assert spec.prompt_suffix == parameters["prompt_suffix"].default


@pytest.mark.parametrize(
    "suffix", [" Say ${oc.env:HOME}?", r" Say \${x} or \\${y}", " It's ${", "", " a=[1], b"]
)
def test_suffix_reaches_the_task_as_it_is_typed(suffix: str, composed: None) -> None:
    words = quote_free_text(["task=gqa", f"tasks.gqa.prompt_suffix={suffix}"], EvalConfig)
    [spec] = read_task_specs(compose("eval", overrides=words)).values()
    stored = TaskSpec.from_json(json.loads(json.dumps(spec.to_json())))  # as a manifest keeps it
    for task in (spec.build(), stored.build()):
        assert isinstance(task, Benchmark)
        assert task.prompt_suffix == suffix


def test_suffix_that_is_shown_as_the_default_is_the_default(composed: None) -> None:
    shown = render_help("eval", EvalConfig, [f"task=[{','.join(TASKS)}]"])
    heads = re.findall(r"^  (\S+\.prompt_suffix=.+?)(?:  \(.*)?$", shown, re.MULTILINE)
    typed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {' '.join(heads)}"], capture_output=True, check=True
    )
    words = typed.stdout.decode().split("\0")[:-1]
    assert not find_mistakes(words, "eval", EvalConfig)
    options = quote_free_text([f"task=[{','.join(TASKS)}]", *words], EvalConfig)
    for key, spec in read_task_specs(compose("eval", overrides=options)).items():
        default = default_spec(key)
        assert default is not None
        assert spec.options["prompt_suffix"] == default.options["prompt_suffix"]
    assert len(words) == len(TASKS)


@pytest.mark.slow
def test_suffix_is_taken_as_it_is_typed(
    shell: Callable[[str, Path], Finished], demo_options: str, tmp_path: Path
) -> None:
    options = demo_options.replace("task=[gqa,vqav2]", "task=gqa")
    finished = shell(
        f"python -m runners.eval {options} limit=1 run=a "
        "tasks.gqa.prompt_suffix=' Say, well: ${oc.env:HOME}'",
        tmp_path,
    )
    assert finished.code == 0, finished.stderr
    [line] = finished.lines("results/a/gqa/predictions.jsonl")
    assert line["prompt"].endswith("? Say, well: ${oc.env:HOME}")
