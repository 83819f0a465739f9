"""The page on adding a benchmark, followed to the letter."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import evals.tasks
from evals.errors import DataError
from runners.options.task_spec import TaskSpec
from runners.scoring.score import score_lines

PAGE = Path(__file__).parents[2] / "docs" / "add_a_benchmark.md"


def code_block(language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return block


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The page's module where tasks lie, and the page's YAML with three questions behind it."""
    package = tmp_path / "tasks"
    package.mkdir()
    (package / "counting.py").write_text(code_block("python"), encoding="utf-8")
    data = tmp_path / "counting"
    (data / "images").mkdir(parents=True)
    records = [
        {"id": i, "image": f"{i}.png", "question": "How many?", "count": i} for i in (1, 2, 3)
    ]
    (data / "questions.json").write_text(json.dumps(records))
    for record in records:
        Image.new("RGB", (8, 8)).save(data / "images" / record["image"])
    evals.tasks.__path__.append(str(package))
    yield {**yaml.safe_load(code_block("yaml")), "data_dir": str(data)}
    evals.tasks.__path__.remove(str(package))
    sys.modules.pop("evals.tasks.counting", None)


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


def test_the_yaml_names_the_module() -> None:
    module, _, name = yaml.safe_load(code_block("yaml"))["_target_"].rpartition(".")
    assert module == "evals.tasks.counting"
    assert f"def {name}(" in code_block("python")
    assert not (Path(evals.tasks.__file__).parent / "counting.py").exists()
