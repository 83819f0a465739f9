"""The checkpoint under evaluation, as far as its files tell it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from runners.evaluation.checkpoint import inspect_subject
from runners.options.model import (
    ConversationConfig,
    ModelConfig,
    QuantizationConfig,
    SubjectConfig,
)


@pytest.mark.parametrize(
    ("folder", "zoo", "forced", "expected"),
    [
        ("llava-v1.5-mine", None, None, ("vicuna_v1", "vicuna_v1")),
        ("llava-v1.5-mine", None, "plain", ("plain", "vicuna_v1")),
        ("llava-v1.5-mine", "llava_v1", "plain", ("plain", "llava_v1")),
        ("llava-gemma-mine", None, "plain", ("plain", None)),  # which its tokenizer contradicts
    ],
)
def test_template_that_was_asked_for_stands_beside_that_of_the_model(
    folder: str,
    zoo: str | None,
    forced: str | None,
    expected: tuple[str, str | None],
    tiny_checkpoint: Path,
    tiny_tower: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(tiny_tower, tmp_path / tiny_tower.name)
    path = shutil.copytree(tiny_checkpoint, tmp_path / folder)
    settings = SubjectConfig(
        model=ModelConfig(path=str(path), conversation=zoo),
        conversation=ConversationConfig(template=forced),
    )
    subject = inspect_subject(settings)
    assert (subject.template, subject.model_template) == expected


def test_folder_has_no_revision(tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It may be that of the model's own configuration, whose place a folder takes."""
    path = str(tiny_checkpoint)
    inspect_subject(SubjectConfig(model=ModelConfig(path=path, revision="v1.1")))
    assert f"`model.path` is the folder {path}, and has no revision v1.1" in caplog.text


@pytest.mark.parametrize(
    ("given", "is_told"),
    [
        ({"compute_dtype": "bfloat16"}, True),
        ({"name": "int8", "double_quant": False}, True),
        ({"name": "nf4", "double_quant": False, "compute_dtype": "bfloat16"}, False),
        ({"name": "int8"}, False),
    ],
)
def test_option_of_other_weights_has_no_effect(
    given: dict[str, Any], is_told: bool, tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = ModelConfig(path=str(tiny_checkpoint))
    inspect_subject(SubjectConfig(model=model, quantization=QuantizationConfig(**given)))
    assert ("have no effect on quantization" in caplog.text) == is_told
