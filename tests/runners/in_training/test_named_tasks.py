"""Benchmarks by name, as a mapping and as an object."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from evals.errors import DataError
from evals.tasks.gqa import GQA
from tests.checkpoints import LoadedModel
from tests.runners.in_training.conftest import answers_hash, ask


def test_tasks_may_be_names_mappings_and_objects(demo: LoadedModel, demo_root: Path) -> None:
    spec = {"_target_": "evals.tasks.gqa.GQA", "data_dir": str(demo_root / "gqa"), "split": "demo"}
    given = [spec, GQA(data_dir=demo_root / "gqa", split="demo")]
    hashes = {answers_hash(ask(demo, task, data=None, limit=4)) for task in given}
    assert hashes == {answers_hash(ask(demo, "gqa", limit=4))}


def test_data_root_is_where_named_benchmarks_lie(demo: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path / "gqa")):
        ask(demo, "gqa", data=None, data_root=tmp_path)


def test_something_else_than_a_benchmark_is_refused(demo: LoadedModel) -> None:
    with pytest.raises(TypeError, match="int"):
        ask(demo, [3])


def test_a_program_that_uses_hydra_keeps_its_state(demo: LoadedModel) -> None:
    with initialize_config_module(version_base="1.3", config_module="conf", job_name="mine"):
        ask(demo, limit=2)
        assert GlobalHydra.instance().is_initialized()
        assert compose("regress", overrides=["baseline=a", "candidate=b"]).baseline == "a"
