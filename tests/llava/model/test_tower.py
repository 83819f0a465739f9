"""A vision tower that was trained is never exchanged for the stock one without a word."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llava.errors import CheckpointError
from llava.model.builder import load_pretrained_model
from llava.model.checkpoint import inspect_checkpoint
from llava.model.tower_facts import is_tower_tuned
from tests.broken_checkpoints import edit_config
from tests.checkpoints import make_checkpoint
from tests.variants import make_lora, make_native, make_projector

PREFIX = "model.vision_tower.vision_tower."
CLASS_EMBEDDING = "vision_model.embeddings.class_embedding"


def class_embedding(folder: Path, base: Path | None = None) -> torch.Tensor:
    """The tower's class embedding after loading, in float32."""
    below = None if base is None else str(base)
    _, model, _, _ = load_pretrained_model(str(folder), below, folder.name, device="cpu")
    return model.get_vision_tower().vision_tower.vision_model.embeddings.class_embedding.float()


def own_tensors(tower: Path) -> dict[str, torch.Tensor]:
    return {PREFIX + k: v for k, v in load_file(tower / "model.safetensors").items()}


@pytest.mark.parametrize(
    ("fields", "tuned"),
    [
        ({"mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model"}, True),
        ({"mm_tunable_parts": "mm_mlp_adapter, mm_vision_tower"}, True),
        ({"mm_tunable_parts": ["mm_vision_tower"]}, True),
        ({"mm_tunable_parts": "mm_vision_tower", "unfreeze_mm_vision_tower": False}, True),
        ({"unfreeze_mm_vision_tower": True}, True),
        ({"mm_tunable_parts": "mm_vision_tower_lr,mm_mlp_adapter"}, False),
        ({"mm_tunable_parts": None}, False),
        ({"unfreeze_mm_vision_tower": False}, False),
        ({}, False),
    ],
)
def test_fields_that_say_that_the_tower_was_tuned(fields: dict[str, Any], tuned: bool) -> None:
    assert is_tower_tuned(fields) is tuned


def test_tower_named_among_the_tuned_parts_is_the_checkpoints_own(
    tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "llava-next", tiny_tower, unfreeze_mm_vision_tower=True)
    edit_config(folder, unfreeze_mm_vision_tower=None, mm_tunable_parts="mm_vision_tower")
    stored = load_file(folder / "model.safetensors")[PREFIX + CLASS_EMBEDDING]
    assert inspect_checkpoint(str(folder)).tower_in_checkpoint
    assert torch.equal(class_embedding(folder), stored.float())


def test_tuned_tower_that_is_not_there_is_missed_by_name(tiny_tower: Path, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "llava-tiny", tiny_tower)
    edit_config(folder, mm_tunable_parts="mm_vision_tower")
    with pytest.raises(
        CheckpointError, match=r"lacks .* tensors of the vision tower.*tunable_parts"
    ):
        class_embedding(folder)


@pytest.mark.parametrize("fields", [{"mm_tunable_parts": "mm_mlp_adapter"}, {}])
@pytest.mark.parametrize("make", [make_lora, make_projector])
def test_tuned_tower_of_a_base_stays_below_what_was_trained_with_it_frozen(
    tiny_tower: Path, tmp_path: Path, make: Callable[..., Path], fields: dict[str, Any]
) -> None:
    base = make_checkpoint(tmp_path / "llava-next", tiny_tower, unfreeze_mm_vision_tower=True)
    edit_config(base, unfreeze_mm_vision_tower=None, mm_tunable_parts="mm_vision_tower")
    folder = make(tmp_path / "llava-next-mine", base)
    edit_config(folder, **{"mm_tunable_parts": None, "unfreeze_mm_vision_tower": False, **fields})
    stored = load_file(base / "model.safetensors")[PREFIX + CLASS_EMBEDDING]
    assert torch.equal(class_embedding(folder, base), stored.float())


@pytest.mark.parametrize("flag", [None, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_copy_of_the_stock_tower_is_passed_over(
    tiny_tower: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    dtype: torch.dtype,
    flag: bool | None,
) -> None:
    folder = make_checkpoint(tmp_path / "llava-tiny", tiny_tower)
    edit_config(folder, unfreeze_mm_vision_tower=flag)
    held = {name: tensor.to(dtype) for name, tensor in own_tensors(tiny_tower).items()}
    weights = load_file(folder / "model.safetensors")
    save_file(weights | held, folder / "model.safetensors")
    stock = own_tensors(tiny_tower)[PREFIX + CLASS_EMBEDDING]
    assert torch.equal(class_embedding(folder), stock.float())
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_tower_that_differs_is_refused_or_told(
    tiny_tower: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_checkpoint(tmp_path / "llava-tiny", tiny_tower)
    held = own_tensors(tiny_tower)
    trained = held[PREFIX + CLASS_EMBEDDING] + 0.01
    weights = load_file(folder / "model.safetensors") | held
    save_file(weights | {PREFIX + CLASS_EMBEDDING: trained}, folder / "model.safetensors")
    stock = class_embedding(folder)
    (line,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert "1 of the" in line
    assert CLASS_EMBEDDING in line
    edit_config(folder, unfreeze_mm_vision_tower=None)
    with pytest.raises(CheckpointError, match=r"vision tower.*class_embedding.*unfreeze_mm_vision"):
        class_embedding(folder)
    edit_config(folder, unfreeze_mm_vision_tower=True)  # the remedy that the message gives
    assert torch.equal(class_embedding(folder), trained.float())
    assert not torch.equal(stock, trained.float())


@pytest.mark.parametrize(
    "name", ["/data/train/openai/{}", "C:\\models\\{}", "~/towers/{}", "models/{}/"]
)
@pytest.mark.parametrize("inside", [False, True])
def test_tower_of_the_training_machine_is_found_by_its_last_part(
    tiny_tower: Path, tmp_path: Path, name: str, inside: bool
) -> None:
    folder = make_checkpoint(tmp_path / "llava-tiny", tiny_tower)
    place = (folder if inside else tmp_path) / "clip-mine"
    shutil.copytree(tiny_tower, place)
    edit_config(folder, mm_vision_tower=name.format("clip-mine"))
    assert inspect_checkpoint(str(folder)).tower_dir == place.resolve()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensor: tensor.to(torch.int8), "stored as int8"),
        (lambda tensor: tensor.to(torch.float8_e4m3fn), "stored as float8_e4m3fn"),
        (lambda tensor: tensor * float("nan"), "holds NaN"),
    ],
)
def test_tower_of_other_numbers_is_refused(
    tiny_tower: Path, tmp_path: Path, change: Any, told: str
) -> None:
    tower = Path(shutil.copytree(tiny_tower, tmp_path / tiny_tower.name))
    folder = make_checkpoint(tmp_path / "llava-tiny", tower)
    tensors = load_file(tower / "model.safetensors")
    changed = {k: change(v) if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(changed, tower / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"{tower.name}/model\.safetensors .*{told}"):
        class_embedding(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"_attn_implementation": "flash_attention_2", "attn_implementation": "x"},
        {"dtype": "x", "projection_dim": "y", "output_hidden_states": "z", "pruned_heads": {}},
    ],
    ids=["attention", "others"],
)
def test_no_field_of_the_tower_steers_the_library(
    tiny_tower: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    tower = Path(shutil.copytree(tiny_tower, tmp_path / tiny_tower.name))
    folder = make_checkpoint(tmp_path / "llava-tiny", tower)
    expected = class_embedding(folder)
    edit_config(tower, **fields)
    assert torch.equal(class_embedding(folder), expected)


def test_tower_that_transformers_own_format_lacks_is_missed_without_other_formats_fields(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_native(tmp_path / "llava-1.5-hf", tiny_checkpoint, tiny_tower)
    content = json.loads((folder / "config.json").read_text())
    content["vision_config"]["num_hidden_layers"] += 1
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"lacks 16 tensors .* its `vision_config`") as caught:
        class_embedding(folder)
    assert "mm_" not in str(caught.value).partition(": ")[0]
