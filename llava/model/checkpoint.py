"""What lies in a checkpoint folder, found and checked without weights or torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError

DEFAULT_CONTEXT_LEN = 2048

_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_LLAMA_TYPES = ("llava_llama", "llava")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint folder whose parts have all been found.

    Attributes:
        path: The folder.
        config: Content of config.json.
        weight_files: The files that hold the weights, in the index's order.
        tower_dir: Folder of the vision tower.
        tower_config: The vision part of the tower's config.json.
    """

    path: Path
    config: Mapping[str, Any]
    weight_files: tuple[Path, ...]
    tower_dir: Path
    tower_config: Mapping[str, Any]

    @property
    def context_len(self) -> int:
        """The reference's context length: `max_sequence_length` of the config, else 2048."""
        return int(self.config.get("max_sequence_length") or DEFAULT_CONTEXT_LEN)

    @property
    def num_image_tokens(self) -> int:
        """Embeddings of an image that is not tiled."""
        side = int(self.tower_config.get("image_size", 224))
        patches = side // int(self.tower_config.get("patch_size", 32))
        return patches**2 + (self.config.get("mm_vision_select_feature") == "cls_patch")

    @property
    def files(self) -> list[Path]:
        """Every file that decides what the model answers, for hashing."""
        named = [self.path / name for name in ("config.json", *_TOKENIZER_FILES)]
        named += [self.tower_dir / name for name in ("config.json", "preprocessor_config.json")]
        files = [path for path in named if path.is_file()]
        return [*files, *self.weight_files, *find_weight_files(self.tower_dir)]


def inspect_checkpoint(path: str, base: str | None = None, name: str | None = None) -> Checkpoint:
    """Returns what lies in a checkpoint, once everything that loading needs has been found.

    Args:
        path: Folder or hub id.
        base: Folder or hub id of the model below an adapter; a complete checkpoint takes none.
        name: The model name; a name cannot change how a complete checkpoint is loaded.

    Raises:
        CheckpointError: a file is missing or unreadable, or the checkpoint is of a kind that cannot
            be loaded.
    """
    folder = resolve_model_path(path)
    config = read_config(folder)
    model_type = config.get("model_type")
    if model_type not in _LLAMA_TYPES:
        raise CheckpointError(
            f"`model_type` must be one of {', '.join(_LLAMA_TYPES)}, but is {model_type!r} in "
            f"{folder / 'config.json'} (model {name or folder.name}). Only complete LLaVA "
            "checkpoints on LLaMA or Vicuna can be loaded."
        )
    if base is not None:
        raise CheckpointError(
            f"`model.base` is {base}, but {folder} is a complete checkpoint, which has no base. "
            "Leave `model.base` out."
        )
    if not config.get("mm_vision_tower"):
        raise CheckpointError(
            f"`mm_vision_tower` is missing in {folder / 'config.json'}: without it the model "
            "cannot see. Take the config.json that was saved with the checkpoint."
        )
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES[:2]):
        raise CheckpointError(
            f"No tokenizer lies in {folder}: neither tokenizer.model nor tokenizer.json. Copy it "
            "from the language model that the checkpoint was trained from."
        )
    weight_files = find_weight_files(folder)
    tower_dir = resolve_vision_tower(config["mm_vision_tower"], folder)
    tower_config = read_config(tower_dir)
    find_weight_files(tower_dir)
    return Checkpoint(
        path=folder,
        config=config,
        weight_files=tuple(weight_files),
        tower_dir=tower_dir,
        tower_config=tower_config.get("vision_config") or tower_config,
    )


def resolve_model_path(path: str, revision: str | None = None) -> Path:
    """Returns the local folder of a checkpoint; a hub id is downloaded or found in the hub's cache.

    Raises:
        CheckpointError: there is no such folder and no such repository at hand.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if (
        folder.is_absolute()
        or path.startswith(".")
        or path.count("/") != 1
        or not all(path.split("/"))
    ):
        raise CheckpointError(
            f"`model.path` must be a folder or a hub id (owner/name), but {path!r} is neither. "
            "Check the path."
        )
    return _download(path, revision, "model.path")


def resolve_vision_tower(name: str, checkpoint_dir: str | Path | None) -> Path:
    """Returns the folder of the tower that a config names.

    Looked for in this order: an existing absolute path, a folder beside or inside the checkpoint, a
    hub id.

    Raises:
        CheckpointError: none of these is there.
    """
    places = [Path(name).expanduser()] if Path(name).expanduser().is_absolute() else []
    if checkpoint_dir is not None and not places:
        folder = Path(checkpoint_dir).resolve()
        places = [folder.parent / name, folder / name]
        if "/" in name:
            places += [folder.parent / Path(name).name, folder / Path(name).name]
    for place in places:
        if place.is_dir():
            return place
    if name.count("/") == 1 and not Path(name).is_absolute():
        return _download(name, None, "mm_vision_tower")
    raise CheckpointError(
        f"The vision tower {name!r}, named by `mm_vision_tower` in the config.json of "
        f"{checkpoint_dir}, was not found; looked for {', '.join(map(str, places))}. Put its "
        "folder beside the checkpoint, or correct the name."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the content of a folder's config.json.

    Raises:
        CheckpointError: it is missing or no JSON object.
    """
    return read_json_object(folder / "config.json", "Is this the folder of a checkpoint?")


def read_json_object(path: Path, remedy: str) -> dict[str, Any]:
    """Returns a JSON object from a file of a checkpoint.

    Raises:
        CheckpointError: the file is missing, unreadable or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing. {remedy}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. {remedy}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object. {remedy}")
    return content


def find_weight_files(folder: Path) -> list[Path]:
    """Returns the weight files of a folder: safetensors if there are any, else .bin.

    Raises:
        CheckpointError: there are none, or an index names a file that is not there.
    """
    for single, index in zip(_SINGLE_FILES, _INDEX_FILES, strict=True):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            return _indexed_files(folder / index)
    raise CheckpointError(
        f"No weights lie in {folder}: looked for {', '.join((*_SINGLE_FILES, *_INDEX_FILES))}. "
        "Download the checkpoint again, or correct the path."
    )


def _indexed_files(index: Path) -> list[Path]:
    remedy = "Download the checkpoint again."
    weight_map = read_json_object(index, remedy).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no `weight_map`. {remedy}")
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index} names {len(names)} files, of which {len(missing)} are missing: "
            f"{', '.join(missing)}. {remedy}"
        )
    return [index.parent / name for name in names]


def _download(repo_id: str, revision: str | None, option: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.model", "*.safetensors", "*.bin", "*.txt"]
    try:
        return Path(
            huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=patterns)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"`{option}` is {repo_id!r}: no such folder is here, and the hub did not give it "
            f"({type(error).__name__}). Check the name and the network, or download it first with "
            f"`hf download {repo_id}`."
        ) from error
