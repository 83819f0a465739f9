"""Folders that a training run writes checkpoints into: which hold one, and whether it is whole.

Everything here looks at names, sizes and headers of files; weights are never read.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

from llava.errors import CheckpointError
from llava.model.locate import TOKENIZER_MODEL_FILES, find_weight_files, has_weight_files
from runners.options.words import by_numbers

_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_NON_LORA_FILE = "non_lora_trainables.bin"
_PROJECTOR_FILE = "mm_projector.bin"

_SCRATCH_PREFIXES = (".", "tmp-")  # transformers renames `tmp-checkpoint-5` once it is written
_SUFFIXES = frozenset({".json", ".safetensors", ".bin", ".model"})
_OF_THE_TRAINING = frozenset({"trainer_state.json", "training_args.bin"})
_OLD_FORMAT = b"\x80\x02"
_MAX_HEADER_BYTES = 100 << 20

Fingerprint = tuple[tuple[str, int, int], ...]


def find_checkpoints(root: Path) -> list[Path]:
    """Returns the folders in and below `root` that hold a LLaVA checkpoint, or part of one.

    In the order of their names, with numbers by value. Vision towers and plain language models are
    none, links to folders are not followed.
    """
    found = []
    for folder, names, _ in os.walk(root):
        names[:] = [name for name in names if not name.startswith(_SCRATCH_PREFIXES)]
        if _is_checkpoint(Path(folder)):
            found.append(Path(folder))
    return sorted(found, key=lambda path: by_numbers(path.relative_to(root).as_posix()))


def what_is_missing(folder: Path) -> str:
    """Returns what a checkpoint lacks, empty if it is complete.

    Each file has to be there and as long as its header says; which ones follows from what the
    checkpoint is: complete with a tokenizer, an adapter, or a projector.
    """
    try:
        if (folder / _ADAPTER_CONFIG).is_file():
            return _missing_of_adapter(folder)
        if (folder / _PROJECTOR_FILE).is_file() and not has_weight_files(folder):
            return _first_missing(folder, ["config.json", _PROJECTOR_FILE])
        return _missing_of_model(folder)
    except OSError as error:  # removed, or moved while it was looked at
        return str(error)


def fingerprint(folder: Path) -> Fingerprint:
    """Returns names, sizes and times of the files that make a checkpoint, to tell a change by."""
    stats = {path.name: path.stat() for path in _files(folder)}
    return tuple(sorted((name, s.st_size, s.st_mtime_ns) for name, s in stats.items()))


def last_change_s(folder: Path) -> float:
    """Returns when a file of a checkpoint was last written or renamed, as seconds of the epoch."""
    stats = [path.stat() for path in _files(folder)]
    return max((max(stat.st_mtime, stat.st_ctime) for stat in stats), default=0.0)


def is_whole(path: Path) -> bool:
    """Whether a file is as long as its own header says, or ends as its format ends.

    Of a .bin file in torch's old format, which is a bare pickle, that cannot be told.
    """
    if path.suffix == ".safetensors":
        return _is_whole_safetensors(path)
    if path.suffix == ".json":
        return _read_object(path) is not None
    with path.open("rb") as file:
        if file.read(2) == _OLD_FORMAT:
            return True
    try:
        with zipfile.ZipFile(path):  # reads the directory, which comes last
            return True
    except zipfile.BadZipFile:
        return False


def _is_checkpoint(folder: Path) -> bool:
    if any((folder / name).is_file() for name in (_ADAPTER_CONFIG, _PROJECTOR_FILE)):
        return True
    config_path = folder / "config.json"
    if not config_path.is_file():
        return False
    config = _read_object(config_path)
    return config is None or _is_llava(config)


def _is_llava(config: dict[str, object]) -> bool:
    return str(config.get("model_type")).startswith("llava") or "mm_vision_tower" in config


def _missing_of_adapter(folder: Path) -> str:
    adapters = [name for name in _ADAPTER_FILES if (folder / name).is_file()]
    names = [_ADAPTER_CONFIG, adapters[0] if adapters else _ADAPTER_FILES[0]]
    config = _read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    if config is None or _is_llava(config) or (folder / _NON_LORA_FILE).is_file():
        names += ["config.json", _NON_LORA_FILE]
    return _first_missing(folder, names)


def _missing_of_model(folder: Path) -> str:
    missing = _first_missing(folder, ["config.json"])
    if missing:
        return missing
    if not has_weight_files(folder):
        return "weights are missing"
    try:
        weights = find_weight_files(folder)
    except CheckpointError as error:
        return str(error)
    if not any((folder / name).is_file() for name in TOKENIZER_MODEL_FILES):
        return f"{' or '.join(TOKENIZER_MODEL_FILES)} is missing"
    return _first_missing(folder, [path.relative_to(folder).as_posix() for path in weights])


def _first_missing(folder: Path, names: Iterable[str]) -> str:
    for name in names:
        if not (folder / name).is_file():
            return f"{name} is missing"
        if not is_whole(folder / name):
            return f"{name} is not whole"
    return ""


def _is_whole_safetensors(path: Path) -> bool:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(_MAX_HEADER_BYTES, size - 8):
            return False
        content = file.read(length)
    try:
        header = json.loads(content)
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (ValueError, AttributeError, KeyError, IndexError, TypeError, RecursionError):
        return False
    return size == 8 + length + max(ends, default=0)


def _read_object(path: Path) -> dict[str, object] | None:
    """The JSON object in a file, None if it does not hold one, or not yet."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _files(folder: Path) -> list[Path]:
    """The files that make the checkpoint; what the training keeps beside them is left out."""
    return [
        path
        for path in folder.iterdir()
        if path.suffix in _SUFFIXES and path.name not in _OF_THE_TRAINING and path.is_file()
    ]
