"""Options of engines and workers: known by name, type and range before anything is loaded."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from omegaconf import DictConfig

from runners.errors import ConfigError
from runners.options import program
from runners.options.build import read_settings
from runners.options.component import Component
from runners.options.engine import ENGINES, EngineOptions, PackedOptions, SequentialOptions
from runners.options.eval import EvalConfig
from runners.options.runner import RUNNERS, LocalOptions, RayOptions, RunnerOptions
from runners.options.targets import locate

SEQUENTIAL, RAY = "engine=sequential", "runner=ray"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


def composing(config: DictConfig) -> int:
    read_settings(config, EvalConfig)
    return 0


def said_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one paragraph with which a program refuses options."""
    assert program.run("eval", composing, argv) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not re.search("Traceback|full_key|object_type|reference_type", said)
    return said


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("mark", ["", "+"])
@pytest.mark.parametrize(
    ("chosen", "option", "meant"),
    [
        ([], "engine.max_token=5", "engine.max_tokens"),
        ([], "engine.maxrows=5", "engine.max_rows"),
        ([], "engine.repley=off", "engine.replay"),
        ([], "engine.near_ties_threshold=1", "engine.near_tie_threshold"),
        ([], "runner.num_worker=2", "runner.num_workers"),
        ([], "runner.device_per_worker=2", "runner.devices_per_worker"),
        ([], "runner.hangs=2", "runner.hang_s"),
        ([RAY], "runner.adress=a", "runner.address"),
        ([RAY], "runner.max_restart=3", "runner.max_restarts"),
    ],
)
def test_misspelt_option_is_told_what_it_is_close_to(
    chosen: list[str], option: str, meant: str, mark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_of([*chosen, mark + option], capsys)
    assert option.partition("=")[0] in said
    assert f"Did you mean `{meant}`?" in said


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("mark", ["", "+"])
@pytest.mark.parametrize(
    ("chosen", "option", "owner"),
    [
        ([SEQUENTIAL], "engine.max_tokens=4", "engine=packed"),
        ([SEQUENTIAL], "engine.max_rows=4", "engine=packed"),
        ([SEQUENTIAL], "engine.replay=off", "engine=packed"),
        ([], "runner.address=auto", "runner=ray"),
        ([], "runner.max_restarts=2", "runner=ray"),
        ([RAY], "runner.devices_per_worker=2", "runner=local"),
    ],
)
def test_option_of_another_choice_is_told_whose_it_is(
    chosen: list[str], option: str, owner: str, mark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_of([*chosen, mark + option], capsys)
    assert option.partition("=")[0] in said
    assert f"It is an option of {owner}." in said


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    "option",
    [
        *("engine.max_tokens=many", "engine.max_tokens=2.5", "engine.max_tokens=true"),
        *("engine.max_tokens=[1]", "engine.max_rows=null", "engine.near_tie_threshold=small"),
        *("engine.replay=null", "engine.num_preprocess_threads={a:1}"),
        *("runner.num_workers=two", "runner.num_workers=1.5", "runner.hang_s=null"),
        *("runner.grace_s=soon", "runner.devices_per_worker=null", "runner.num_threads=[2]"),
    ],
)
def test_option_of_a_wrong_type_is_named(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert option.partition("=")[0] in said_of([option], capsys)


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("chosen", "option", "must"),
    [
        ([], "engine.max_tokens=0", "must be 1 or larger, but is 0"),
        ([], "engine.max_rows=-3", "must be 1 or larger, but is -3"),
        ([], "engine.num_preprocess_threads=0", "must be 1 or larger"),
        ([], "engine.near_tie_threshold=-0.1", "must be 0 or larger"),
        ([], "engine.near_tie_threshold=nan", "must be 0 or larger, but is nan"),
        ([], "engine.replay=sometimes", "must be one of near_ties, all, off"),
        ([], "runner.num_workers=0", "must be 1 or larger"),
        ([], "runner.num_threads=-1", "must be 1 or larger"),
        ([], "runner.devices_per_worker=0", "must be 1 or larger"),
        ([], "runner.hang_s=-1", "must be 0 or larger"),
        ([], "runner.grace_s=nan", "must be 0 or larger"),
        ([], "runner.shard=9/8", "must be a part and their number"),
        ([RAY], "runner.num_workers=0", "must be 1 or larger"),
        ([RAY], "runner.num_cpus=-1", "must be 0 or larger"),
        ([RAY], "runner.num_gpus=nan", "must be 0 or larger"),
        ([RAY], "runner.max_restarts=-2", "must be -1 or larger"),
    ],
)
def test_option_out_of_its_range_is_told_the_range(
    chosen: list[str], option: str, must: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"`{option.partition('=')[0]}` {must}" in said_of([*chosen, option], capsys)


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    "option",
    [
        "engine._target_=llava.Nothing",
        "engine._target_=os.system",
        "engine._target_=llava.generation.packed.PackedEngineX",
        "engine._target_=llava.generation.sequential.SequentialEngine",
        "runner._target_=pandas.read_pickle",
        "runner._target_=runners.workers.ray.RayWorkers",
    ],
)
def test_class_that_is_not_the_chosen_ones_is_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, _, target = option.partition("._target_=")
    assert f"`{name}` has no class {target!r}" in said_of([option], capsys)


@pytest.mark.parametrize("name", ["engine", "runner"])
def test_component_that_is_left_out_is_asked_for(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"`{name}` must be given. Set {name}=VALUE" in said_of([f"~{name}"], capsys)


@pytest.mark.parametrize(
    ("overrides", "engine", "runner"),
    [
        ([], PackedOptions(), LocalOptions()),
        ([SEQUENTIAL], SequentialOptions(), LocalOptions()),
        (
            ["engine.replay=off", "engine.max_tokens=9", "runner.shard=2/8"],
            PackedOptions(replay="off", max_tokens=9),
            LocalOptions(shard="2/8"),
        ),
        ([RAY, "runner.num_gpus=0.5"], PackedOptions(), RayOptions(num_gpus=0.5)),
    ],
)
def test_options_are_those_of_the_choice(
    overrides: list[str], engine: EngineOptions, runner: RunnerOptions, composed: None
) -> None:
    words = ["model=checkpoint", "model.path=m", "task=gqa", *overrides]
    settings = read_settings(compose("eval", overrides=words), EvalConfig)
    assert (settings.engine, settings.runner) == (engine, runner)


@pytest.mark.parametrize(
    ("component", "stored"),
    [
        (
            PackedOptions(near_tie_threshold=0.5),
            {
                "_target_": "llava.generation.packed.PackedEngine",
                "max_tokens": None,
                "max_rows": 64,
                "replay": "near_ties",
                "near_tie_threshold": 0.5,
                "max_expected_flips": 0.01,
                "num_preprocess_threads": None,
            },
        ),
        (SequentialOptions(), {"_target_": "llava.generation.sequential.SequentialEngine"}),
        (
            LocalOptions(num_workers=2, hang_s=0.5),
            {
                "_target_": "runners.workers.pool.LocalWorkers",
                "num_workers": 2,
                "devices_per_worker": 1,
                "num_threads": None,
                "hang_s": 0.5,
                "grace_s": 25,
                "shard": None,
            },
        ),
    ],
)
def test_manifest_keeps_target_and_values(component: Component, stored: dict[str, Any]) -> None:
    kept = component.to_json()
    assert kept == stored
    assert {name: type(value) for name, value in kept.items()} == {
        name: type(value) for name, value in stored.items()
    }


@pytest.mark.parametrize("kind", [*ENGINES, *RUNNERS])
def test_options_are_those_of_the_constructor(kind: type[Component]) -> None:
    if kind is RayOptions:
        pytest.importorskip("ray")
    parameters = inspect.signature(locate(kind().to_json().pop("_target_"))).parameters
    accepted = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    own = {"_target_", "shard"}  # a shard decides which questions there are
    assert {
        field.name: field.default for field in fields(kind) if field.name not in own
    } == accepted


@pytest.mark.parametrize("target", ["llava.nothing.Engine", "llava.errors.Nothing", "json", ""])
def test_target_that_is_not_there_is_named(target: str) -> None:
    with pytest.raises(ConfigError, match=f"must name a class or function, but is '{target}'"):
        locate(target)
