"""What was hashed is what was read: whatever is written or put there meanwhile is noticed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llava.errors import CheckpointError
from llava.model.checkpoint import Checkpoint, inspect_checkpoint
from llava.model.locate import find_weight_files, read_config
from runners.workers.loaded_files import (
    describe_other_files,
    find_weights,
    hash_loaded,
    read_states,
)


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Checkpoint:
    """A checkpoint with its tower, both of which may be damaged."""
    tower = tiny_checkpoint.with_name("clip-tiny-56")
    shutil.copytree(tower, tmp_path / tower.name)
    folder = shutil.copytree(tiny_checkpoint, tmp_path / tiny_checkpoint.name)
    return inspect_checkpoint(str(folder))


def rewrite(path: Path) -> None:
    """Changes a byte in place and puts the times back, as nobody would by accident."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replace(path: Path) -> None:
    """Puts another file of the same content in its place."""
    shutil.copy2(path, path.with_name("other"))
    path.with_name("other").replace(path)


def link(path: Path) -> None:
    """Makes it a link to the same content elsewhere."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


NAMES = ("config.json", "tokenizer.model", "tower/preprocessor_config.json", "tower/weights")


def find(checkpoint: Checkpoint, name: str) -> Path:
    folder = checkpoint.tower_dir if name.startswith("tower/") else checkpoint.path
    assert folder is not None
    if name.endswith("weights"):
        return next(iter(folder.glob("*.safetensors")))
    return folder / name.rpartition("/")[2]


@pytest.mark.parametrize("damage", [replace, link])
@pytest.mark.parametrize("name", NAMES)
def test_file_that_is_replaced_while_it_is_read_is_named(
    checkpoint: Checkpoint, name: str, damage: Callable[[Path], None]
) -> None:
    states = read_states(checkpoint)
    path = find(checkpoint, name)
    damage(path)
    with pytest.raises(CheckpointError, match=rf"written to while.*{path.name}"):
        hash_loaded(checkpoint, states)


def test_same_bytes_again_have_the_same_hashes_and_others_are_named(checkpoint: Checkpoint) -> None:
    began = hash_loaded(checkpoint, read_states(checkpoint))
    for name in NAMES:
        replace(find(checkpoint, name))
    assert hash_loaded(checkpoint, read_states(checkpoint)) == began
    rewrite(find(checkpoint, "tower/weights"))
    again = hash_loaded(checkpoint, read_states(checkpoint))
    assert describe_other_files(began, again) == "weights of the tower"


@pytest.mark.parametrize("name", ["generation_config.json", "added_tokens.json"])
def test_file_that_was_not_there_is_noticed(checkpoint: Checkpoint, name: str) -> None:
    (checkpoint.path / name).unlink(missing_ok=True)
    states = read_states(checkpoint)
    began = hash_loaded(checkpoint, states)
    (checkpoint.path / name).write_text("{}")
    with pytest.raises(CheckpointError, match=name):
        hash_loaded(checkpoint, states)
    again = hash_loaded(checkpoint, read_states(checkpoint))
    assert describe_other_files(began, again) == f"{name} of the checkpoint"


def test_file_that_says_how_images_are_prepared_is_hashed(checkpoint: Checkpoint) -> None:
    assert checkpoint.tower_dir is not None
    path = checkpoint.tower_dir / "processor_config.json"
    path.write_text(json.dumps({"processor_class": "LlavaProcessor"}))
    assert path not in checkpoint.files
    path.write_text(json.dumps({"image_processor": {"image_mean": [0.5, 0.5, 0.5]}}))
    assert path in checkpoint.files


@pytest.mark.parametrize("part", ["vision_tower.vision_model.x.lora_A.weight", "mm_projector.x"])
def test_tower_below_an_adapter_is_one_of_the_files(
    part: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Whatever the adapter leaves of a tuned tower is as in the tower's own files."""
    adapter = tmp_path / "adapter_model.safetensors"
    save_file({f"base_model.model.model.{part}": torch.ones(1)}, adapter)
    tuned = {**checkpoint.config, "unfreeze_mm_vision_tower": True}
    trained = dataclasses.replace(checkpoint, config=tuned, trained_files=(adapter,))
    assert ("tower" in find_weights(trained)) == part.startswith("vision_tower")
    weights = find(checkpoint, "tower/weights")
    assert (weights in trained.files) == part.startswith("vision_tower")


@pytest.mark.parametrize("name", [["a"], 5, None, "../elsewhere.safetensors"])
def test_index_names_nothing_but_files_beside_it(name: object, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(CheckpointError, match=r"index\.json must name files beside it"):
        find_weight_files(tmp_path)


def test_pipe_in_the_place_of_a_configuration_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match=r"config\.json is no regular file"):
        read_config(tmp_path)
