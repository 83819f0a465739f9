from __future__ import annotations

import json
import logging
import os
import shutil
import time
from pathlib import Path

import pytest

from runners.in_training.watch_loop import Watch
from runners.options.model import ModelConfig
from runners.options.task_spec import TaskSpec
from runners.options.watch import WatchConfig
from runners.signals import Interruption
from tests.checkpoints import make_checkpoint
from tests.runners.conftest import Shell

NAMES = {"ünï", "${q}", "it's", "'x'", "null", "2026_11_27"}


@pytest.mark.slow
def test_checkpoint_is_evaluated_whatever_its_folder_is_called(
    shell: Shell, tmp_path: Path, tiny_tower: Path, tiny_checkpoint: Path
) -> None:
    for name in NAMES:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        for file in ("tokenizer.model", "tokenizer_config.json"):
            shutil.copy(tiny_checkpoint / file, folder)
        make_checkpoint(folder, tiny_tower)
    question = {"question_id": 1, "text": "What?"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(question))
    finished = shell(
        "python -m runners.watch dir=runs once=true quiet_s=0 conversation=vicuna_v1 "
        "task=custom tasks.custom.questions=questions.jsonl",
        tmp_path,
    )
    assert finished.code == 0, finished.stderr
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        f"{name}-vicuna_v1" for name in NAMES
    }


def visits(folder: Path, quiet_s: float, seconds: float) -> list[bool]:
    """Whether a half-written checkpoint was settled, at visits over so many seconds."""
    settings = WatchConfig(dir=str(folder.parent), model=ModelConfig(path="x"), quiet_s=quiet_s)
    watch = Watch(folder.parent, settings, {}, [], Interruption())
    settled = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        settled.append(watch._visit(folder))
        time.sleep(0.1)
    return settled


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("ahead_s", [3600.0, 30 * 86400.0])
def test_clock_that_runs_ahead_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ahead_s: float
) -> None:
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llava_ll')
    then = time.time() + ahead_s
    os.utime(folder / "config.json", (then, then))
    caplog.set_level(logging.INFO)
    settled = visits(folder, 0.5, 1.2)
    assert (settled[0], settled[-1]) == (False, True)
    assert caplog.text.count("ahead of this one's") == 1
    assert "config.json is not whole" in caplog.text


def test_long_waiting_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llava_ll')
    caplog.set_level(logging.INFO)
    assert not any(visits(folder, 60, 0.3))
    assert caplog.text.count("once it has not changed for 60 s") == 1


@pytest.mark.slow
def test_answers_of_another_run_are_named_once_and_not_tried_again(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    monkeypatch.setattr("runners.in_training.watch_loop.time.monotonic", lambda: now[0])
    monkeypatch.chdir(tmp_path)
    question = {"question_id": 1, "text": "What?"}
    (tmp_path / "q.jsonl").write_text(json.dumps(question))
    spec = TaskSpec(target="evals.tasks.custom.Custom", options={"questions": "q.jsonl"})
    settings = WatchConfig(
        dir=str(tiny_checkpoint.parent), model=ModelConfig(path="x"), quiet_s=0, results_dir="r"
    )
    words = ["task=custom", "tasks.custom.questions=q.jsonl", "results_dir=r", "canary=off"]

    def watched(settings: WatchConfig) -> Watch:
        specs = {"custom": spec}
        return Watch(tiny_checkpoint.parent, settings, specs, words, Interruption())

    assert watched(settings)._visit(tiny_checkpoint)
    settings.seed = 1
    other = watched(settings)
    for now[0] in (100, 161, 300, 1000):
        assert other._visit(tiny_checkpoint)
    assert caplog.text.count("holds answers of another run") == 1
    assert "`seed` is 0 there and 1 here" in caplog.text
    assert other._failed == {tiny_checkpoint}


@pytest.mark.slow
def test_failed_evaluation_is_tried_again_after_waits_that_double(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Here its questions are missing, which nothing that is watched tells."""
    now = [0.0]
    monkeypatch.setattr("runners.in_training.watch_loop.time.monotonic", lambda: now[0])
    monkeypatch.chdir(tmp_path)
    settings = WatchConfig(
        dir=str(tiny_checkpoint.parent), model=ModelConfig(path="x"), quiet_s=0, results_dir="r"
    )
    words = ["task=custom", "tasks.custom.questions=missing.jsonl", "dry_run=true"]
    watch = Watch(tiny_checkpoint.parent, settings, {}, words, Interruption())
    tried = []
    for now[0] in (0, 30, 61, 120, 182, 300, 423):
        assert watch._visit(tiny_checkpoint)
        tried.append(caplog.text.count("ended with exit code 2"))
    assert tried == [1, 1, 2, 2, 3, 3, 4]
    assert "tried again in 240 s" in caplog.text


@pytest.mark.slow
def test_figures_that_wandb_has_not_taken_are_sent_by_a_later_watch(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("wandb", reason="needs the extra `wandb`")
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "no key")  # which W&B refuses without asking anybody
    question = {"question_id": 1, "text": "What?", "answer": "it"}
    (tmp_path / "q.jsonl").write_text(json.dumps(question))
    options = {"questions": "q.jsonl", "scorer": "exact"}
    spec = TaskSpec(target="evals.tasks.custom.Custom", options=options)
    model = ModelConfig(path="x")
    settings = WatchConfig(
        dir=str(tiny_checkpoint.parent), model=model, quiet_s=0, results_dir="r", wandb="p"
    )
    words = ["task=custom", "tasks.custom.questions=q.jsonl", "tasks.custom.scorer=exact"]
    words += ["results_dir=r", "canary=off", "wandb=p"]
    failed = []
    for mode in ("online", "online", "offline", "offline"):
        monkeypatch.setenv("WANDB_MODE", mode)
        watch = Watch(tiny_checkpoint.parent, settings, {"custom": spec}, words, Interruption())
        assert watch._visit(tiny_checkpoint)
        failed.append(bool(watch._failed))
    assert failed == [True, True, False, False]
    assert caplog.text.count("evaluated as run") == 1
    assert caplog.text.count("evaluated before, as run") == 1
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1
