"""A benchmark as it is described: what a description may hold, and which constructors there are."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from runners.errors import ConfigError
from runners.options import program
from runners.options.benchmark_options import is_admitted
from runners.options.build import default_spec
from runners.options.given import GivenOptions, TaskChoice, read_given, read_task_choice
from runners.options.targets import find_benchmark
from runners.options.task_spec import TaskSpec

TARGET = "evals.tasks.gqa.GQA"
SPEC = {"_target_": TARGET, "data_dir": "d", "split": "val"}


def test_description_is_kept_as_it_is() -> None:
    spec = TaskSpec.from_json(SPEC)
    assert spec.to_json() == SPEC
    assert (spec.target, spec.options) == (TARGET, {"data_dir": "d", "split": "val"})


def test_benchmark_is_built_once() -> None:
    spec = TaskSpec.from_json(SPEC)
    task = spec.build()
    assert (task.name, task.split) == ("gqa", "val")
    assert spec.build() is task


def test_other_options_make_another_benchmark() -> None:
    spec = TaskSpec.from_json(SPEC)
    spec.build()
    other = spec.with_options({"split": "testdev_balanced"})
    assert other.build().split == "testdev_balanced"
    assert spec.build().split == "val"


@pytest.mark.parametrize(
    "content",
    [
        *(None, "gqa", ["gqa"], {}, {"data_dir": "d"}, {"_target_": 5}, {"_target_": {}}),
        {"_target_": TARGET, "data_dir": {"_target_": "os.mkdir"}},
    ],
)
def test_what_describes_no_benchmark_is_refused(content: object) -> None:
    with pytest.raises(ConfigError, match=r"of a task must be|A task must be"):
        TaskSpec.from_json(content)


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "evals.task.Task", "evals.tasks.gqa", "evals.tasks", "GQA", ""),
        *("evals.tasks.gqa.Path", "evals.tasks.gqa.json.loads", "evals.tasks.gqa._read"),
        *("evals.tasks.gqa.GQA.samples", "evals.tasksx.gqa.GQA", "evals.tasks.gqa.GQA "),
        *("evals.tasks.scienceqa.random._os._exit", "evals.tasks.gqa.rebuildable"),
        *("evals.tasks.gqa.GQA.__wrapped__", "evals.tasks.gqa.GQA\n", "evals.tasks.__init__.GQA"),
    ],
)
def test_constructor_that_is_no_benchmarks_own_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match=r"`_target_` of a task must name .* evals\.tasks"):
        TaskSpec(target=target).build()


@pytest.mark.parametrize("module", ["gqa", "vqav2", "mmbench", "custom", "llavabench", "pope"])
def test_nothing_of_a_benchmarks_module_but_its_constructors_can_be_named(module: str) -> None:
    names = vars(import_module(f"evals.tasks.{module}"))
    named = []
    for name in names:
        with suppress(ConfigError):
            find_benchmark(f"evals.tasks.{module}.{name}")
            named.append(name)
    assert named == [name for name, value in names.items() if returns_benchmark(value)]


def returns_benchmark(value: object) -> bool:
    return hasattr(value, "__wrapped__") and value.__annotations__["return"] == "Benchmark"


@pytest.mark.parametrize("target", ["evals.tasks.gqq.GQA", "evals.tasks.gqa.GQQ"])
def test_constructor_that_is_not_there_is_named(target: str) -> None:
    with pytest.raises(ConfigError, match=target):
        TaskSpec(target=target).build()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "data_dir"),
        ({"data_dir": "d", "splitt": "val"}, "splitt"),
        ({"data_dir": 5}, "GQA"),
        ({"data_dir": "d", "prompt_suffix": 7}, "`prompt_suffix` of .* may be text"),
        ({"data_dir": "d", "max_new_tokens": "x"}, "`max_new_tokens` of .* may be whole number"),
        ({"data_dir": "d", "max_new_tokens": True}, "`max_new_tokens` of .* may be whole number"),
        ({"data_dir": None}, "`data_dir` of .* may be path, but is None"),
        ({"questions": "q", "ignore_case": "none"}, "may be true, false, but is 'none'"),
        ({"questions": "q", "ignore_case": 1}, "`ignore_case` of .* may be true, false"),
        ({"questions": "q", "tolerance": None}, "`tolerance` of .* may be number, but is None"),
        ({"questions": "q", "tolerance": True}, "`tolerance` of .* may be number, but is True"),
        ({"questions": "q", "groups": None}, "`groups` of .* may be .values., but is None"),
        ({"questions": "q", "judge": 5}, "`judge` of .* may be text, or null, but is 5"),
    ],
)
def test_wrong_option_of_a_benchmark_is_named(options: dict[str, Any], named: str) -> None:
    target = "evals.tasks.custom.Custom" if "questions" in options else TARGET
    with pytest.raises(ConfigError, match=named):
        TaskSpec(target=target, options=options).build()


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        *((Path, "a", True), (Path | None, None, True), (Path, None, False)),
        *((tuple[str, ...], ["a"], True), (Sequence[str], ["a"], True), (list[str], "a", False)),
        *((float, 1, True), (float, True, False), (bool, 1, False), (dict[str, int], 5, True)),
    ],
)
def test_value_is_taken_as_a_manifest_has_it(annotation: Any, value: Any, expected: bool) -> None:
    """That is a text for a path and a list for a tuple, of which JSON and YAML have none."""
    kind = inspect.Parameter.KEYWORD_ONLY
    parameter = inspect.Parameter("option", kind, annotation=annotation)
    assert is_admitted(value, parameter) == expected


def test_options_of_the_annotated_types_are_taken() -> None:
    options = {"questions": Path("q"), "scorer": "numeric", "tolerance": 1, "groups": ["kind"]}
    given = {**options, "judge": None, "replies": None, "images": "i"}
    assert TaskSpec(target="evals.tasks.custom.Custom", options=given).build().name == "custom"


@pytest.mark.parametrize(("name", "target"), [("gqa", TARGET), ("demo", None), ("nothing", None)])
def test_default_is_that_of_conf(name: str, target: str | None) -> None:
    spec = default_spec(name)
    assert (None if spec is None else spec.target) == target


STORED = TaskSpec.from_json({**SPEC, "data_dir": "then", "prompt_suffix": "?"})
NAMED = TaskSpec.from_json({**SPEC, "data_dir": "now"})


@pytest.mark.parametrize(
    ("placed", "options", "expected"),
    [
        ([], {}, {}),
        ([], {"split": "val"}, {"split": "val"}),
        ([], {"data_dir": "there"}, {"data_dir": "there"}),
        (["data_dir"], {}, {"data_dir": "now"}),
        (["data_dir", "source"], {"data_dir": "there"}, {"data_dir": "there"}),
    ],
)
def test_command_line_takes_precedence_over_what_is_stored(
    placed: list[str], options: dict[str, Any], expected: dict[str, Any]
) -> None:
    """All else stays as it was: the wording of prompts, say."""
    given = GivenOptions(tasks={"gqa": options}, placed={"gqa": placed})
    choice = TaskChoice(specs={"gqa": NAMED}, given=given)
    assert choice.over({"gqa": STORED}.get) == {"gqa": STORED.with_options(expected)}
    assert choice.over({"pope": STORED}.get) == {"gqa": NAMED}


def test_given_options_are_those_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[GivenOptions] = []
    chosen: list[TaskChoice] = []

    def look(config: DictConfig) -> int:
        seen.append(read_given(config))
        chosen.append(read_task_choice(config))
        return 0

    words = ["task=[gqa,mmvet]", "tasks.gqa.data_dir=/a=1", "+tasks.mmvet.replies=[b]", "seed=3"]
    assert program.run("eval", look, [*words, "data.root=r", "~tasks.gqa.split"]) == 0
    assert seen[0].names == {
        *(
            "task",
            "tasks.gqa.data_dir",
            "tasks.mmvet.replies",
            "seed",
            "data.root",
            "tasks.gqa.split",
        )
    }
    assert seen[0].tasks == {"gqa": {"data_dir": "/a=1"}, "mmvet": {"replies": ["b"]}}
    assert list(chosen[0].specs) == ["gqa", "mmvet"]


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["data.demo.num_images=0"], "num_images"),
        (["data.demo.num_images=few"], "`data.demo` cannot be generated"),
        (["+data.demo.number=3"], "number"),
        (["data.root=/nowhere"], "`data.root` is for real data. Leave it out"),
        (["+data.roott=elsewhere"], "Did you mean `data.root`?"),
        (["+data.release=2"], "`data.release` is no option"),
    ],
)
def test_wrong_option_of_the_demo_data_is_bad_input(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def look(config: DictConfig) -> int:
        read_task_choice(config)
        return 0

    assert program.run("eval", look, ["task=gqa", "data=demo", *options]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "this should not have happened" not in message


def test_option_of_the_data_that_a_benchmark_refers_to_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen: list[TaskChoice] = []

    def look(config: DictConfig) -> int:
        chosen.append(read_task_choice(config))
        return 0

    words = ["task=gqa", "+data.release=r2", "tasks.gqa.data_dir=${data.root}/${data.release}"]
    assert program.run("eval", look, words) == 0
    assert chosen[0].specs["gqa"].options["data_dir"].endswith("/r2")
