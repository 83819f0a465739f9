from __future__ import annotations

import json
import os
import random
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from runners.in_training.checkpoint_folders import (
    find_checkpoints,
    fingerprint,
    last_change_s,
    what_is_missing,
)
from runners.in_training.whole_files import is_whole
from tests.checkpoints import make_checkpoint
from tests.variants import make_base, make_lora, make_mpt, make_native, make_projector

KINDS = (
    "single",
    "sharded",
    "bin",
    "sharded_bin",
    "mpt",
    "native",
    "lora",
    "projector",
    "plain_adapter",
)
OPTIONAL = {
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
}
"""Files without which a checkpoint may be complete."""


@pytest.fixture(scope="module")
def kinds(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A complete checkpoint of each kind."""
    home = tmp_path_factory.mktemp("kinds")
    made: dict[str, Path] = {"single": tiny_checkpoint}
    for name, options in (
        ("sharded", {"sharded": True}),
        ("bin", {"safetensors": False}),
        ("sharded_bin", {"sharded": True, "safetensors": False}),
    ):
        made[name] = make_checkpoint(home / name, tiny_tower, **options)
    made["mpt"] = make_mpt(home / "mpt", tiny_tower)
    made["native"] = make_native(home / "native", tiny_checkpoint, tiny_tower)
    made["lora"] = make_lora(home / "lora", tiny_checkpoint)
    made["projector"] = make_projector(home / "projector", tiny_checkpoint)
    (home / "plain_adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"):
        if (made["lora"] / name).exists():
            shutil.copy(made["lora"] / name, home / "plain_adapter")
    made["plain_adapter"] = home / "plain_adapter"
    return made


@pytest.fixture
def copied(kinds: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def copy(kind: str) -> Path:
        return Path(shutil.copytree(kinds[kind], tmp_path / kind))

    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_complete_checkpoint_lacks_nothing(kinds: dict[str, Path], kind: str) -> None:
    assert what_is_missing(kinds[kind]) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_has_to_be_there(copied: Callable[[str], Path], kind: str) -> None:
    folder = copied(kind)
    for path in [path for path in folder.iterdir() if path.name not in OPTIONAL]:
        if kind in ("native", "mpt") and path.suffix == ".model":
            continue  # beside tokenizer.json
        held = path.rename(folder.parent / path.name)
        remaining = [
            name for name in ("config.json", "adapter_config.json") if (folder / name).exists()
        ]
        if remaining:
            assert what_is_missing(folder), path.name
        held.rename(path)
    assert what_is_missing(folder) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_file_has_to_be_whole(copied: Callable[[str], Path], kind: str) -> None:
    folder = copied(kind)
    draw = random.Random(kind)
    weights = [p for p in folder.iterdir() if p.suffix in (".bin", ".safetensors")]
    assert weights
    for path in weights:
        content = path.read_bytes()
        for length in (
            0,
            1,
            7,
            9,
            len(content) - 1,
            *(draw.randrange(len(content)) for _ in "123456"),
        ):
            path.write_bytes(content[:length])
            assert path.name in what_is_missing(folder), length
        path.write_bytes(content)
    assert what_is_missing(folder) == ""


def test_configuration_has_to_be_whole(copied: Callable[[str], Path]) -> None:
    for kind, name in (("single", "config.json"), ("lora", "adapter_config.json")):
        path = copied(kind) / name
        path.write_bytes(path.read_bytes()[:-3])
        assert what_is_missing(path.parent) == f"{name} is not whole"


def test_index_names_the_shard_that_is_missing(copied: Callable[[str], Path]) -> None:
    folder = copied("sharded")
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors" in what_is_missing(folder)


def test_adapter_of_a_llava_needs_what_was_trained_beside_it(
    copied: Callable[[str], Path],
) -> None:
    folder = copied("lora")
    (folder / "non_lora_trainables.bin").unlink()
    assert what_is_missing(folder) == "non_lora_trainables.bin is missing"


def test_adapter_with_its_projector_needs_nothing_beside_it(
    copied: Callable[[str], Path],
) -> None:
    folder = copied("lora")
    adapter = torch.load(folder / "adapter_model.bin", weights_only=True)
    projector = torch.load(folder / "non_lora_trainables.bin", weights_only=True)
    torch.save(adapter | projector, folder / "adapter_model.bin")
    assert what_is_missing(folder) == ""
    (folder / "non_lora_trainables.bin").unlink()
    assert what_is_missing(folder) == ""
    (folder / "config.json").write_text('{"model_type": "llava", "text_')
    assert what_is_missing(folder) == "config.json is not whole"


def test_adapter_in_the_old_format_that_is_cut_is_not_complete(
    copied: Callable[[str], Path],
) -> None:
    folder = copied("lora")
    (folder / "non_lora_trainables.bin").unlink()
    path = folder / "adapter_model.bin"
    adapter = torch.load(path, weights_only=True)
    torch.save(adapter, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:300])
    assert "adapter_model.bin cannot be read" in what_is_missing(folder)


def test_adapter_over_transformers_own_llava_needs_nothing_beside_it(
    copied: Callable[[str], Path],
) -> None:
    folder = copied("plain_adapter")
    (folder / "config.json").write_text('{"model_type": "llava", "text_config": {}}')
    assert what_is_missing(folder) == ""


def test_folder_that_is_removed_meanwhile_is_not_complete(tmp_path: Path) -> None:
    assert what_is_missing(tmp_path / "gone")


@pytest.mark.parametrize(
    "header", [b"", b"{", b"[]", b'{"a": {}}', b'{"a": {"data_offsets": []}}', b'{"a": 1}']
)
def test_file_with_a_broken_header_is_not_whole(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert not is_whole(path)


def test_file_that_is_longer_than_its_header_says_is_not_whole(kinds: dict[str, Path]) -> None:
    path = kinds["single"] / "model.safetensors"
    longer = kinds["sharded"].parent / "longer.safetensors"
    longer.write_bytes(path.read_bytes() + b"x")
    assert is_whole(path)
    assert not is_whole(longer)


def test_old_torch_format_counts_as_whole_unless_it_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    assert is_whole(path)
    path.write_bytes(b"")
    assert not is_whole(path)


def test_checkpoints_are_found_at_any_depth_in_natural_order(
    kinds: dict[str, Path], tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    wanted = ["a/checkpoint-900", "a/checkpoint-1000", "b", "b/checkpoint-1000", "c/deep/lora"]
    for name in wanted:
        kind = "lora" if name.endswith("lora") else "projector"
        shutil.copytree(kinds[kind], root / name, dirs_exist_ok=True)
    for name in (".hidden", "tmp-checkpoint-5", "b/tmp-checkpoint-6"):
        shutil.copytree(kinds["lora"], root / name)
    shutil.copytree(tiny_tower, root / "clip")
    make_base(root / "vicuna", tiny_checkpoint)
    (root / "logs").mkdir()
    (root / "latest").symlink_to(root / "a" / "checkpoint-1000")
    assert [path.relative_to(root).as_posix() for path in find_checkpoints(root)] == wanted


def test_folder_itself_may_be_the_checkpoint(kinds: dict[str, Path]) -> None:
    assert find_checkpoints(kinds["lora"]) == [kinds["lora"]]


def test_half_written_configuration_is_found_and_incomplete(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llava_ll')
    assert find_checkpoints(tmp_path) == [tmp_path]
    assert what_is_missing(tmp_path) == "config.json is not whole"


def test_only_files_of_the_checkpoint_count_as_a_change(copied: Callable[[str], Path]) -> None:
    folder = copied("lora")
    before, changed_s = fingerprint(folder), last_change_s(folder)
    time.sleep(0.02)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 5}))
    (folder / "train.log").write_text("loss")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "config.json").write_text("{}")
    assert (fingerprint(folder), last_change_s(folder)) == (before, changed_s)
    write_adapter_again(folder)
    assert fingerprint(folder) != before
    assert last_change_s(folder) > changed_s


def test_packed_weights_of_llm_awq_are_watched_as_others_are(copied: Callable[[str], Path]) -> None:
    folder = copied("bin")
    packed = (folder / "pytorch_model.bin").rename(folder / "llava-w4-g128-awq-v2.pt")
    assert what_is_missing(folder) == ""
    before, content = fingerprint(folder), packed.read_bytes()
    packed.write_bytes(content[:-5])
    assert fingerprint(folder) != before
    assert what_is_missing(folder) == f"{packed.name} is not whole"


def write_adapter_again(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(path.read_text() + "\n")


def test_copy_with_old_times_is_a_recent_change(kinds: dict[str, Path], tmp_path: Path) -> None:
    started_s = time.time() - 1
    folder = Path(shutil.copytree(kinds["lora"], tmp_path / "copy"))
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    assert last_change_s(folder) >= started_s


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.model", "config.json"])
def test_every_file_of_the_tokenizer_has_to_be_whole(
    copied: Callable[[str], Path], name: str
) -> None:
    path = copied("single") / name
    path.write_bytes(bytes(path.stat().st_size))
    assert what_is_missing(path.parent).startswith(f"{name} is not whole")


def name_tower(folder: Path, name: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mm_vision_tower": name}))


def test_tower_beside_the_checkpoint_belongs_to_it(
    copied: Callable[[str], Path], tiny_tower: Path
) -> None:
    folder = copied("single")
    name_tower(folder, "a-tower")
    before = fingerprint(folder)
    assert what_is_missing(folder) == ""  # the evaluation says that there is no tower
    tower = shutil.copytree(tiny_tower, folder.parent / "a-tower")
    after = fingerprint(folder)
    assert after != before
    weights = next(tower.glob("*.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-5])
    assert f"{weights.name} is not whole" in what_is_missing(folder)
    weights.write_bytes(content)
    assert what_is_missing(folder) == ""


@pytest.mark.parametrize("kind", ["tower", "base"])
def test_what_the_hub_gives_is_noticed(
    copied: Callable[[str], Path], tiny_tower: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = copied("single" if kind == "tower" else "lora")
    base = "somebody/it" if kind == "base" else None
    if kind == "tower":
        name_tower(folder, "somebody/it")
    hub = folder.parent / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    before = fingerprint(folder, base)
    shutil.copytree(tiny_tower, hub / "models--somebody--it/snapshots/0123")
    assert fingerprint(folder, base) != before
