from __future__ import annotations

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
from runners.options.names import check_task_name, model_name, run_name
from runners.options.runner import LocalOptions, RayOptions

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


@pytest.mark.parametrize("run", ["", ".", "..", "a/b", "/tmp/a"])
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


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../../escaped", "gqa.old-1", 5, None])
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
