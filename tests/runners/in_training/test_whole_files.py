"""Files that have their full length and are not written to their end yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from runners.in_training.whole_files import flaw_of, is_whole
from tests.checkpoints import make_checkpoint

WIDTH = 256


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Tensors as a training may leave them: some of zeros, some with a few rows of zeros."""
    torch.manual_seed(0)
    tensors = {f"layers.{n}.weight": torch.randn(WIDTH, WIDTH) for n in range(4)}
    tensors |= {f"layers.{n}.bias": torch.zeros(WIDTH) for n in range(4)}
    tensors |= {f"layers.{n}.lora_B": torch.zeros(WIDTH, 64) for n in range(2)}
    tensors["embedding"] = torch.randn(8 * WIDTH, WIDTH)
    tensors["embedding"][0] = tensors["embedding"][-3:] = 0.0
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    return path


def hollow(path: Path, begin: float, end: float) -> None:
    """Puts zeros where a copy has not written yet: a part of the data, from 0 to 1."""
    content = bytearray(path.read_bytes())
    head = 8 + int.from_bytes(content[:8], "little") if path.suffix == ".safetensors" else 0
    first, last = (head + int((len(content) - head) * part) for part in (begin, end))
    content[first:last] = bytes(last - first)
    path.write_bytes(content)


def test_zeros_that_a_training_leaves_are_meant(weights: Path) -> None:
    assert flaw_of(weights) == ""


@pytest.mark.parametrize(
    ("begin", "end"),
    [(0.0, 1.0), (0.0, 0.1), (0.1, 0.5), (0.6, 0.8), (0.3, 1.0), (0.9, 1.0), (0.99, 1.0)],
)
def test_weights_with_a_hole_are_not_whole(weights: Path, begin: float, end: float) -> None:
    hollow(weights, begin, end)
    assert "runners.eval" in flaw_of(weights)


def test_verdict_is_another_once_the_file_is_written(weights: Path) -> None:
    content = weights.read_bytes()
    hollow(weights, 0.5, 1.0)
    assert not is_whole(weights)
    weights.write_bytes(content)
    assert is_whole(weights)


@pytest.mark.parametrize("part", [(0.3, 0.5), (0.02, 0.1), (0.9, 1.0), (0.0, 1.0)])
def test_zip_with_a_hole_is_not_whole(
    tmp_path: Path, tiny_tower: Path, part: tuple[float, float]
) -> None:
    path = make_checkpoint(tmp_path / "m", tiny_tower, safetensors=False) / "pytorch_model.bin"
    assert is_whole(path)
    hollow(path, *part)
    assert not is_whole(path)


def test_end_of_an_old_file_has_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "mm_projector.bin"
    torch.save({"a": torch.randn(99, 99)}, path, _use_new_zipfile_serialization=False)
    assert is_whole(path)
    hollow(path, 0.7, 1.0)
    assert not is_whole(path)


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer_config.json"])
def test_tokenizer_has_to_be_written(tmp_path: Path, tiny_checkpoint: Path, name: str) -> None:
    content = (tiny_checkpoint / name).read_bytes()
    path = tmp_path / name
    for spoiled in (b"", content[: len(content) // 2], bytes(len(content))):
        path.write_bytes(spoiled)
        assert not is_whole(path)
    path.write_bytes(content)
    assert is_whole(path)


def test_file_of_single_tensor_that_is_all_zeros_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(4096)}, path)
    assert not is_whole(path)
    os.truncate(path, 0)
    assert not is_whole(path)
