"""transformers' own LLaVA in the middle of its training: asked as the package's own class is."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CLIPImageProcessor,
    LlamaTokenizer,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

import runners
from runners.errors import ConfigError
from runners.evaluation.progress import Progress
from runners.leaderboard import leaderboard
from runners.options import program
from runners.regress import regress
from runners.report import report
from tests.checkpoints import LoadedModel
from tests.demo_questions import DEMO
from tests.runners.in_training.conftest import answers_hash, ask
from tests.runners.in_training.test_lent_model import lora
from tests.variants import make_native


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo checkpoint in transformers' own format."""
    return make_native(tmp_path_factory.mktemp("native") / "m", DEMO, DEMO.parent / "clip-demo")


@pytest.fixture
def native(folder: Path) -> LoadedModel:
    pytest.importorskip("google.protobuf", reason="transformers reads tokenizer.model with it")
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    return LoadedModel(tokenizer, model, CLIPImageProcessor.from_pretrained(folder), 2048)


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("engine", ["packed", "sequential"])
def test_answers_are_those_of_the_own_class(
    demo: LoadedModel, native: LoadedModel, engine: str
) -> None:
    native.model.train()
    tasks = ["gqa", "scienceqa"]
    asked, expected = (ask(one, tasks, engine=engine, limit=16) for one in (native, demo))
    assert native.model.training
    for task in tasks:
        assert asked[task]["hashes"] == expected[task]["hashes"]
        assert asked[task]["metrics"] == expected[task]["metrics"]


def test_processor_stands_for_both_of_its_parts(demo: LoadedModel, native: LoadedModel) -> None:
    processor = LlavaProcessor(native.image_processor, native.tokenizer)
    options: dict[str, Any] = {"conversation": "vicuna_v1", "model_name": "llava-demo"}
    summaries = runners.evaluate(
        native.model, processor, None, "gqa", data="demo", limit=8, **options
    )
    assert answers_hash(summaries) == answers_hash(ask(demo, limit=8))
    with pytest.raises(ConfigError, match=r"`image_processor` .* LlavaForConditionalGeneration"):
        runners.evaluate(native.model, native.tokenizer, None, "gqa", data="demo", **options)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_training_goes_on_with_its_adapter(native: LoadedModel) -> None:
    tuned = lora(native.model)
    tuned.train()
    before = {name: value.clone() for name, value in tuned.state_dict().items()}
    first = answers_hash(ask(native, model=tuned, limit=6))
    assert all(torch.equal(value, before[name]) for name, value in tuned.state_dict().items())
    with torch.no_grad():
        for name, value in tuned.named_parameters():
            if "lora_B" in name:
                value.normal_(std=3.0, generator=torch.Generator().manual_seed(1))
    assert answers_hash(ask(native, model=tuned, limit=6)) != first
    trained = {name for name, value in tuned.named_parameters() if value.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)


def test_stored_run_is_read_by_the_other_programs(
    native: LoadedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for step in (1, 2):
        ask(native, limit=12, output_dir=tmp_path / "results" / f"step-{step}")
        with torch.no_grad():
            native.model.lm_head.weight[0] += 1e-4
    options = ["runs=[step-1,step-2]", "output=report.html"]
    assert program.run("report", report, options) == 0
    assert "data:image" in (tmp_path / "report.html").read_text()
    assert program.run("leaderboard", leaderboard, ["published=none", "formats=[csv]"]) == 0
    assert "step-1" in capsys.readouterr().out
    options = ["baseline=step-1", "candidate=step-2", "max_drop=0.9", "output=gate"]
    program.run("regress", regress, options)
    [verdict] = json.loads((tmp_path / "gate/verdict.json").read_text())["tasks"]
    assert (verdict["task"], verdict["baseline"], verdict["lost"]) == ("gqa", 1.0, 0), verdict


def test_progress_is_shown_where_no_logging_is_set_up(
    demo: LoadedModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runners.evaluation.progress._REPORT_EVERY_S", 0.0)
    monkeypatch.setattr(logging.getLogger("runners"), "propagate", False)  # as without pytest
    ask(demo, limit=4)
    shown = capsys.readouterr().err
    assert "4/4 questions" in shown
    assert "gqa accuracy: " in shown
    ask(demo, limit=4, quiet=True)
    assert capsys.readouterr().err == ""


def test_progress_counts_the_part_of_this_rank(
    demo: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[int, int]] = []

    class Counting(Progress):
        def __exit__(self, *_: object) -> None:
            counted.append((self._done, self._total))

    monkeypatch.setattr("runners.in_training.evaluate.Progress", Counting)
    ask(demo, ["gqa", "scienceqa"], limit=3)
    assert counted == [(6, 6)]
