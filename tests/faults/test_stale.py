"""No stale answers: whatever could change an answer keeps a run from being gone on with."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llava.conversation import conv_templates
from runners.errors import ConfigError
from runners.eval import evaluate
from runners.options import program
from runners.storage.identity import check_identity
from tests.runners.conftest import CHECKOUT, Shell, read_lines

pytestmark = pytest.mark.slow

Change = Callable[[Path], None]
PREDICTIONS = "results/r/custom/predictions.jsonl"
WEIGHTS = {
    "checkpoint.weights": "models/llava-demo/model.safetensors",
    "tower.weights": "models/clip-demo/model.safetensors",
}
OPTIONS = {
    "model": "model.name=llava-v1.5-other",
    "conversation": "conversation=llava_v1",
    "dtype": "dtype=float16",
    "vision_tower_dtype": "model.vision_tower_dtype=float16",
    "tf32": "model.tf32=true",
    "attention": "model.attention=eager",
    "quantization": "quantization=nf4",
    "engine.replay": "engine.replay=off",
    "generation.temperature": "generation.temperature=0.5",
    "generation.top_p": "generation.top_p=0.9",
    "generation.num_beams": "generation.num_beams=2",
    "generation.max_new_tokens": "generation.max_new_tokens=5",
    "seed": "seed=1",
}
FILES = {
    "checkpoint.config.json": "models/llava-demo/config.json",
    "checkpoint.generation_config.json": "models/llava-demo/generation_config.json",
    "checkpoint.special_tokens_map.json": "models/llava-demo/special_tokens_map.json",
    "checkpoint.tokenizer.model": "models/llava-demo/tokenizer.model",
    "checkpoint.tokenizer_config.json": "models/llava-demo/tokenizer_config.json",
    "tower.config.json": "models/clip-demo/config.json",
    "tower.preprocessor_config.json": "models/clip-demo/preprocessor_config.json",
    "data.questions.jsonl": "questions.jsonl",
}


def leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all fields of an identity."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def words(workspace: Path) -> list[str]:
    return [
        f"model.path={workspace}/models/llava-demo",
        "task=custom",
        f"tasks.custom.questions={workspace}/questions.jsonl",
        f"tasks.custom.images={workspace}/images",
        *("run=r", f"results_dir={workspace}/results", "generation.max_new_tokens=4"),
        "runner.num_threads=1",
    ]


@pytest.fixture(scope="module")
def workspace(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of a copy of the demo checkpoint; tests put back what they change."""
    folder = tmp_path_factory.mktemp("stale")
    for name in ("llava-demo", "clip-demo"):
        shutil.copytree(CHECKOUT / "llava/demo" / name, folder / "models" / name)
    (folder / "images").mkdir()
    questions = []
    for number, color in enumerate(("red", "blue")):
        Image.new("RGB", (48, 48), color).save(folder / "images" / f"{color}.png")
        questions.append({"question_id": number, "image": f"{color}.png", "text": "What color?"})
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    (folder / "questions.jsonl").write_text(lines)
    finished = shell(" ".join(["python -m runners.eval", *words(folder)]), folder)
    assert finished.code == 0, finished.stderr
    return folder


def identity(workspace: Path) -> dict[str, Any]:
    manifest = json.loads((workspace / "results/r/custom/manifest.json").read_text())
    stored: dict[str, Any] = manifest["identity"]
    return stored


def assert_refused(
    workspace: Path, field: str, extra: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (workspace / PREDICTIONS).read_bytes()
    assert program.run("eval", evaluate, [*words(workspace), *extra]) == 2
    message = capsys.readouterr().err
    assert f"`{field}` is" in message
    assert "run=NAME" in message
    assert "overwrite=true" in message
    assert "model loaded" not in message
    assert (workspace / PREDICTIONS).read_bytes() == before


@pytest.fixture(autouse=True)
def in_the_same_cache(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))


def test_every_field_of_the_identity_is_tried(workspace: Path) -> None:
    tried = {*OPTIONS, *FILES, *WEIGHTS, "prompts", "prompt_version", "prompt_format"}
    assert set(leaves(identity(workspace))) == tried


@pytest.mark.parametrize("field", OPTIONS)
def test_other_options_are_refused(
    field: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(workspace, field, [OPTIONS[field]], capsys)


@pytest.mark.parametrize("field", FILES)
def test_changed_files_are_refused(
    field: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / FILES[field]
    content = path.read_bytes()
    # a field that nobody knows, which sentencepiece passes over
    path.write_bytes(content + (b"\xfa\x07\x00" if path.suffix == ".model" else b"\n"))
    try:
        assert_refused(workspace, field, [], capsys)
    finally:
        path.write_bytes(content)


def test_changed_question_is_refused(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workspace / "questions.jsonl"
    content = path.read_text()
    path.write_text(content.replace("What color?", "Which color?"))
    try:
        assert_refused(workspace, "prompts", [], capsys)
    finally:
        path.write_text(content)


def test_program_that_renders_other_prompts_is_refused(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runners.evaluation.identity.PROMPT_VERSION", 1_000)
    assert_refused(workspace, "prompt_version", [], capsys)


def test_template_that_was_edited_is_refused(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    template = identity(workspace)["conversation"]
    edited = dataclasses.replace(conv_templates[template], system="Be brief.")
    monkeypatch.setitem(conv_templates, template, edited)
    assert_refused(workspace, "prompt_format", [], capsys)


def test_answers_of_another_dtype_than_the_device_default_are_refused(
    workspace: Path, shell: Shell
) -> None:
    """Only the worker knows that default: what is missing is not asked of the model it would be."""
    command = " ".join(["python -m runners.eval", *words(workspace), "run=half device=cpu"])
    first = shell(f"{command} limit=1 dtype=float16", workspace)
    assert first.code == 0, first.stderr
    stored = workspace / "results/half/custom/predictions.jsonl"
    before = stored.read_bytes()
    assert before.count(b"\n") == 1
    refused = shell(command, workspace)
    assert refused.code == 2, refused.stderr
    assert "`dtype` is" in refused.stderr
    assert "float16" in refused.stderr
    assert "float32" in refused.stderr
    assert "run=NAME" in refused.stderr
    assert "model loaded" not in refused.stderr
    assert stored.read_bytes() == before
    again = shell(f"{command} dtype=float16", workspace)
    assert again.code == 0, again.stderr
    assert len(read_lines(stored)) == 2


@pytest.mark.parametrize("role", ["base", "adapter"])
def test_other_parts_of_a_checkpoint_are_refused(role: str, workspace: Path) -> None:
    before = {**identity(workspace), role: {"weights": "a" * 64}}
    for now in ({**before, role: {"weights": "b" * 64}}, identity(workspace)):
        with pytest.raises(ConfigError, match=f"`{role}"):
            check_identity(workspace, before, now)


@pytest.mark.parametrize("field", WEIGHTS)
def test_weights_overwritten_in_place_are_refused(
    field: str, workspace: Path, shell: Shell
) -> None:
    """One bit of one weight; size, inode and time of change are as before."""
    path = workspace / WEIGHTS[field]
    stat = path.stat()
    before = (workspace / PREDICTIONS).read_bytes()
    command = " ".join(["python -m runners.eval", *words(workspace)])

    def flip() -> None:
        with path.open("r+b") as file:
            file.seek(-64, os.SEEK_END)
            [byte] = file.read(1)
            file.seek(-64, os.SEEK_END)
            file.write(bytes([byte ^ 1]))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    flip()
    now = path.stat()
    assert (now.st_size, now.st_ino, now.st_mtime_ns) == (
        stat.st_size,
        stat.st_ino,
        stat.st_mtime_ns,
    )
    refused = shell(command, workspace)
    flip()
    assert refused.code == 2, refused.stderr
    assert f"`{field}` is" in refused.stderr
    assert "overwrite=true" in refused.stderr
    assert (workspace / PREDICTIONS).read_bytes() == before
    again = shell(command, workspace)  # the same weights as at first
    assert again.code == 0, again.stderr
    assert "model loaded" not in again.stderr


def test_ways_out_lead_out(workspace: Path, shell: Shell) -> None:
    command = " ".join(["python -m runners.eval", *words(workspace), "seed=1"])
    before = (workspace / PREDICTIONS).read_bytes()
    assert shell(f"{command} run=other", workspace).code == 0
    assert (workspace / PREDICTIONS).read_bytes() == before
    assert shell(f"{command} overwrite=true", workspace).code == 0
    aside = workspace / "results/r/custom.old-1/predictions.jsonl"
    assert aside.read_bytes() == before
    assert len(read_lines(workspace / PREDICTIONS)) == 2
