"""Weight files give tensors or a reason, and never run code."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llava.errors import CheckpointError
from llava.model.weights import read_tensors

TENSORS = {
    "model.norm.weight": torch.arange(32, dtype=torch.float16),
    "lm_head.weight": torch.arange(640.0).view(20, 32),
    "scalar": torch.tensor(3),
}

LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9976634558\n"
)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def write(path, tensors=TENSORS, **options):
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, **options)
    return path


def same(found, expected):
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
        for name, tensor in expected.items()
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("model.safetensors", {}),
        ("pytorch_model.bin", {}),
        ("pytorch_model.bin", {"_use_new_zipfile_serialization": False}),
    ],
    ids=["safetensors", "bin", "bin from before the zip format"],
)
def test_tensors_come_as_they_were_saved(tmp_path, name, options):
    assert same(read_tensors([write(tmp_path / name, **options)]), TENSORS)


def test_files_are_joined(tmp_path):
    names = list(TENSORS)
    first = write(tmp_path / "1.safetensors", {names[0]: TENSORS[names[0]]})
    second = write(tmp_path / "2.bin", {name: TENSORS[name] for name in names[1:]})
    assert same(read_tensors([first, second]), TENSORS)
    assert read_tensors([]) == {}


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kept", [0, 1, 4, 100, 0.5, -1])
def test_truncated_file_is_refused_by_name(tmp_path, name, kept):
    path = write(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError) as caught:
        read_tensors([path])
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("kept", [100, 0.5, -1])
def test_truncated_file_of_the_old_format_is_refused_by_name(tmp_path, kept):
    path = write(tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError) as caught:
        read_tensors([path])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("content", [b"not weights", b"<!DOCTYPE html>\n" * 99])
def test_other_content_is_refused_by_name(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_tensors([path])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "mm_projector.bin"])
def test_git_lfs_pointer_is_refused_as_that(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(LFS_POINTER)
    with pytest.raises(CheckpointError, match="is a Git LFS pointer") as caught:
        read_tensors([path])
    assert str(path) in str(caught.value)
    assert "git lfs pull" in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_missing_file_is_refused_by_name(tmp_path, name):
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        read_tensors([tmp_path / name])
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("how", ["zip", "old format", "bare pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, how):
    path, marker = tmp_path / "pytorch_model.bin", tmp_path / "ran"
    content = {**TENSORS, "trap": Trap(marker)}
    if how == "bare pickle":
        path.write_bytes(pickle.dumps(Trap(marker), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError, match="would run code when loaded") as caught:
        read_tensors([path])
    assert not marker.exists()
    assert str(path) in str(caught.value)
    assert "safetensors" in str(caught.value)


def test_the_trap_would_have_run(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("other", ["2.safetensors", "2.bin"])
def test_name_in_two_files_is_refused(tmp_path, other):
    first, second = write(tmp_path / "1.safetensors"), write(tmp_path / other)
    with pytest.raises(CheckpointError, match="3 tensors that an earlier file holds") as caught:
        read_tensors([first, second])
    assert str(second) in str(caught.value)
    assert "lm_head.weight" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [list(TENSORS.values()), {"model": TENSORS}, {"epoch": 3}, TENSORS["scalar"]],
    ids=["list", "nested", "state of a trainer", "tensor"],
)
def test_file_without_named_tensors_is_refused(tmp_path, content):
    path = write(tmp_path / "pytorch_model.bin", content)
    with pytest.raises(CheckpointError, match="must hold a mapping of names to tensors") as caught:
        read_tensors([path])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.bool, torch.int64, torch.complex64, torch.float8_e4m3fn]
)
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_tensors_of_other_numbers_than_weights_are_refused(
    tmp_path: Path, dtype: torch.dtype, suffix: str
) -> None:
    """Adapters, projectors and towers are read here as checkpoints are."""
    path, name = tmp_path / f"adapter_model.{suffix}", "model.layers.0.mlp.up_proj.lora_A.weight"
    tensors = {name: torch.ones(4, 4).to(dtype), "embeddings.position_ids": torch.arange(3)}
    save_file(tensors, path) if suffix == "safetensors" else torch.save(tensors, path)
    told = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=rf"lora_A\.weight in .*{suffix} is stored as {told}"):
        read_tensors([path])
