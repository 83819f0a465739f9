"""A benchmark's questions, with and without their images, and what is stored of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evals.benchmark import each
from evals.contract import BenchmarkError
from evals.errors import DataError
from evals.tasks.gqa import GQA
from evals.tasks.vqav2 import VQAv2
from runners.storage.specs import read_spec
from runners.storage.stored import StoredTask
from tests.checkpoints import LoadedModel
from tests.runners.in_training.conftest import ask


def test_object_may_be_stored(demo: LoadedModel, demo_root: Path, tmp_path: Path) -> None:
    task = GQA(data_dir=demo_root / "gqa", split="demo")
    ask(demo, [task], data=None, limit=4, output_dir=tmp_path / "run")
    stored = StoredTask(tmp_path / "run/gqa").finished()
    assert len(stored.scores) == 4
    again = read_spec(stored.manifest, tmp_path / "run/gqa").build()
    assert again.samples() == task.samples()


def test_answers_to_all_tasks_are_stored_where_the_scoring_of_one_breaks(
    demo: LoadedModel, demo_root: Path, tmp_path: Path
) -> None:
    task = replace(GQA(data_dir=demo_root / "gqa", split="demo"), judge=each(lambda *_: 2.0))
    other = VQAv2(data_dir=demo_root / "vqav2", split="demo")
    with pytest.raises(BenchmarkError, match=r"`judge` of evals\.tasks\.gqa gives 2\.0"):
        ask(demo, [task, other], data=None, limit=4, output_dir=tmp_path / "run")
    for name in ("gqa", "vqav2"):
        assert len((tmp_path / "run" / name / "predictions.jsonl").read_text().splitlines()) == 4


def test_questions_without_their_image_are_counted(
    tiny_model: LoadedModel, questions: Path
) -> None:
    spec = {
        "_target_": "evals.tasks.custom.Custom",
        "questions": str(questions),
        "images": str(questions.parent / "images"),
        "scorer": "exact",
    }
    summary = ask(tiny_model, spec, data=None, limit=None, generation={"max_new_tokens": 2})
    assert summary["custom"]["num_failed"] == {"image_missing": 1}
    assert summary["custom"]["coverage"] == 0.75


def test_missing_images_stop_it_before_the_model_is_asked(
    demo: LoadedModel, demo_root: Path, tmp_path: Path
) -> None:
    task = GQA(data_dir=tmp_path, split="demo")
    without_images = shutil.ignore_patterns("images")
    shutil.copytree(demo_root / "gqa" / "data", tmp_path / "data", ignore=without_images)
    with pytest.raises(DataError, match="no question about an image can be answered"):
        ask(demo, task, data=None)
