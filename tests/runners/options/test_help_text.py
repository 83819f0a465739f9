"""What `--help` says of every option of every program."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from evals.scorers.own import SCORERS
from runners.options.conf_files import list_choices, read_choice, read_groups
from runners.options.help_text import describe_fields, render_help
from runners.options.mistakes import find_mistakes
from runners.options.register import SCHEMAS

_ENTRY = re.compile(
    r"^  ([\w.]+)=(\S(?:.|\n {6})*?)(?:  |\n {6})\((.+?)\)\n((?:      \S.*\n?)+)", re.MULTILINE
)


def entries(shown: str) -> dict[str, list[str]]:
    """Default, allowed values and description of each option, by name."""
    return {name: rest for name, *rest in _ENTRY.findall(shown)}


@pytest.mark.parametrize("program", SCHEMAS)
def test_every_option_has_a_description_and_what_it_may_be(program: str) -> None:
    shown = render_help(program, SCHEMAS[program])
    assert max(map(len, shown.splitlines())) <= 80
    found = entries(shown)
    named = set(re.findall(r"^  ([\w.]+)=(?=\S*  \()", shown, re.MULTILINE))
    assert named == set(found)
    for name, (_, allowed, text) in found.items():
        assert allowed, name
        assert len(text.strip()) > 5, name
        if "NAME" not in name:
            assert not find_mistakes([f"{name}=1"], program, SCHEMAS[program]), name
    assert "_target_" not in shown
    for group in {"judge", "engine", "model", "task"} - set(read_groups(program)):
        assert not re.search(rf"^  {group}=\S*$", shown, re.MULTILINE)


def test_fields_of_all_schemas_are_described() -> None:
    for program, schema in SCHEMAS.items():
        if program != "bench":
            assert set(describe_fields(schema)) >= set(schema.__dataclass_fields__)


def test_ranges_words_and_defaults_are_those_of_the_schema() -> None:
    found = entries(render_help("eval", SCHEMAS["eval"]))
    assert found["limit"][:2] == ["null", "whole number from 1, or null"]
    assert found["dtype"][1] == "float32, float16, bfloat16, auto, or null"
    assert found["overwrite"][:2] == ["false", "true, false"]
    assert found["runner.address"][2].split()[-1] == "runner=ray.)"
    assert found["model.path"][1] == "folder, or owner/name of the hub"
    watch = entries(render_help("watch", SCHEMAS["watch"]))
    assert watch["dir"][:2] == ["VALUE", "must be given; path"]


def test_defaults_are_those_of_what_is_chosen() -> None:
    words = ["generation=beam", "model=llava-v1.5-7b", "data=demo", "task=custom"]
    found = entries(render_help("eval", SCHEMAS["eval"], words))
    assert found["generation.num_beams"][0] == "3"
    assert found["model.path"][0] == "liuhaotian/llava-v1.5-7b"
    assert found["data.demo.num_images"][0] == "12"
    assert found["tasks.custom.questions"][:2] == ["VALUE", "must be given; path"]
    for name in SCORERS:
        assert f"`{name}`" in found["tasks.custom.scorer"][2]


def test_values_of_a_file_are_resolved_where_they_can_be(tmp_path: Path) -> None:
    folder = "data_dir: ${oc.env:NO_SUCH_VARIABLE}"
    (tmp_path / "task").mkdir()
    (tmp_path / "task/odd.yaml").write_text(f"_target_: evals.tasks.ai2d.AI2D\n{folder}\n")
    words = [f"--config-dir={tmp_path}", "task=[ai2d,odd]"]
    found = entries(render_help("eval", SCHEMAS["eval"], words))
    assert found["tasks.ai2d.data_dir"][0] == "DATA.ROOT/ai2d"
    assert found["tasks.ai2d.source"][0] == "files"
    assert found["tasks.odd.data_dir"][0] == "${oc.env:NO_SUCH_VARIABLE}"


def test_every_benchmark_shows_its_options() -> None:
    for task in list_choices("task"):
        options = read_choice("task", task)
        shown = render_help("doctor", SCHEMAS["doctor"], [f"task={task}"])
        assert all(len(line) <= 80 for line in shown.splitlines() if "=$'" not in line)
        if options is not None and "_target_" in options:
            described = entries(shown)
            for name in options:
                assert name == "_target_" or f"tasks.{task}.{name}" in described, (task, name)
        else:
            assert "tasks.scienceqa.split=" in shown


def test_program_is_shown_as_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    for started, shown in {
        "/venv/bin/llava-evals": "llava-evals watch dir=CHECKPOINTS task=gqa\n",
        "/site/runners/watch.py": "python -m runners.watch dir=CHECKPOINTS task=gqa\n",
    }.items():
        monkeypatch.setattr(sys, "argv", [started, "--help"])
        assert shown in render_help("watch", SCHEMAS["watch"])
