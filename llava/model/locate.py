"""Folders, hub ids and files of checkpoints: found, not loaded. Imports no torch."""

from __future__ import annotations

import json
import os
import pickletools
import zipfile
from codecs import BOM_UTF8
from itertools import chain
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from llava.errors import CheckpointError, reason_of

_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_LLM_AWQ_FILES = "*-v2.pt"  # as llm-awq calls its quantized weights, beside a config.json
_IN_PARTS = ("zero_to_fp32.py", "global_step*", "pytorch_model_fsdp_*")
_OLD_FORMAT_PICKLES = 4  # before torch's zip format: two numbers, the machine's facts, the content
_MAX_HEADER = 100_000_000  # bytes that safetensors allows for names and shapes
_LFS_POINTER = b"version https://git-lfs"

TOKENIZER_MODEL_FILES = ("tokenizer.model", "tokenizer.json")
TOKENIZER_FILES = (
    *TOKENIZER_MODEL_FILES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def resolve_model_path(
    path: str, revision: str | None = None, *, option: str = "model.path"
) -> Path:
    """Returns the local folder of a checkpoint; a hub id is downloaded or found in the hub's cache.

    `revision` is a branch, tag or commit of a hub id, and `option` what the path was given as.

    Raises:
        CheckpointError: there is no such folder and no such repository at hand.
    """
    folder = expand_home(path)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise CheckpointError(
            f"`{option}` is {path!r}, a file. Give a folder with config.json and weights as "
            ".safetensors or .bin: models are read from nothing else."
        )
    if not is_hub_id(path):
        raise CheckpointError(
            f"`{option}` must be a folder or a hub id (owner/name), but {path!r} is neither. "
            "Check the path."
            + (
                " As a pattern it needs -m, and a folder that fits it."
                if set(path) & set("*?")
                else ""
            )
        )
    return _download(path, revision, option)


def expand_home(path: str) -> Path:
    """Returns a path with its `~`, or as it is where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's raises for an unknown user


def resolve_vision_tower(name: str, *checkpoint_dirs: str | Path | None) -> Path:
    """Returns the folder of the tower that a config names in `mm_vision_tower`.

    Looked for in this order: an existing absolute path, a folder beside or inside the folders of
    the checkpoint and of its base (None entries are left out), a hub id. Beside and inside, the
    last part of the name is enough: a path may be one of the machine of the training.

    Raises:
        CheckpointError: none of these is there.
    """
    places = vision_tower_places(name, *checkpoint_dirs)
    for place in places:
        if place.is_dir():
            return place
    if is_hub_id(name):
        return _download(name, None, "mm_vision_tower")
    raise CheckpointError(
        f"The vision tower {name!r}, which the checkpoint's config.json names as "
        f"`mm_vision_tower`, was not found; looked for {', '.join(map(str, places))}. Put its "
        "folder beside the checkpoint, or correct the name."
    )


def vision_tower_places(name: str, *checkpoint_dirs: str | Path | None) -> list[Path]:
    """Returns where the tower of that name may lie, but for the hub, the first one first."""
    path = expand_home(name)
    folders = [Path(folder).resolve() for folder in checkpoint_dirs if folder is not None]
    last = PureWindowsPath(name).name  # which both kinds of slash divide
    parts = dict.fromkeys((last,) if path.is_absolute() else (name, last))
    return [path] * path.is_absolute() + [
        place / part for folder in folders for part in parts for place in (folder.parent, folder)
    ]


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the content of a folder's config.json.

    Raises:
        CheckpointError: it is missing or no JSON object.
    """
    remedy = "Copy it from where the weights were saved, or give a complete checkpoint."
    return read_json_object(folder / "config.json", remedy)


def read_json_object(path: Path, remedy: str) -> dict[str, Any]:
    """Returns a JSON object from a file of a checkpoint.

    Raises:
        CheckpointError: the file is missing, unreadable or holds something else.
    """
    if path.exists() and not path.is_file():  # reading a pipe would wait
        raise CheckpointError(f"{path} is no regular file. {remedy}")
    written = b""
    try:
        written = path.read_bytes()
        content = json.loads(written.decode("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing. {remedy}") from error
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UnicodeDecodeError) or written.startswith(BOM_UTF8) or 0 in written:
            remedy = "Another program wrote it so: save it as UTF-8 without a byte order mark."
        raise CheckpointError(f"{path} cannot be read: {reason_of(error)}. {remedy}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object. {remedy}")
    return content


def refuse_lfs_pointer(path: Path) -> None:
    """Raises CheckpointError for what lies in a clone where Git LFS content was not fetched.

    OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        is_pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
    if is_pointer:
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself. Run `git lfs pull` in "
            f"{path.parent}, or download the file."
        )


def read_strings(path: Path) -> frozenset[str]:
    """Returns every string that a weight file holds beside its values, the tensors' names among it.

    Raises:
        CheckpointError: the file is a Git LFS pointer, damaged or not accessible.
    """
    try:
        refuse_lfs_pointer(path)
        with path.open("rb") as file:
            if path.suffix == ".safetensors":
                size = int.from_bytes(file.read(8), "little")
                return frozenset(json.loads(file.read(min(size, _MAX_HEADER))))
            if not zipfile.is_zipfile(path):
                return _strings_of_pickles(file, _OLD_FORMAT_PICKLES)
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as file:
                return _strings_of_pickles(file, 1)
    except (OSError, ValueError, LookupError, EOFError, StopIteration, zipfile.BadZipFile) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """Returns the error for a weight file that cannot be read."""
    return CheckpointError(
        f"{path} cannot be read ({type(error).__name__}: {reason_of(error)}): it is truncated, "
        "damaged or not accessible. Download it again, or check its permissions."
    )


def _strings_of_pickles(file: IO[bytes], number: int) -> frozenset[str]:
    """The strings of the first pickles of a file, which are taken apart, not run."""
    operations = chain.from_iterable(pickletools.genops(file) for _ in range(number))
    return frozenset(value for _, value, _ in operations if isinstance(value, str))


def find_tokenizer_file(folder: Path) -> Path:
    """Returns the file of a folder's tokenizer: `tokenizer.model` if it is there.

    Raises:
        CheckpointError: there is none.
    """
    for name in TOKENIZER_MODEL_FILES:
        if (folder / name).is_file():
            return folder / name
    remedy = "Copy it from the model that the checkpoint was trained from."
    if (folder / "vocab.json").is_file():
        remedy = (
            "vocab.json is there, of which transformers makes the latter: "
            f"`AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})`."
        )
    raise CheckpointError(
        f"No tokenizer lies in {folder}: neither {' nor '.join(TOKENIZER_MODEL_FILES)}. {remedy}"
    )


def has_weight_files(folder: Path) -> bool:
    """Whether a folder holds a model's weights."""
    known = any((folder / name).is_file() for name in (*_SINGLE_FILES, *_INDEX_FILES))
    return known or any(folder.glob(_LLM_AWQ_FILES))


def find_weight_files(folder: Path) -> list[Path]:
    """Returns the weight files of a folder: safetensors if there are any, else .bin, else .pt.

    Raises:
        CheckpointError: there are none, or several of llm-awq's, or an index names a file that is
            not there.
    """
    for single, index in zip(_SINGLE_FILES, _INDEX_FILES, strict=True):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            return _indexed_files(folder / index)
    packed = sorted(folder.glob(_LLM_AWQ_FILES))
    if len(packed) > 1:
        raise CheckpointError(
            f"{folder} holds {len(packed)} files of quantized weights: "
            f"{', '.join(path.name for path in packed)}. Leave the one that is meant."
        )
    if packed:
        return packed
    raise lacks_files("No weights lie in", folder)


def lacks_files(opening: str, folder: Path, *others: str) -> CheckpointError:
    """Returns the error for a folder without weights, and without the other files looked for."""
    remedy = "Download the checkpoint again, or correct the path."
    if parts := [path.name for pattern in _IN_PARTS for path in folder.glob(pattern)]:
        remedy = (
            f"Each process of the training has saved its own, as {parts[0]} shows: join them with "
            "DeepSpeed's `zero_to_fp32.py`, or those of FSDP with `accelerate merge-weights`. "
            "For a LoRA, resume the training there, and have it save the adapter."
        )
    names = (*_SINGLE_FILES, *_INDEX_FILES, _LLM_AWQ_FILES, *others)
    return CheckpointError(f"{opening} {folder}: looked for {', '.join(names)}. {remedy}")


def _indexed_files(index: Path) -> list[Path]:
    remedy = "Download the checkpoint again."
    weight_map = read_json_object(index, remedy).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no `weight_map`. {remedy}")
    if odd := [name for name in weight_map.values() if not isinstance(name, str) or "/" in name]:
        raise CheckpointError(
            f"{index} must name files beside it in `weight_map`, but names {odd[0]!r}. {remedy}"
        )
    names = sorted(set(weight_map.values()))
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise CheckpointError(
            f"{index} names {len(names)} files, of which {len(missing)} are missing: "
            f"{', '.join(missing)}. {remedy}"
        )
    return [index.parent / name for name in names]


def _download(repo_id: str, revision: str | None, option: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.model", "*.safetensors", "*.bin", "*.txt", _LLM_AWQ_FILES]
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"`{option}` is {repo_id!r}: no such folder is here, and the hub did not give it "
            f"({type(error).__name__}). Check the name and the network, or download it first with "
            f"`hf download {repo_id}`."
        ) from error


def is_hub_id(name: str) -> bool:
    """Whether a name is of the form owner/name."""
    return not name.startswith((".", "/", "~")) and name.count("/") == 1 and all(name.split("/"))
