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
from tests.checkpoints import make_checkpoint, make_tower
from tests.towers import make_siglip
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


@pytest.fixture
def tuned_base(tiny_tower: Path, tmp_path: Path) -> Path:
    """A complete checkpoint whose tower was trained, as LLaVA-NeXT says so."""
    base = make_checkpoint(tmp_path / "llava-next", tiny_tower, unfreeze_mm_vision_tower=True)
    edit_config(base, unfreeze_mm_vision_tower=None, mm_tunable_parts="mm_vision_tower")
    return base


def trained_over(base: Path, folder: Path, tower: Path, make: Callable[..., Path]) -> Path:
    """What was trained over a base, with the tower left alone, which has another name here."""
    llava = make_checkpoint(folder.with_name("llava-as-in-training"), tower)
    made = make(folder, llava)
    edit_config(made, mm_vision_tower=str(tower), mm_tunable_parts="mm_mlp_adapter")
    edit_config(made, unfreeze_mm_vision_tower=None, _name_or_path=base.name)
    return made


@pytest.mark.parametrize("make", [make_lora, make_projector])
def test_tuned_tower_of_a_base_stays_whatever_the_tower_is_called(
    tuned_base: Path, tiny_tower: Path, tmp_path: Path, make: Callable[..., Path]
) -> None:
    tower = Path(shutil.copytree(tiny_tower, tmp_path / "towers/clip-56"))
    folder = trained_over(tuned_base, tmp_path / "llava-next-mine", tower, make)
    stored = load_file(tuned_base / "model.safetensors")[PREFIX + CLASS_EMBEDDING]
    assert torch.equal(class_embedding(folder, tuned_base), stored.float())


@pytest.mark.few_cases(4)
@pytest.mark.parametrize("sizes", [{"image_size": 70}, {"num_layers": 2}, {"num_layers": 4}])
@pytest.mark.parametrize("make", [make_lora, make_projector])
def test_tuned_tower_of_a_base_is_not_dropped_for_one_of_other_sizes(
    tuned_base: Path, tmp_path: Path, sizes: dict[str, int], make: Callable[..., Path]
) -> None:
    tower = make_tower(tmp_path / "towers/clip-other", **sizes)
    folder = trained_over(tuned_base, tmp_path / "llava-next-mine", tower, make)
    with pytest.raises(
        CheckpointError, match=r"tensors (of the vision tower|that|of .* have another)"
    ) as caught:
        class_embedding(folder, tuned_base)
    message = str(caught.value)
    assert str(tuned_base) in message.partition(": ")[0]
    assert "vision_tower.vision_tower.vision_model." in message
    assert f"`mm_vision_tower` in {folder / 'config.json'}" in message
    assert f"in {folder / 'config.json'} says was trained" not in message
    edit_config(folder, mm_vision_tower=inspect_checkpoint(str(tuned_base)).tower_dir.as_posix())
    class_embedding(folder, tuned_base)  # the remedy


@pytest.mark.parametrize("is_tuned", [True, False])
def test_whole_tower_that_was_trained_over_a_base_stands_for_the_bases(
    tuned_base: Path, tmp_path: Path, is_tuned: bool
) -> None:
    tower = make_tower(tmp_path / "towers/clip-other", image_size=70, seed=5)
    folder = trained_over(tuned_base, tmp_path / "llava-next-mine", tower, make_lora)
    edit_config(folder, mm_tunable_parts="mm_vision_tower" if is_tuned else "mm_mlp_adapter")
    file = folder / "non_lora_trainables.bin"
    own = {f"base_model.model.{k}": 2 * tensor for k, tensor in own_tensors(tower).items()}
    beside = torch.load(file, weights_only=True)
    torch.save(beside | own, file)
    trained = own[f"base_model.model.{PREFIX}{CLASS_EMBEDDING}"]
    assert torch.equal(class_embedding(folder, tuned_base), trained.float())
    torch.save(beside | {f"base_model.model.{PREFIX}{CLASS_EMBEDDING}": trained}, file)
    with pytest.raises(CheckpointError, match=r"another shape than .*config\.json asks for"):
        class_embedding(folder, tuned_base)


@pytest.mark.parametrize("native", [False, True])
def test_what_a_training_left_alone_says_nothing_of_the_tower_of_its_base(
    tiny_tower: Path, tmp_path: Path, native: bool
) -> None:
    base = make_checkpoint(tmp_path / "llava", tiny_tower, unfreeze_mm_vision_tower=True)
    folder = trained_over(base, tmp_path / "llava-mine", tiny_tower, make_lora)
    stored = load_file(base / "model.safetensors")[PREFIX + CLASS_EMBEDDING]
    if native:
        base = make_native(tmp_path / "llava-1.5-hf", base, tiny_tower)
    edit_config(base, unfreeze_mm_vision_tower=None)
    with pytest.raises(CheckpointError, match="have other values than in") as caught:
        class_embedding(folder, base)
    assert f"`unfreeze_mm_vision_tower` in {base / 'config.json'}" in str(caught.value)
    edit_config(base, unfreeze_mm_vision_tower=True)  # the remedy
    assert torch.equal(class_embedding(folder, base), stored.float())


FROZEN = {"unfreeze_mm_vision_tower": False}


@pytest.mark.parametrize("fields", [FROZEN, {"mm_tunable_parts": "mm_mlp_adapter"}, {}])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.vision_tower.adapter.0.weight", (4, 32)),
        (f"{PREFIX}vision_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", (4, 32)),
        (f"{PREFIX}vision_model.embeddings.position_embedding.weight", (26, 32)),
        (f"{PREFIX}vision_model.encoder.layers.3.layer_norm1.weight", (32,)),
    ],
)
def test_frozen_tower_is_the_named_one_or_refused(
    tiny_tower: Path, tmp_path: Path, fields: dict[str, Any], name: str, shape: tuple[int, ...]
) -> None:
    folder = make_checkpoint(tmp_path / "llava-tiny", tiny_tower)
    edit_config(folder, unfreeze_mm_vision_tower=None)
    edit_config(folder, **fields)
    weights = load_file(folder / "model.safetensors") | own_tensors(tiny_tower)
    save_file(weights | {name: torch.ones(shape).half()}, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"^1 tensors of .*another shape than the tower in"
    ) as caught:
        class_embedding(folder)
    message = str(caught.value)
    assert "other values" not in message
    assert name in message
    assert str(tiny_tower) in message
    assert f"`mm_vision_tower` in {folder / 'config.json'}" in message


@pytest.mark.parametrize("prefix", [PREFIX, "model.vision_tower.", "vision_tower._orig_mod."])
def test_harmless_tensors_of_a_frozen_tower_are_passed_over(
    tiny_tower: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, prefix: str
) -> None:
    folder = make_checkpoint(tmp_path / "llava-tiny", tiny_tower)
    held = {k.replace(PREFIX, prefix): tensor for k, tensor in own_tensors(tiny_tower).items()}
    held[f"{prefix}vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    weights = load_file(folder / "model.safetensors")
    save_file(weights | held, folder / "model.safetensors")
    stock = own_tensors(tiny_tower)[PREFIX + CLASS_EMBEDDING]
    assert torch.equal(class_embedding(folder), stock.float())
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_layers_that_the_tower_is_used_without_are_its_own(tmp_path: Path) -> None:
    make_siglip(tmp_path / "siglip")
    folder = make_checkpoint(tmp_path / "llava-ov", tmp_path / "siglip")
    weights, stored = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "siglip"))
    held = {PREFIX + name: t for name, t in stored.items() if name.startswith("vision_model.")}
    assert {name for name in held if ".layers.2." in name or ".head." in name}
    save_file(weights | held, folder / "model.safetensors")
    load_pretrained_model(str(folder), None, folder.name, device="cpu")


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
