"""A model that does not see is noticed before it is asked everything."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llava.generation.request import ImageProbe
from runners.errors import CanaryError
from runners.evaluation.canary import is_healthy, judge
from tests.runners.conftest import Shell


def probe(change: float = 1.0, *, is_finite: bool = True, text: str = "a", blank: str = "b"):
    return ImageProbe(
        key="1", logit_change=change, is_finite=is_finite, text=text, blank_text=blank
    )


def test_healthy_model_passes_silently(caplog: pytest.LogCaptureFixture) -> None:
    judge([probe(), probe(0.0), probe(text="a", blank="a")])
    assert caplog.records == []


@pytest.mark.parametrize(
    ("found", "healthy"),
    [
        (probe(), True),
        (probe(0.0), False),
        (probe(is_finite=False), False),
        (probe(text="no", blank="no"), False),
        (probe(text="!!!!!"), False),
    ],
)
def test_one_answer_that_hangs_on_its_image_is_enough(found: ImageProbe, healthy: bool) -> None:
    assert is_healthy(found) is healthy


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ([probe(0.0), probe(0.0)], "does not see"),
        ([probe(), probe(is_finite=False)], "NaN or infinite"),
    ],
)
def test_model_that_cannot_be_right_stops_the_run(probes: list[ImageProbe], said: str) -> None:
    with pytest.raises(CanaryError, match=said):
        judge(probes)


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ([probe(text="no", blank="no")] * 2, "blank image"),
        ([probe(text="!!!!!!!!"), probe(text="")], "degenerate"),
    ],
)
def test_what_may_be_right_is_only_a_warning(
    probes: list[ImageProbe], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        judge(probes)
    assert said in caplog.text


@pytest.fixture
def blind(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint with a projector that gives nothing but zeros."""
    tower = tiny_checkpoint.with_name("clip-tiny-56")
    shutil.copytree(tower, tmp_path / tower.name)
    folder = shutil.copytree(tiny_checkpoint, tmp_path / tiny_checkpoint.name)
    num_changed = 0
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        for name in tensors:
            if "mm_projector" in name:
                tensors[name] = torch.zeros_like(tensors[name])
                num_changed += 1
        save_file(tensors, path, metadata={"format": "pt"})
    assert num_changed
    return folder


def options(checkpoint: Path) -> str:
    return (
        f"model.path={checkpoint} task=gqa data=demo data.demo.num_images=1 "
        "generation.max_new_tokens=3 runner.num_threads=1"
    )


@pytest.mark.slow
def test_blind_model_is_stopped(shell: Shell, blind: Path, tmp_path: Path) -> None:
    command = f"python -m runners.eval {options(blind)} run=blind"
    stopped = shell(command, tmp_path)
    assert stopped.code == 1
    assert "does not see" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not (tmp_path / "results/blind/gqa/predictions.jsonl").exists()


@pytest.mark.slow
def test_blind_model_is_asked_with_the_canary_off(
    shell: Shell, blind: Path, tmp_path: Path
) -> None:
    command = f"python -m runners.eval {options(blind)} run=blind canary=off"
    assert shell(command, tmp_path).code == 0


@pytest.mark.slow
def test_short_runs_are_not_probed(shell: Shell, blind: Path, tmp_path: Path) -> None:
    assert shell(f"python -m runners.eval {options(blind)} limit=7", tmp_path).code == 0


@pytest.mark.slow
def test_what_kept_it_from_trying_is_said(
    shell: Shell, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    questions = [{"question_id": i, "image": f"{i}.png", "text": "What is this?"} for i in range(8)]
    for question in questions:
        (images / str(question["image"])).write_text("no image")
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(each) + "\n" for each in questions))
    words = "task=custom tasks.custom.questions=q.jsonl tasks.custom.images=images run=r"
    finished = shell(
        f"python -m runners.eval model.path={tiny_checkpoint} {words} runner.num_threads=1",
        tmp_path,
    )
    assert finished.code == 1
    assert "canary: whether the model sees is not known" in finished.stderr
    assert "(image_unreadable): " in finished.stderr
    assert "0.png" in finished.stderr


def test_canary_is_on_or_off(call: Shell, tmp_path: Path) -> None:
    finished = call("python -m runners.eval canary=maybe", tmp_path)
    assert finished.code == 2
    assert "canary" in finished.stderr
