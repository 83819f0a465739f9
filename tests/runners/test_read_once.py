"""Scoring reads each of a benchmark's files once."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from evals.demo import ensure_demo_data
from evals.tasks.gqa import GQA
from evals.tasks.seedbench import SeedBench
from evals.tasks.vqav2 import VQAv2
from runners.options import program
from runners.score import score
from tests.evals.small_data import write_seedbench

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
            self.counts[Path(given[0]).name] += 1


def _is_reader(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("evals.reading"):
            return True
        frame = frame.f_back
    return False


@pytest.fixture(scope="module")
def readings() -> Readings:
    return Readings()


@pytest.fixture(params=["seedbench", "vqav2", "gqa"])
def case(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Path, list[str]]:
    """The options that name a benchmark, its folder, and the names of its files."""
    name = request.param
    if name == "seedbench":
        write_seedbench(tmp_path / name)
        task = SeedBench(data_dir=tmp_path / name)
    else:
        demo_root = ensure_demo_data(tmp_path_factory.getbasetemp() / "demo", num_images=1)
        shutil.copytree(demo_root / name, tmp_path / name)
        build = VQAv2 if name == "vqav2" else GQA
        task = build(data_dir=tmp_path / name, split="demo")
    lines = [
        {"question_id": sample.question_id, "prompt": sample.prompt, "text": "A"}
        for sample in task.samples()
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "answers.jsonl").write_text(text)
    options = [f"task={name}", f"tasks.{name}.data_dir={tmp_path / name}"]
    if name != "seedbench":
        options.append(f"tasks.{name}.split=demo")
    return options, tmp_path / name, sorted(path.name for path in task.data_files())


@pytest.mark.parametrize("output", ["output=out", "run=r"])
def test_each_file_is_read_once(
    case: tuple[list[str], Path, list[str]], output: str, readings: Readings, tmp_path: Path
) -> None:
    options, folder, names = case
    argv = [*options, f"predictions={tmp_path}/answers.jsonl", output]
    readings.counts.clear()
    readings.folder = str(folder)
    try:
        assert program.run("score", score, argv) == 0
    finally:
        readings.folder = ""
    assert readings.counts == dict.fromkeys(names, 1)
    assert names
