"""Every benchmark runs from its configuration to its table, on small data in its own format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose

from llava.generation.request import Completion
from runners.errors import ConfigError
from runners.options.build import read_task_specs
from runners.options.task_spec import TaskSpec
from tests.evals.small_data import SMALL_DATA
from tests.runners.chat_server import ChatServer
from tests.runners.conftest import Finished, read_lines
from tests.runners.task_runs import ENVIRONMENT, IDENTITY, build_task_run

JUDGED = {
    "mmvet": {"judge": "j", "replies": "grades.json"},
    "llavabench": {"replies": "reviews.jsonl"},
}


def read_spec(name: str, data_dir: Path) -> TaskSpec:
    """How `runners.eval` would describe the task."""
    options: dict[str, Any] = {"data_dir": data_dir, **SMALL_DATA[name].options}
    for key, value in JUDGED.get(name, {}).items():
        options[key] = data_dir / value if key == "replies" else value
    overrides = [f"tasks.{name}.{key}={value}" for key, value in options.items()]
    [spec] = read_task_specs(compose("eval", overrides=[f"task={name}", *overrides])).values()
    return spec


@pytest.mark.parametrize("name", SMALL_DATA)
def test_right_answers_are_stored_and_get_the_best_score(
    name: str, composed: None, tmp_path: Path
) -> None:
    small = SMALL_DATA[name]
    small.write(tmp_path / "data")
    spec = read_spec(name, tmp_path / "data")
    with build_task_run(spec, tmp_path / "run", check_counts=False) as task_run:
        task_run.lock()
        task_run.check(IDENTITY)
        task_run.open()
        pending = task_run.pending()
        task_run.begin(IDENTITY, ENVIRONMENT)
        for number, (sample, text) in reversed(
            list(enumerate(zip(pending, small.right, strict=True)))
        ):
            assert [image.open().mode for image in sample.images]
            completion = Completion(
                key=sample.key,
                token_ids=(number,),
                text=text,
                finish_reason="stop",
                num_prompt_tokens=5,
                min_margin=None,
                latency_s=0.1,
            )
            task_run.record(sample, completion, worker="w")
        summary = task_run.finish(None)
    assert summary.metrics[summary.primary_metric] == small.perfect
    assert summary.coverage == 1
    lines = read_lines(tmp_path / "run" / name / "predictions.jsonl")
    assert [line["text"] for line in lines] == small.right


def test_tables_that_look_alike_have_a_folder_each(composed: None, tmp_path: Path) -> None:
    for folder in ("ai2d", "ai2d-no-mask", "elsewhere"):
        SMALL_DATA["ai2d"].write(tmp_path / folder)
    root = f"data.root={tmp_path}"
    for option, folder in {
        "split=test": "ai2d",
        "split=test_no_mask": "ai2d-no-mask",
        f"data_dir={tmp_path}/elsewhere": "elsewhere",
    }.items():
        words = [root, "task=ai2d", f"tasks.ai2d.{option}"]
        [spec] = read_task_specs(compose("eval", overrides=words)).values()
        files = spec.build().data_files()
        assert files
        assert all(path.is_relative_to(tmp_path / folder) for path in files)
    words = [root, "task=ai2d", "tasks.ai2d.split=val"]
    with pytest.raises(ConfigError, match="`split` of ai2d must be one of"):
        read_task_specs(compose("eval", overrides=words))


@pytest.fixture(scope="module")
def evaluated(
    shell: Callable[[str, Path], Finished],
    tmp_path_factory: pytest.TempPathFactory,
) -> Finished:
    """A run of every benchmark with the demo checkpoint: one load serves all."""
    workspace = tmp_path_factory.mktemp("every_task")
    options = []
    for name, small in SMALL_DATA.items():
        small.write(workspace / name)
        options += [f"tasks.{name}.data_dir={name}"]
        options += [f"tasks.{name}.{key}={value}" for key, value in small.options.items()]
    return shell(
        f"python -m runners.eval model=llava-demo task=[{','.join(SMALL_DATA)}] "
        f"{' '.join(options)} check_counts=false generation.max_new_tokens=4 "
        "runner.num_threads=1 run=r",
        workspace,
    )


@pytest.mark.slow
def test_benchmarks_run_through_the_program(evaluated: Finished) -> None:
    assert evaluated.code == 0, evaluated.stderr
    for name in SMALL_DATA:
        summary = evaluated.json(f"results/r/{name}/summary.json")
        assert summary["num_answered"] == summary["num_questions"] > 0
        assert name in evaluated.stdout
    assert evaluated.stderr.count("model loaded") == 1


@pytest.mark.slow
def test_judged_answers_are_graded_afterwards(
    evaluated: Finished, shell: Callable[[str, Path], Finished]
) -> None:
    pytest.importorskip("openai")
    with ChatServer() as server:
        command = "python -m runners.score run=r task=mmvet judge=openai judge.base_url="
        finished = shell(f"{command}{server.base_url}", evaluated.workspace)
    assert finished.code == 0, finished.stderr
    summary = evaluated.json("results/r/mmvet/summary.json")
    assert summary["metrics"]["score"] == 1.0
    assert "mmvet" in (evaluated.workspace / "results/r/summary.md").read_text()
    again = shell(
        "python -m runners.eval model=llava-demo task=mmvet tasks.mmvet.data_dir=mmvet "
        "check_counts=false generation.max_new_tokens=4 run=r",
        evaluated.workspace,
    )
    assert again.code == 0, again.stderr
    assert " 100.00 " in again.stdout
    assert "is not scored here" not in again.stderr


@pytest.mark.slow
def test_upload_is_made_of_the_run(
    evaluated: Finished, shell: Callable[[str, Path], Finished]
) -> None:
    command = "python -m runners.submit task=seedbench run=r output=up.jsonl allow_missing=true"
    finished = shell(command, evaluated.workspace)
    assert finished.code == 0, finished.stderr
    assert "3 questions listed, 3 answered" in finished.stdout


def test_benchmark_without_demo_data_is_named(composed: None, tmp_path: Path) -> None:
    words = ["data=demo", "task=[gqa,pope,mme]", f"tasks.mme.data_dir={tmp_path / 'mme'}"]
    with pytest.raises(ConfigError, match=r"for gqa, scienceqa, vqav2, but none for pope\. "):
        read_task_specs(compose("eval", overrides=words))
