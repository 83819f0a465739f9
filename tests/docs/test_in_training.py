"""The page on training runs: its callback in a real Trainer, its snippets as they stand."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import CLIPImageProcessor, LlamaTokenizer, LlavaProcessor, TrainingArguments

import runners
from evals.demo import ensure_demo_data
from evals.tasks.gqa import GQA
from llava.images import process_images
from llava.tokens import tokenizer_image_token
from runners.evaluation.prompts import PromptRenderer
from runners.options.task_spec import TaskSpec
from tests.checkpoints import LoadedModel
from tests.demo_questions import DEMO, load_demo
from tests.variants import make_native

PAGE = Path(__file__).parents[2] / "docs" / "in_training.md"
TEXT = PAGE.read_text(encoding="utf-8")
(CALL, LOADED, NATIVE, CALLBACK, TRAINING, TASKS, TRACKING) = re.findall(
    r"```python\n(.*?)```", TEXT, re.DOTALL
)
OPTIONS = {"data": "demo", "generation": {"max_new_tokens": 4}}
SHORT = f"**{OPTIONS}"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_torch_thread: None) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def loaded() -> LoadedModel:
    return load_demo(torch.float32)


@pytest.fixture
def gqa(tmp_path: Path) -> GQA:
    root = ensure_demo_data(tmp_path / "demo", num_images=1)
    return GQA(data_dir=root / "gqa", split="demo")


def examples(loaded: LoadedModel, task: GQA) -> list[dict[str, torch.Tensor]]:
    """A few questions with their answers, ready for the model."""
    renderer = PromptRenderer("vicuna_v1", loaded.tokenizer)
    found = []
    for sample in task.samples()[:8]:
        prompt = tokenizer_image_token(renderer.render(sample), loaded.tokenizer)
        answer = [*loaded.tokenizer("no").input_ids[1:], loaded.tokenizer.eos_token_id]
        image = process_images(
            [sample.images[0].open()], loaded.image_processor, loaded.model.config
        )[0]
        found.append(
            {
                "input_ids": torch.tensor([*prompt, *answer]),
                "labels": torch.tensor([-100] * len(prompt) + answer),
                "images": image,
            }
        )
    return found


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    (row,) = rows
    return {name: tensor[None] for name, tensor in row.items()}


@pytest.mark.slow
def test_callback_logs_the_scores_of_a_real_training(
    loaded: LoadedModel, gqa: GQA, tmp_path: Path
) -> None:
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=1,
        max_steps=4,
        learning_rate=2e-3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    names: dict[str, Any] = {
        "model": loaded.model,
        "tokenizer": loaded.tokenizer,
        "collate": collate,
        "image_processor": loaded.image_processor,
        "arguments": arguments,
        "dataset": examples(loaded, gqa),
    }
    steps = TRAINING.replace("every_n_steps=500", "every_n_steps=2").replace(
        "limit=500", f"limit=12, {SHORT}"
    )
    assert SHORT in steps
    assert "every_n_steps=2" in steps
    untrained = runners.evaluate(
        *(loaded.model, loaded.tokenizer, loaded.image_processor, "gqa"),
        **{"conversation": "vicuna_v1", "limit": 12, **OPTIONS},
    )
    assert untrained["gqa"]["metrics"]["accuracy"] == 1
    exec(CALLBACK + steps, names)
    history = names["trainer"].state.log_history
    logged = {line["step"]: line for line in history if "eval/gqa/accuracy" in line}
    assert list(logged) == [2, 4]
    assert logged[4]["eval/gqa/accuracy"] < 1  # it learned to say no
    assert all(line["eval/scienceqa/coverage"] == 1 for line in logged.values())
    losses = [line["loss"] for line in history if "loss" in line]
    assert len(losses) == 4
    assert losses[-1] < losses[0]


def test_call_returns_what_the_page_says(
    loaded: LoadedModel, gqa: GQA, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = CALL.replace('["gqa", "pope"]', "[gqa]").replace('"playground/data/eval"', "None")
    assert "limit=500" in call
    names = {**loaded._asdict(), "gqa": gqa}
    exec(call, names)
    assert names["summaries"]["gqa"]["metrics"]["accuracy"] == 1


def test_model_comes_from_this_package_or_from_transformers(gqa: GQA, tmp_path: Path) -> None:
    pytest.importorskip("google.protobuf", reason="transformers reads tokenizer.model with it")
    loaded: dict[str, Any] = {}
    exec(LOADED.replace("liuhaotian/llava-v1.5-7b", str(DEMO)), loaded)
    make_native(tmp_path / "native", DEMO, DEMO.parent / "clip-demo")
    image_processor = CLIPImageProcessor.from_pretrained(tmp_path / "native")
    tokenizer = LlamaTokenizer.from_pretrained(DEMO)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    LlavaProcessor(image_processor, tokenizer).save_pretrained(tmp_path / "native")
    native: dict[str, Any] = {"gqa": gqa}
    code = NATIVE.replace("llava-hf/llava-1.5-7b-hf", str(tmp_path / "native"))
    exec(code.replace('"gqa"', "gqa").replace("limit=500", "limit=6"), native)
    parts = (loaded["model"], loaded["tokenizer"], loaded["image_processor"])
    expected = runners.evaluate(*parts, gqa, conversation="vicuna_v1", limit=6, quiet=True)
    assert native["summaries"]["gqa"]["metrics"] == expected["gqa"]["metrics"]
    assert native["summaries"]["gqa"]["coverage"] == 1


def test_tasks_of_the_page_are_tasks() -> None:
    names: dict[str, Any] = {}
    first, second = TASKS.split("tasks = {")
    exec(first, names)
    assert [getattr(task, "name", task) for task in names["tasks"]] == ["pope", "gqa"]
    exec("tasks = {" + second, names)
    assert TaskSpec.from_json(names["tasks"]).build().name == "custom"


def test_every_option_is_in_the_table() -> None:
    table = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE))))
    signature = inspect.signature(runners.evaluate)
    named = {p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert table == named


@pytest.mark.slow
def test_wandb_gets_the_figures(
    loaded: LoadedModel,
    gqa: GQA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    offline_wandb: ModuleType,
) -> None:
    monkeypatch.chdir(tmp_path)
    summaries = runners.evaluate(
        *(loaded.model, loaded.tokenizer, loaded.image_processor, gqa),
        conversation="vicuna_v1",
        limit=6,
        output_dir="results/llava-v1.5-7b",
    )
    names: dict[str, Any] = {"summaries": summaries}
    before_end, end = TRACKING.split("run.finish()")
    exec(before_end, names)
    run = names["run"]
    assert isinstance(run, offline_wandb.Run)
    expected = runners.flatten_metrics(summaries)
    assert expected["eval/gqa/accuracy"] == 1
    assert {name: run.summary[name] for name in expected} == expected
    assert "eval/summary" in run.summary.keys()  # noqa: SIM118 - it is no mapping
    identity = run.config["eval"]["identity"]["gqa"]
    assert identity["conversation"] == "vicuna_v1"
    assert runners.log_summaries(summaries, run, prefix="test") == runners.flatten_metrics(
        summaries, "test"
    )
    with pytest.raises(Exception, match="finished benchmark"):
        runners.log_run(tmp_path / "cache", run)
    exec("run.finish()" + end, names)
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
