"""Scoring reads each of a benchmark's files once."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from evals.benchmark import Benchmark
from evals.demo import ensure_demo_data
from evals.tasks.custom import Custom
from evals.tasks.gqa import GQA
from evals.tasks.scienceqa import ScienceQA
from evals.tasks.vqav2 import VQAv2
from runners.options import program
from runners.score import score
from tests.evals.small_data import SMALL_DATA, put_lines

DEMO_TASKS: dict[str, Callable[..., Benchmark]] = {
    "gqa": GQA,
    "scienceqa": ScienceQA,
    "vqav2": VQAv2,
}
ONLY_FOR_PROMPTS = {"TextVQA_Rosetta_OCR_v0.2_val.json"}

pytestmark = pytest.mark.usefixtures("in_own_folder")


class Readings:
    """Counts how often this package's readers open a file; hashing is another matter."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.folder = ""
        sys.addaudithook(self._count)  # stays for good, but counts only below `folder`

    def _count(self, event: str, given: tuple[Any, ...]) -> None:
        is_near = event == "open" and self.folder and str(given[0]).startswith(self.folder)
        if is_near and _is_reader(sys._getframe(1)):
            self.counts[str(given[0])] += 1


def _is_reader(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("evals.reading"):
            return True
        frame = frame.f_back
    return False


@pytest.fixture(scope="module")
def readings() -> Readings:
    return Readings()


@pytest.fixture(
    params=[
        *(*DEMO_TASKS, "custom", "mmbench", "mme", "pope", "seedbench", "textvqa", "vizwiz"),
        *("chartqa", "docvqa", "infovqa", "okvqa"),
    ]
)
def case(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Path, list[str]]:
    """The options that name a benchmark, its folder, and its files."""
    name = request.param
    folder = tmp_path / name
    given: dict[str, Any] = {"data_dir": folder}
    if name in DEMO_TASKS:
        demo_root = ensure_demo_data(tmp_path_factory.getbasetemp() / "demo", num_images=1)
        shutil.copytree(demo_root / name, folder)
        build, given = DEMO_TASKS[name], {**given, "split": "demo"}
    elif name == "custom":
        build, given = Custom, {"questions": folder / "own.jsonl", "scorer": "exact"}
        folder.mkdir()
        put_lines(folder / "own.jsonl", [{"question_id": 1, "text": "Which?", "answer": "A"}])
    else:
        data = SMALL_DATA[name]
        data.write(folder)
        build, given = data.build, {**given, **data.options}
    task = build(**given)
    lines = [
        {"question_id": sample.question_id, "prompt": sample.prompt, "text": "A"}
        for sample in task.samples()
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "answers.jsonl").write_text(text)
    options = [f"tasks.{name}.{option}={value}" for option, value in given.items()]
    return [f"task={name}", *options], folder, list(map(str, task.data_files()))


@pytest.mark.few_cases(3)
@pytest.mark.parametrize("output", ["output=out", "run=r"])
def test_each_file_is_read_once(
    case: tuple[list[str], Path, list[str]], output: str, readings: Readings, tmp_path: Path
) -> None:
    options, folder, paths = case
    argv = [*options, f"predictions={tmp_path}/answers.jsonl", output]
    readings.counts.clear()
    readings.folder = str(folder)
    try:
        assert program.run("score", score, argv) == 0
    finally:
        readings.folder = ""
    if output.startswith("output="):  # no question is put again
        paths = [path for path in paths if Path(path).name not in ONLY_FOR_PROMPTS]
    assert readings.counts == dict.fromkeys(paths, 1)
    assert paths
