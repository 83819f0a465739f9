"""The identity of weights follows their content, whatever a file's name, size and time say."""

import os

import pytest
import torch
from safetensors.torch import save_file

from llava.content_hash import cached_hash, hash_weight_files
from llava.errors import CheckpointError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "llava-evals" / "digests"


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(4, 4), "b": torch.zeros(3)}, path)
    return path


def flip_last_byte(path):
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        [byte] = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def test_hash_is_remembered(weights):
    assert cached_hash([weights]) is None
    found = hash_weight_files([weights])
    assert cached_hash([weights]) == found


def test_file_overwritten_in_place_with_its_old_time_is_hashed_again(weights):
    before = hash_weight_files([weights])
    stat = weights.stat()
    flip_last_byte(weights)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    now = weights.stat()
    assert (now.st_size, now.st_mtime_ns, now.st_ino) == (
        stat.st_size,
        stat.st_mtime_ns,
        stat.st_ino,
    )
    assert cached_hash([weights]) is None
    assert hash_weight_files([weights]) != before


def test_file_replaced_by_one_of_its_size_and_time_is_hashed_again(weights, tmp_path):
    before = hash_weight_files([weights])
    stat = weights.stat()
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes())
    flip_last_byte(other)
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(weights)
    assert cached_hash([weights]) is None
    assert hash_weight_files([weights]) != before


def test_sharding_and_names_of_files_make_no_difference(weights, tmp_path):
    shards = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    save_file({"b": torch.zeros(3)}, shards[0])
    save_file({"a": torch.ones(4, 4)}, shards[1])
    assert hash_weight_files(shards) == hash_weight_files([weights])


def test_cache_that_is_spoiled_is_not_believed(weights, cache):
    found = hash_weight_files([weights])
    [entry] = cache.iterdir()
    entry.write_text(entry.read_text()[:-9])
    assert cached_hash([weights]) is None
    assert hash_weight_files([weights]) == found


def test_entry_that_cannot_be_read_costs_its_hashing_only(weights, cache):
    found = hash_weight_files([weights])
    [entry] = cache.iterdir()
    entry.unlink()
    entry.mkdir()
    assert cached_hash([weights]) is None
    assert hash_weight_files([weights]) == found


def test_cache_that_is_no_folder_is_done_without(weights, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert hash_weight_files([weights]) == hash_weight_files([weights])


def test_entry_is_for_all_whom_the_umask_lets_read(weights, cache):
    before = os.umask(0o022)
    try:
        hash_weight_files([weights])
    finally:
        os.umask(before)
    [entry] = cache.iterdir()
    assert entry.stat().st_mode & 0o777 == 0o644


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.tensor([1.0, float("nan")])}, path)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        hash_weight_files([path])
