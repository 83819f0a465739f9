"""The page on adding a benchmark, followed to the letter."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import evals.tasks
from evals.figures.metrics import mean_figures, mean_of_all
from evals.records import Score
from runners.options.task_spec import TaskSpec
from runners.scoring.score import score_lines
from tests.evals.small_files import put_image, put_json
from tests.runners.conftest import program_environment

CHECKOUT = Path(__file__).parents[2]
TEXT = (CHECKOUT / "docs/add_a_benchmark.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(
    re.findall(r"^`([\w/.]+)`[^`]*?:\n\n```\w+\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
)
MODULE, YAML, TEST = FILES


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the page's three files, each where the page says."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("evals", "conf", "tests"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("llava", "llava_evals", "runners", "conftest.py", "pyproject.toml"):
        (copy / name).symlink_to(CHECKOUT / name)
    for name, content in FILES.items():
        assert not (copy / name).exists()
        (copy / name).write_text(content, encoding="utf-8")
    return copy


def run_in(checkout: Path, *words: str) -> None:
    environment = program_environment(checkout / "cache") | {"PYTHONPATH": str(checkout)}
    finished = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.slow
def test_its_test_passes(checkout: Path) -> None:
    """And so does the one that asks of every benchmark where it lies on the hub."""
    everywhere = "tests/evals/tasks/test_hub_places.py"
    run_in(checkout, "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", TEST, everywhere)


def test_its_files_are_formatted_and_linted(checkout: Path) -> None:
    run_in(checkout, "ruff", "format", "--check", MODULE, TEST)
    run_in(checkout, "ruff", "check", MODULE, TEST)


@pytest.mark.slow
def test_its_module_has_types(checkout: Path) -> None:
    run_in(checkout, "mypy", MODULE)


def test_the_yaml_names_the_constructor_with_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = yaml.safe_load(FILES[YAML])
    (tmp_path / Path(MODULE).name).write_text(FILES[MODULE], encoding="utf-8")
    monkeypatch.setattr(evals.tasks, "__path__", [*evals.tasks.__path__, str(tmp_path)])
    importlib.import_module("evals.tasks.counting")
    monkeypatch.delitem(sys.modules, "evals.tasks.counting")
    shared = {"place": "indoors", "question": "How many?"}
    put_json(tmp_path / "questions.json", [shared | {"id": i, "count": i} for i in (1, 2, 3)])
    put_image(tmp_path / "images/1.png", 1)
    task = TaskSpec.from_json({**options, "data_dir": str(tmp_path), "source": "files"}).build()
    samples = task.samples()
    assert [sample.key for sample in samples] == ["1", "2", "3"]
    assert [sample.images[0].exists() for sample in samples] == [True, False, False]
    lines = [
        {"question_id": i, "prompt": "", "text": text, "metadata": {"key": str(i)}}
        for i, text in ((1, "1"), (2, "two"))
    ]
    summary, scores = score_lines(task, lines, len(samples))
    assert [score.value for score in scores] == [1.0, 0.0, 0.0]
    assert summary.to_json()["metrics"] == {"accuracy": pytest.approx(1 / 3)}


@pytest.mark.parametrize(("places", "figure"), [("iio", 0.75), ("ii", None)])
def test_figure_of_groups_is_none_where_one_is_missing(places: str, figure: float | None) -> None:
    (block,) = re.findall(r"```python\n(figures = .*?)```", TEXT, re.DOTALL)
    names = {"i": "indoors", "o": "outdoors"}
    scores = [
        Score(
            key=str(n),
            question_id=n,
            cluster=str(n),
            value=float(n != 0),
            answer="",
            answered=True,
            groups={"place": names[place]},
        )
        for n, place in enumerate(places)
    ]
    scope: dict[str, Any] = {"scores": scores, "replace": replace}
    scope |= {"mean_figures": mean_figures, "mean_of_all": mean_of_all}
    exec(block, scope)
    assert scope["figures"].metrics["accuracy_by_place"] == figure
