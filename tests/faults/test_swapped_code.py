"""Code that is changed between a run's beginning and a worker's loading is noticed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.test_swapped_weights import PROGRAM
from tests.runners.conftest import CHECKOUT, Finished


@pytest.mark.slow
def test_code_that_changes_before_a_worker_has_loaded_stops_the_run(
    shell: Callable[[str, Path], Finished], tmp_path: Path
) -> None:
    for name in ("llava", "evals", "runners", "conf", "llava_evals"):
        shutil.copytree(CHECKOUT / name, tmp_path / name)
    (tmp_path / "program.py").write_text(PROGRAM)
    other, code = tmp_path / "other.py", tmp_path / "evals/reading/images.py"
    other.write_text(code.read_text() + "# edited\n")
    options = "task=gqa data=demo data.demo.num_images=1 limit=3 run=r runner.num_threads=1"
    command = f"PYTHONPATH={tmp_path} python program.py {options} {other} {code}"
    finished = shell(command, tmp_path)
    assert finished.code == 2, finished.stderr
    assert "was changed while the run went on" in finished.stderr
    assert not (tmp_path / "results/r/gqa/predictions.jsonl").exists()
