"""A tower is made of the files that are hashed, wherever else its folder leads the library."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llava.model.builder import load_pretrained_model


def other_weights(tower: Path) -> dict[str, object]:
    tensors = {name: -tensor for name, tensor in load_file(tower / "model.safetensors").items()}
    save_file(tensors, tower / "other.safetensors", metadata={"format": "pt"})
    return {"transformers_weights": "other.safetensors"}


def other_config(tower: Path) -> dict[str, object]:
    config = json.loads((tower / "config.json").read_text())
    (config.get("vision_config") or config).update(hidden_act="relu", layer_norm_eps=0.5)
    (tower / "config.4.0.0.json").write_text(json.dumps(config))
    return {"configuration_files": ["config.4.0.0.json"]}


def other_model(tower: Path) -> dict[str, object]:
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "elsewhere", "r": 1}
    (tower / "adapter_config.json").write_text(json.dumps(adapter))
    return {}


@pytest.mark.parametrize("lead", [other_weights, other_config, other_model])
def test_no_other_file_of_its_folder_makes_a_tower(
    lead: Callable[[Path], dict[str, object]], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    tower = shutil.copytree(tiny_checkpoint.with_name("clip-tiny-56"), tmp_path / "clip-tiny-56")
    folder = shutil.copytree(tiny_checkpoint, tmp_path / tiny_checkpoint.name)
    config = json.loads((tower / "config.json").read_text()) | lead(tower)
    (tower / "config.json").write_text(json.dumps(config))
    images = torch.linspace(-1, 1, 3 * 56 * 56).reshape(1, 3, 56, 56)
    features = []
    for place in (tiny_checkpoint, folder):
        _, model, _, _ = load_pretrained_model(
            str(place), None, place.name, dtype=torch.float32, device="cpu"
        )
        features.append(model.get_vision_tower()(images))
    assert torch.equal(*features)
