"""The page on adding a benchmark, followed to the letter."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import evals.tasks
from evals.errors import DataError
from runners.options.include import use_folders
from runners.options.task_spec import TaskSpec
from runners.scoring.score import score_lines
from tests.docs.composing import compose
from tests.runners.conftest import program_environment

PAGE = Path(__file__).parents[2] / "docs" / "add_a_benchmark.md"


def code_block(language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return block


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The page's files in a folder that is included, and the options with three questions."""
    folder, data = tmp_path / "mine", tmp_path / "counting"
    (folder / "task").mkdir(parents=True)
    (folder / "counting.py").write_text(code_block("python"), encoding="utf-8")
    (folder / "task" / "counting.yaml").write_text(code_block("yaml"), encoding="utf-8")
    (data / "images").mkdir(parents=True)
    records = [
        {"id": i, "image": f"{i}.png", "question": "How many?", "count": i} for i in (1, 2, 3)
    ]
    (data / "questions.json").write_text(json.dumps(records))
    for record in records:
        Image.new("RGB", (8, 8)).save(data / "images" / record["image"])
    use_folders([folder])
    yield {**yaml.safe_load(code_block("yaml")), "data_dir": str(data)}
    use_folders([])


def test_the_two_files_are_a_benchmark(spec: dict[str, Any]) -> None:
    task = TaskSpec.from_json(spec).build()
    samples = task.samples()
    assert [sample.key for sample in samples] == ["1", "2", "3"]
    assert samples[0].images[0].exists()
    lines = [
        {"question_id": i, "prompt": "", "text": text, "metadata": {"key": str(i)}}
        for i, text in ((1, "1"), (2, "two"))
    ]
    summary, scores = score_lines(task, lines, len(samples))
    assert [score.value for score in scores] == [1.0, 0.0, 0.0]
    assert summary.to_json()["metrics"] == {"accuracy": pytest.approx(1 / 3)}
    assert task.match([{"question_id": "3", "text": "3.", "prompt": ""}])["3"].text == "3."


def test_its_broken_files_are_named(spec: dict[str, Any]) -> None:
    path = Path(spec["data_dir"]) / "questions.json"
    path.write_text('[{"id": 1, "image": "1.png", "question": "How many?"}]')
    with pytest.raises(DataError, match=r"questions\.json entry 1.*count"):
        TaskSpec.from_json(spec).build().samples()


def test_the_same_files_are_a_benchmark_of_the_project(spec: dict[str, Any]) -> None:
    """In `evals.tasks` and under its name there, as the page says last."""
    folder = str(Path(spec["data_dir"]).parent / "mine")
    evals.tasks.__path__.append(folder)
    try:
        spec["_target_"] = "evals.tasks.counting.Counting"
        assert spec["_target_"] in PAGE.read_text(encoding="utf-8")
        assert len(TaskSpec.from_json(spec).build().samples()) == 3
    finally:
        evals.tasks.__path__.remove(folder)
        sys.modules.pop("evals.tasks.counting", None)


@pytest.fixture
def command() -> str:
    """The page's command, without the program."""
    [line] = re.findall(r"```bash\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return line.removeprefix("llava-evals eval ")


def test_the_command_finds_it(
    spec: dict[str, Any], command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    compose("eval", shlex.split(command))


@pytest.mark.slow
def test_the_command_runs_it(
    spec: dict[str, Any], command: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    def shell(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "llava_evals", *shlex.split(line)],
            cwd=tmp_path,
            env=program_environment(tmp_path / "cache"),
            capture_output=True,
            text=True,
            check=False,
        )

    command = command.replace("model=llava-v1.5-7b", f"model.path={tiny_checkpoint} run=r")
    done = shell(f"eval {command} tasks.counting.max_new_tokens=2 data.root=. canary=off")
    assert done.returncode == 0, done.stderr
    assert "counting  test accuracy" in done.stdout
    # Whoever reads the run names the folder again.
    refused = shell("score run=r")
    assert refused.returncode == 2
    assert "Name its folder with include=DIR" in refused.stderr
    again = shell("score run=r include=mine")
    assert (again.returncode, again.stdout.strip()) == (0, done.stdout.strip())
