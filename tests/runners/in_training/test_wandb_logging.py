"""A stored run in a W&B project: its figures, and what is said where W&B does not take them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from omegaconf import DictConfig

from runners import eval as program
from runners.errors import ConfigError
from runners.in_training import wandb_logging
from runners.in_training.wandb_logging import is_sent, log_to_project
from runners.options import program as options
from runners.options.eval import EvalConfig
from runners.options.task_spec import TaskSpec
from tests.runners.synthetic_runs import scores_of_mean, write_task


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path / "results" / "A", "gqa", scores_of_mean(0.5, 8))
    return tmp_path / "results" / "A"


@pytest.mark.slow
def test_run_goes_to_its_project(
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    offline_wandb: ModuleType,
) -> None:
    begun: list[Any] = []
    logged: list[Mapping[str, Any]] = []
    init = offline_wandb.init

    def remember(**given: Any) -> Any:
        begun.append(init(**given))
        return begun[-1]

    def note(_run: Any, values: Mapping[str, Any], step: int | None = None) -> None:
        logged.append(values)

    monkeypatch.setattr(offline_wandb, "init", remember)
    monkeypatch.setattr(offline_wandb.Run, "log", note)
    assert log_to_project(run_dir, "team/llava", quiet=True) == 0
    [run] = begun
    assert (run.entity, run.project, run.name) == ("team", "llava", "A")
    assert logged[0]["eval/gqa/accuracy"] == 0.5
    assert run.config["eval"]["run"] == "A"
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_figures_of_other_answers_are_not_sent(
    run_dir: Path, offline_wandb: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_task(run_dir, "pope", scores_of_mean(0.25, 4))
    answers = folder / "predictions.jsonl"
    answers.write_text(answers.read_text().replace('"yes"', '"no"'))
    with offline_wandb.init(project="p") as run:
        assert {name.split("/")[1] for name in wandb_logging.log_run(run_dir, run)} == {"gqa"}
        assert list(run.config["eval"]["identity"]) == ["gqa"]
    assert f"{folder} is edited" in caplog.text


@pytest.mark.slow
def test_later_run_goes_into_the_same_one_of_wandb(
    run_dir: Path, offline_wandb: ModuleType
) -> None:
    write_task(run_dir.with_name("B"), "gqa", scores_of_mean(0.75, 8))
    with offline_wandb.init(project="p") as run:
        for name, accuracy in (("A", 0.5), ("B", 0.75)):
            wandb_logging.log_run(run_dir.with_name(name), run)
            assert run.summary["eval/gqa/accuracy"] == accuracy
            assert run.config["eval"]["run"] == name


def test_stored_run_outlives_what_wandb_does_not_take(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wandb = pytest.importorskip("wandb", reason="needs the extra `wandb`")

    def refuse(**_: object) -> None:
        raise wandb.errors.UsageError("no API key.")

    monkeypatch.setattr(wandb, "init", refuse)
    with caplog.at_level(logging.ERROR):
        assert log_to_project(run_dir, "llava") == 1
    assert "no API key. The results" in caplog.text
    assert not is_sent(run_dir, "llava")
    assert str(run_dir) in caplog.text


def test_evaluation_is_sent_once_it_is_stored(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="needs the extra `wandb`")
    sent: list[tuple[Path, str, bool]] = []
    codes = iter([1, 0, 0, 130, 0])

    def run_course(settings: EvalConfig, _specs: Mapping[str, TaskSpec]) -> int:
        return next(codes)

    def send(folder: Path, project: str, *, quiet: bool) -> int:
        sent.append((folder, project, quiet))
        return 0

    monkeypatch.setattr("runners.evaluation.course.run_course", run_course)
    monkeypatch.setattr(wandb_logging, "log_to_project", send)
    words = ["task=custom", "tasks.custom.questions=q", "tasks.custom.images=i", "run=A"]

    def job(config: DictConfig) -> int:
        return program.evaluate(config)

    assert options.run("eval", job, [*words, "wandb=llava", "quiet=true"]) == 1
    assert options.run("eval", job, [*words, "wandb=me/2026"]) == 0
    assert options.run("eval", job, [*words, "wandb=llava", "log=json"]) == 0
    assert options.run("eval", job, [*words, "wandb=llava"]) == 130
    assert options.run("eval", job, words) == 0
    assert sent == [
        (Path("results/A"), "llava", True),
        (Path("results/A"), "me/2026", False),
        (Path("results/A"), "llava", True),  # W&B's own lines are no objects
    ]


def test_missing_package_is_said_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_logging, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'llava-evals\[wandb\]'"):
        wandb_logging.require_wandb()


@pytest.mark.slow
def test_what_wandb_has_taken_is_known_by_project_and_figures(
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    offline_wandb: ModuleType,
) -> None:
    caplog.set_level(logging.INFO)
    assert not is_sent(run_dir, "p")
    assert log_to_project(run_dir, "p", quiet=True) == 0
    assert "W&B has taken A: " + str(run_dir.parents[1] / "wandb" / "offline-run") in caplog.text
    assert capfd.readouterr().err == ""
    assert is_sent(run_dir, "p")
    assert not is_sent(run_dir, "team/p")
    write_task(run_dir, "pope", scores_of_mean(0.25, 4))
    assert not is_sent(run_dir, "p")
    offline_wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert log_to_project(run_dir, "p", quiet=True) == 0
    assert not is_sent(run_dir, "p")
    (run_dir / "wandb.json").write_text("[")
    assert not is_sent(run_dir, "p")
