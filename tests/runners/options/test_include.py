"""Models, templates and benchmarks of the user's own, in folders that `include` names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import DictConfig

from llava.conversation import (
    conv_templates,
    render_question,
)
from llava.errors import ConversationError
from llava.template_choice import stop_tokens
from runners.errors import ConfigError
from runners.options import program
from runners.options.build import read_settings, read_task_specs
from runners.options.conf_files import list_choices
from runners.options.eval import EvalConfig
from runners.options.help_text import render_help
from runners.options.include import declared_templates, hash_included, split_include, use_folders
from runners.options.register import SCHEMAS
from runners.options.targets import find_benchmark
from runners.storage.identity import prompt_format

MODULE = """
from dataclasses import replace
from evals.benchmark import rebuildable
from evals.tasks.gqa import GQA as _GQA
from included.helping import SUFFIX

def build(*, data_dir: str): ...

@rebuildable
def Mine(*, data_dir: str, split: str = "val"):
    return replace(_GQA(data_dir=data_dir, split="val", prompt_suffix=SUFFIX), name="mine")
"""
TEMPLATE = """
template: mine
style: two
system: A chat.
roles: [USER, ASSISTANT]
separators: [" ", "</s>"]
stop: ["<end>"]
"""


@pytest.fixture(autouse=True)
def _nothing_included() -> Iterator[None]:
    yield
    use_folders([])


def write(folder: Path, **files: str) -> Path:
    """Files by their paths in a folder, in which `__` stands for a slash."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_suffix(".yaml" if "/" in name.replace("__", "/") else ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write(
        tmp_path / "own's files",
        model__my_llava="path: /models/mine\nname: my-llava\nconversation: mine\n",
        conversation__mine=TEMPLATE,
        task__mine="# @package tasks.mine\n_target_: included.mine.Mine\ndata_dir: x\n",
        task__both="# @package _global_\ndefaults: [gqa, mine]\n",
        mine=MODULE,
        helping="SUFFIX = '?'\n",
    )


def compose(*words: str) -> tuple[int, list[tuple[EvalConfig, dict[str, Any]]]]:
    """The exit code of a program, and what it read in each job."""
    jobs: list[tuple[EvalConfig, dict[str, Any]]] = []

    def job(config: DictConfig) -> int:
        specs = read_task_specs(config)
        jobs.append((read_settings(config, EvalConfig), {k: s.build() for k, s in specs.items()}))
        return 0

    return program.run("eval", job, words), jobs


def test_what_a_folder_holds_is_chosen_by_name(own: Path) -> None:
    code, [(settings, tasks)] = compose(f"include={own}", "model=my_llava", "task=both")
    assert code == 0
    assert (settings.model.path, settings.model.conversation) == ("/models/mine", "mine")
    assert list(tasks) == ["gqa", "mine"]
    assert tasks["mine"].prompt_suffix == "?"
    assert tasks["mine"].recipe.constructor == "included.mine.Mine"
    assert settings.include == [str(own)]
    assert render_question("mine", "Why?", 1) == "A chat. USER: <image>\nWhy? ASSISTANT:"
    assert list_choices("conversation")["mine"].parent.parent == own


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        (
            "style: single\nroles: [Human, Assistant]\nseparators: ['###']\n",
            "Human: Hi.###Assistant:",
        ),
        ("style: two\nroles: [USER, BOT]\nseparators: [' ', '</s>']\n", "USER: Hi. BOT:"),
        ("style: two\nroles: [' USER', BOT]\nseparators: [' ', '</s>']\n", " USER: Hi. BOT:"),
        ("style: mpt\nroles: [<u>, <b>]\nseparators: [<end>]\n", "<u>Hi.<end><b>"),
        ("style: chatml\nroles: [<u>, <b>]\nseparators: [<end>]\n", "<u>\nHi.<end>\n<b>\n"),
        ("style: gemma\nroles: [<u>, <b>]\nseparators: [<end>]\n", "<u>Hi.<end><b>"),
        ('style: plain\nseparators: ["\\n"]\n', "Hi.\n"),
        ("style: llama_2\nseparators: [<s>, </s>]\n", "[INST] Hi. [/INST]"),
    ],
)
def test_prompt_without_a_system_text_begins_with_the_first_turn(
    fields: str, prompt: str, tmp_path: Path
) -> None:
    use_folders([write(tmp_path / "own", conversation__mine=f"template: mine\n{fields}")])
    assert render_question("mine", "Hi.", 0) == prompt


@pytest.mark.slow
def test_a_sweep_includes_in_every_job(own: Path) -> None:
    words = ("-m", f"include={own}", "task=mine", "tasks.mine.data_dir=a,b", "conversation=mine")
    code, jobs = compose(*words)
    assert code == 0
    assert [settings.tasks["mine"]["data_dir"] for settings, _ in jobs] == ["a", "b"]
    assert {settings.conversation.template for settings, _ in jobs} == {"mine"}


def test_the_next_program_knows_nothing_of_it(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compose(f"include={own}", "task=mine")[0] == 0
    assert compose("task=mine")[0] == 2
    assert "There is no task mine" in capsys.readouterr().err
    assert not declared_templates()
    assert not [name for name in sys.modules if name.startswith("included")]


def test_folders_are_named_once_each_or_in_a_list(own: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", quantization__mine="name: nf4\n")
    for words in ([f"include=[{own},{other}]"], [f"include={own}", f"include={other}"]):
        code, [(settings, _)] = compose(*words, "quantization=mine", "task=mine")
        assert code == 0
        assert settings.quantization.name == "nf4"
        assert settings.include == [str(own), str(other)]
    assert split_include(["include=~"])[1] == [Path.home().resolve()]


def test_help_lists_it(own: Path) -> None:
    use_folders([own])
    shown = render_help("eval", SCHEMAS["eval"], ["task=gqa"])
    assert "my_llava" in shown


def test_help_shows_the_options_of_a_benchmark_in_it(own: Path) -> None:
    use_folders([own])
    assert "tasks.mine.split=val" in render_help("eval", SCHEMAS["eval"], ["task=both"])
    (own / "mine.py").unlink()
    use_folders([own])
    shown = render_help("eval", SCHEMAS["eval"], ["task=mine"])
    assert "tasks.mine: `_target_` included.mine.Mine is a benchmark of" in shown


def test_help_shows_the_options_of_a_benchmark_in_a_folder_beside_conf(tmp_path: Path) -> None:
    text = "# @package tasks.beside\n_target_: evals.tasks.gqa.GQA\ndata_dir: x\n"
    write(tmp_path, task__beside=text)
    words = [f"--config-dir={tmp_path}", "task=beside"]
    assert "tasks.beside.data_dir=x" in render_help("eval", SCHEMAS["eval"], words)


def test_a_module_is_found_only_while_its_folder_is_included(own: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.py that no folder is named for.*include=DIR"):
        find_benchmark("included.mine.Mine")
    use_folders([own])
    assert find_benchmark("included.mine.Mine")
    with pytest.raises(ConfigError, match=r"other\.py that is not in .*own's files"):
        find_benchmark("included.other.Other")


@pytest.mark.parametrize(
    "target",
    [
        *(
            "included.mine.build",
            "included.mine._GQA",
            "included.mine.rebuildable",
            "included.mine",
        ),
        *("included.mine.Mine.x", "included.os.system", "mine.Mine", "included..Mine"),
    ],
)
def test_only_what_a_module_marks_is_a_benchmark(own: Path, target: str) -> None:
    use_folders([own])
    with pytest.raises(ConfigError, match="_target_"):
        find_benchmark(target)


def test_a_broken_module_is_named(own: Path) -> None:
    write(own, broken="import nothing_of_the_kind\n", odd="1 / 0\n", syntax="def (\n")
    use_folders([own])
    for name in ("broken", "odd", "syntax"):
        with pytest.raises(ConfigError, match=rf"{name}\.py cannot be imported: \w+Error: "):
            find_benchmark(f"included.{name}.X")


def test_code_that_scores_is_known_by_its_content(own: Path) -> None:
    use_folders([own])
    before = hash_included("included.mine.Mine")
    assert before
    write(own, helping="SUFFIX = '!'\n")
    assert hash_included("included.mine.Mine") != before
    assert hash_included("evals.tasks.gqa.GQA") == ""


def test_code_that_scores_is_the_same_whatever_else_is_included(own: Path, tmp_path: Path) -> None:
    use_folders([own])
    before = hash_included("included.mine.Mine")
    other = write(tmp_path / "other", quantization__mine="name: nf4\n", further="X = 1\n")
    use_folders([own, other])
    assert hash_included("included.mine.Mine") == before


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "has none of conversation/"),
        ({"task__gqa": ""}, "task/gqa.yaml has the name of "),
        ({"conversation__v1": TEMPLATE}, "v1.yaml has the name of"),
        ({"conversation__new": TEMPLATE}, "`template` must be new, the name of the file"),
        ({"conversation__mine": TEMPLATE.replace("two", "three")}, "`style` must be one of single"),
        ({"conversation__mine": TEMPLATE.replace("USER, ", "")}, "`roles` must be a list of two"),
        ({"conversation__mine": TEMPLATE.replace('" ", ', "")}, "`separators` must be a list of 2"),
        (
            {"conversation__mine": TEMPLATE.replace("two", "mpt")},
            "`separators` must be a list of 1",
        ),
        ({"conversation__mine": TEMPLATE.replace("two", "llama_2")}, "`roles` must be left out"),
        ({"conversation__mine": TEMPLATE + "sep: x\n"}, "'sep'"),
        ({"conversation__mine": "template: [\n"}, "mine.yaml cannot be read: while parsing"),
        ({"model__mine": "path: {\n"}, "mine.yaml cannot be read: while parsing"),
        ({"conversation__mine": "- 1\n"}, "does not declare a template"),
        ({"conversation__mine": "template: mine\n"}, "`style` must be one of"),
    ],
)
def test_folder_that_cannot_be_included_is_refused(
    files: dict[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    folder = write(tmp_path / "own", **files)
    assert compose(f"include={folder}", "task=gqa")[0] == 2
    message = capsys.readouterr().err
    assert said in message
    assert str(folder) in message
    assert "Traceback" not in message
    assert not declared_templates()


@pytest.mark.parametrize(
    ("name", "text", "options", "said"),
    [
        ("task/mine", "data_dir: x\n", "task=mine", "@package tasks.mine"),
        ("task/mine", "# @package task.mine\nx: 1\n", "task=mine", "@package tasks.mine"),
        ("task/mine", "defaults: [gqa]\nlimit: 1\n", "task=mine", "@package _global_"),
        ("experiment/mine", "seed: 1\n", "experiment=mine", "@package _global_"),
        ("model/mine", "nmae: m\n", "model=mine", "Did you mean `model.name`?"),
        ("model/mine", "path: [1]\n", "model=mine", "cannot set `model.path`"),
        ("task/mine", "# @package _global_\nlimti: 3\n", "task=mine", "Did you mean `limit`?"),
    ],
)
def test_file_that_cannot_be_merged_is_named_with_what_is_wrong_in_it(
    name: str,
    text: str,
    options: str,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write(tmp_path / "own", **{name.replace("/", "__"): text})
    assert compose(f"include={folder}", options)[0] == 2
    message = capsys.readouterr().err
    assert message.startswith(f"{folder / name}.yaml ")
    assert said in message


def test_two_folders_with_one_name_are_refused(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write(tmp_path / "other", task__more="", mine="")
    assert compose(f"include=[{own},{other}]")[0] == 2
    assert f"{other / 'mine.py'} has the name of {own / 'mine.py'}" in capsys.readouterr().err


def test_only_the_command_line_includes(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sly = write(tmp_path / "sly", experiment__sly=f'# @package _global_\ninclude: ["{own}"]\n')
    assert compose("--config-dir", str(sly), "experiment=sly", "task=gqa")[0] == 2
    assert "`include` must be given on the command line" in capsys.readouterr().err


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    "option", ["conversation.system=Hm", "conversation.roles=[A,B]", "conversation.stop=[x]"]
)
@pytest.mark.parametrize("template", ["mine", "v1"])
def test_a_template_is_changed_in_its_file_only(
    own: Path, option: str, template: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"include={own}", f"conversation={template}", option, "task=gqa")
    assert compose(*words)[0] == 2
    assert f"`{option.partition('=')[0]}` cannot be given" in capsys.readouterr().err


class Tokens:
    """A tokenizer that knows a few texts as one token."""

    eos_token = "</s>"
    known = SimpleNamespace(ids={"</s>": 2, "<end>": 7})

    def convert_tokens_to_ids(self, text: str) -> int:
        return self.known.ids.get(text, 0)

    def convert_ids_to_tokens(self, number: int) -> str:
        return {v: k for k, v in self.known.ids.items()}.get(number, "<unk>")


def test_a_template_stops_where_it_says(own: Path) -> None:
    use_folders([own])
    assert stop_tokens("mine", Tokens()) == [7]
    before = prompt_format("mine")
    use_folders([])
    write(own, conversation__mine=TEMPLATE.replace("<end>", "<stop>"))
    use_folders([own])
    assert prompt_format("mine") != before  # another answer, so another run
    with pytest.raises(ConversationError, match=r"`stop`.*mine.*'<stop>'"):
        stop_tokens("mine", Tokens())


@pytest.mark.parametrize(
    ("name", "style", "parts"),
    [
        ("vicuna_v1", "two", 'separators: [" ", "</s>"]'),
        ("v0_mmtag", "single", 'separators: ["###"]'),
        ("mpt", "mpt", 'separators: ["<|im_end|>"]'),
        ("qwen_1_5", "chatml", 'separators: ["<|im_end|>"]'),
        ("llama_2", "llama_2", 'separators: ["<s>", "</s>"]'),
        ("llava_llama_3", "llama_3", 'separators: ["<|eot_id|>"]'),
        ("gemma_instruct", "gemma", 'separators: ["<end_of_turn>\\n"]'),
        ("plain", "plain", 'separators: ["\\n"]'),
    ],
)
def test_every_style_renders_as_the_template_of_the_package(
    name: str, style: str, parts: str, tmp_path: Path
) -> None:
    import json

    known = conv_templates[name]
    text = f"template: same\nstyle: {style}\nsystem: {json.dumps(known.system)}\n{parts}\n"
    if style not in ("llama_2", "llama_3", "plain"):
        text += f"roles: {json.dumps(list(known.roles))}\n"
    use_folders([write(tmp_path / "own", conversation__same=text)])
    for question, number in (("Why?", 1), ("<image> or <image>?", 2), ("Why?", 0)):
        same = render_question("same", question, number)
        assert same == render_question(name, question, number)
