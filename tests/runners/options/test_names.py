from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from runners.errors import ConfigError
from runners.options.eval import EvalConfig
from runners.options.model import (
    ConversationConfig,
    GenerationOptions,
    ModelConfig,
    QuantizationConfig,
)
from runners.options.names import check_task_name, fitting_name, model_name, run_name
from runners.options.runner import LocalOptions, RayOptions
from tests.runners.conftest import Shell

ZOO = ModelConfig(path="/models/demo", name="llava-demo")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "llava-demo"),
        ({"limit": 20, "quantization": QuantizationConfig(name="nf4")}, "llava-demo-nf4-limit20"),
        ({"dtype": "float32"}, "llava-demo-float32"),
        ({"conversation": ConversationConfig(template="llava_v1")}, "llava-demo-llava_v1"),
        ({"generation": GenerationOptions(max_new_tokens=16)}, "llava-demo-max_new_tokens16"),
        (
            {"generation": GenerationOptions(temperature=0.2), "seed": 3},
            "llava-demo-temperature0.2-seed3",
        ),
        ({"seed": 3}, "llava-demo"),
        ({"device": "cpu", "max_failures": 3, "overwrite": True}, "llava-demo"),
        ({"run": "mine", "limit": 20}, "mine"),
        ({"runner": LocalOptions()}, "llava-demo"),
        ({"runner": LocalOptions(shard="2/8"), "limit": 20}, "llava-demo-limit20-shard-2-of-8"),
        ({"runner": RayOptions(shard="8/8"), "run": "mine"}, "mine-shard-8-of-8"),
    ],
)
def test_run_is_named_after_what_matters(options: dict[str, Any], name: str) -> None:
    assert run_name(EvalConfig(model=ZOO, **options)) == name


@pytest.mark.parametrize(
    "run", ["", ".", "..", "a/b", "/tmp/a", "a\0b", "x" * 256, "ü" * 128, "\ud800"]
)
def test_run_name_that_leads_elsewhere_is_refused(run: str) -> None:
    with pytest.raises(ConfigError, match="`run`"):
        run_name(EvalConfig(model=ZOO, run=run))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/llava-v1.5-7b/", "llava-v1.5-7b"),
        ("runs/llava-mine/checkpoint-100", "llava-mine_checkpoint-100"),
    ],
)
def test_model_without_a_name_is_named_after_its_path(path: str, name: str) -> None:
    assert model_name(EvalConfig(model=ModelConfig(path=path))) == name


@pytest.mark.parametrize("name", [".", ".."])
def test_model_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"`model\.name` must be a name"):
        run_name(EvalConfig(model=ModelConfig(path="/models/demo", name=name)))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../../../escaped",
        "gqa.old-1",
        5,
        None,
        "x" * 250,
        "ü" * 125,
        "a\0b",
        "\ud800",
    ],
)
def test_task_name_that_is_no_folder_of_a_run_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match="`name` of a task must be"):
        check_task_name(name)


@pytest.mark.parametrize("name", ["mine", "5", "my.old-task", "ünï"])
def test_task_may_have_any_other_name(name: str) -> None:
    check_task_name(name)


@pytest.mark.parametrize("path", ["/", ".", ".."])
def test_path_without_a_name_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.name"):
        model_name(EvalConfig(model=ModelConfig(path=path)))


@pytest.mark.parametrize("character", ["x", "ü", "字"])
@pytest.mark.parametrize("shard", [None, "2/8"])
def test_name_that_is_too_long_for_a_folder_is_shortened(
    tmp_path: Path, character: str, shard: str | None
) -> None:
    names = set()
    for ending in ("a", "b"):
        model = ModelConfig(path="m", name=300 * character + ending)
        settings = EvalConfig(model=model, limit=3, runner=LocalOptions(shard=shard))
        names.add(name := run_name(settings))
        (tmp_path / name).mkdir()
        (tmp_path / fitting_name(name, "rerun")).mkdir()
        assert name.endswith("-shard-2-of-8") == (shard is not None)
    assert len(names) == 2


def test_name_that_just_fits_is_left_as_it_is() -> None:
    model = ModelConfig(path="m", name=248 * "x")
    assert run_name(EvalConfig(model=model, limit=3)) == 248 * "x" + "-limit3"


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    "words",
    [
        ["task=gqa", f"run={'x' * 256}"],
        ["task=gqa", f"run={'x' * 250}", "runner.shard=1/2"],
        ["task=gqa", f"model.path={'x' * 300}"],
        ["task=gqa", f"tasks.gqa.data_dir={'x' * 300}"],
        [f"manifest={'x' * 300}", "model.path={checkpoint}"],
        ["task=gqa", "data=demo", "model.path=~nobody-xxx/checkpoint"],
        ["-m", "task=gqa", "data=demo", "model.path=~nobody-xxx/check*"],
        ["data=demo", "task=gqa", f"results_dir={'x' * 300}", "model.path={checkpoint}"],
    ],
)
def test_name_that_no_disk_takes_is_bad_input(
    words: list[str], call: Shell, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    given = [word.format(checkpoint=tiny_checkpoint) for word in words]
    if not any(word.startswith("model.path=") for word in given):
        given.append(f"model.path={tiny_checkpoint}")
    done = call(shlex.join(["runners.eval", *given]), tmp_path)
    assert done.code == 2
    assert "xxx" in done.stderr
    assert "should not have happened" not in done.stderr
