"""What was hashed is what was read: whatever is written or put there meanwhile is noticed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llava.errors import CheckpointError
from llava.model.checkpoint import Checkpoint, inspect_checkpoint
from llava.model.loaded_files import describe_other_files, hash_loaded, read_states


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
