"""Files of a model that are overwritten between a run's beginning and the loading are noticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.runners.conftest import Finished

PROGRAM = """
import sys
from pathlib import Path

from runners.evaluation.checkpoint import Subject

load_order = Subject.load_order

if __name__ == "__main__":
    import runners.eval

    other, weights = map(Path, sys.argv[-2:])
    sys.argv[-2:] = []

    def swap(subject, *arguments, **options):
        weights.write_bytes(other.read_bytes())
        return load_order(subject, *arguments, **options)

    Subject.load_order = swap
    runners.eval.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights of the checkpoint", "preprocessor_config.json"])
def test_files_that_change_before_they_are_loaded_stop_the_run(
    name: str, shell: Callable[[str, Path], Finished], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    tower = tiny_checkpoint.with_name("clip-tiny-56")
    shutil.copytree(tower, tmp_path / tower.name)
    folder = shutil.copytree(tiny_checkpoint, tmp_path / tiny_checkpoint.name)
    other = tmp_path / "other"
    if name.startswith("weights"):
        [swapped] = folder.glob("*.safetensors")
        tensors = {name: tensor + 1 for name, tensor in load_file(swapped).items()}
        save_file(tensors, other, metadata={"format": "pt"})
    else:
        swapped = tmp_path / tower.name / name
        other.write_text(json.dumps(json.loads(swapped.read_text()) | {"image_mean": [0.9, 0, 0]}))
    (tmp_path / "program.py").write_text(PROGRAM)
    options = (
        f"model=checkpoint model.path={folder} task=gqa data=demo data.demo.num_images=1 limit=3 "
        "generation.max_new_tokens=2 runner.num_threads=1"
    )
    assert shell(f"python -m runners.eval {options} run=before", tmp_path).code == 0
    swap = f"{other} {swapped}"
    finished = shell(f"python program.py {options} run=after {swap}", tmp_path)
    assert finished.code == 2, finished.stderr
    assert "were written to while this run began" in finished.stderr
    assert name in finished.stderr
    assert not (tmp_path / "results/after/gqa/predictions.jsonl").exists()


@pytest.mark.parametrize("threshold", ["nan", "-1"])
def test_threshold_that_compares_with_nothing_is_refused(
    threshold: str, call: Callable[[str, Path], Finished], tmp_path: Path
) -> None:
    finished = call(f"python -m runners.eval engine.near_tie_threshold={threshold}", tmp_path)
    assert finished.code == 2
