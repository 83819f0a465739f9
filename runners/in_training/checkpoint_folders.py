"""Folders that a training run writes checkpoints into: which hold one, and whether it is whole.

Weights are read as bytes, to see that nothing of them is left to be written; nothing is loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from evals.reading.files import visible
from llava.content_hash import state_of
from llava.errors import CheckpointError
from llava.model.kinds import (
    ADAPTER_CONFIG,
    ADAPTER_FILES,
    NON_LORA_FILE,
    PROJECTOR_FILE,
    PROJECTOR_PARTS,
    holds_part,
)
from llava.model.locate import (
    TOKENIZER_FILES,
    TOKENIZER_MODEL_FILES,
    expand_home,
    find_weight_files,
    has_weight_files,
    is_hub_id,
    vision_tower_places,
)
from llava.model.native import is_native_config
from runners.in_training.whole_files import flaw_of
from runners.options.words import by_numbers

_SCRATCH_PREFIXES = (".", "tmp-")  # transformers renames `tmp-checkpoint-5` once it is written
_ENDS = (".json", ".safetensors", ".bin", ".model", "-v2.pt")
_OF_THE_TRAINING = frozenset({"trainer_state.json", "training_args.bin"})
_CONFIGS = (
    *("config.json", "generation_config.json", "preprocessor_config.json"),
    "processor_config.json",
)

Fingerprint = tuple[tuple[str, list[int]], ...]


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


def what_is_missing(folder: Path, base: str | None = None) -> str:
    """Returns what a checkpoint lacks, empty if it is complete.

    Each file has to be there and whole; which ones follows from what the checkpoint is: complete
    with a tokenizer, an adapter, or a projector. A vision tower that lies on this machine has to be
    whole too; `base` is the model that an adapter was trained on.
    """
    try:
        return _missing_here(folder) or _missing_of_tower(folder, base)
    except OSError as error:  # removed, or moved while it was looked at
        return str(error)


def fingerprint(folder: Path, base: str | None = None) -> Fingerprint:
    """Returns names and states of the files that decide what an evaluation finds.

    They are those of the checkpoint, its tower and its base, wherever these may come to lie.
    """
    files = _deciding_files(folder, base)
    return tuple(sorted((str(path), state_of(path.stat())) for path in files))


def last_change_s(folder: Path, base: str | None = None) -> float:
    """Returns when one of those files was last written or renamed, as seconds of the epoch."""
    stats = [path.stat() for path in _deciding_files(folder, base)]
    return max((max(stat.st_mtime, stat.st_ctime) for stat in stats), default=0.0)


def _is_checkpoint(folder: Path) -> bool:
    if any((folder / name).is_file() for name in (ADAPTER_CONFIG, PROJECTOR_FILE)):
        return True
    config_path = folder / "config.json"
    if not config_path.is_file():
        return False
    config = _read_object(config_path)
    return config is None or _is_llava(config)


def _is_llava(config: dict[str, object]) -> bool:
    return str(config.get("model_type")).startswith("llava") or "mm_vision_tower" in config


def _missing_here(folder: Path) -> str:
    if (folder / ADAPTER_CONFIG).is_file():
        missing = _missing_of_adapter(folder)
    elif (folder / PROJECTOR_FILE).is_file() and not has_weight_files(folder):
        missing = _first_missing(folder, ["config.json", PROJECTOR_FILE])
    else:
        missing = _missing_of_model(folder)
    others = [name for name in (*TOKENIZER_FILES, *_CONFIGS) if (folder / name).is_file()]
    return missing or _first_missing(folder, others)


def _missing_of_tower(folder: Path, base: str | None) -> str:
    tower = next((place for place in _tower_places(folder, base) if place.is_dir()), None)
    if tower is None or not has_weight_files(tower):
        return ""  # the evaluation says what is wrong with it, if anything is
    weights = [path.relative_to(tower).as_posix() for path in find_weight_files(tower)]
    missing = _first_missing(tower, ["config.json", *weights])
    return f"of its vision tower {tower}, {missing}" if missing else ""


def _missing_of_adapter(folder: Path) -> str:
    adapters = [name for name in ADAPTER_FILES if (folder / name).is_file()]
    names = [ADAPTER_CONFIG, adapters[0] if adapters else ADAPTER_FILES[0]]
    config = _read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    beside = (folder / NON_LORA_FILE).is_file()
    if not beside and config is not None and (is_native_config(config) or not _is_llava(config)):
        return _first_missing(folder, names)
    missing = _first_missing(folder, [*names, "config.json"])
    try:
        if missing or (not beside and holds_part([folder / names[-1]], *PROJECTOR_PARTS)):
            return missing
    except CheckpointError as error:
        return str(error)
    return _first_missing(folder, [NON_LORA_FILE])


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
        if flaw := flaw_of(folder / name):
            return f"{name} {flaw}"
    return ""


def _read_object(path: Path) -> dict[str, object] | None:
    """The JSON object in a file, None if it does not hold one, or not yet."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _deciding_files(folder: Path, base: str | None) -> Iterator[Path]:
    """The files of the checkpoint, which has to be there, and of what lies beside it."""
    yield from _files(folder)
    bases = [] if base is None else [expand_home(base), *_hub_folders(base)]
    for place in (*bases, *_tower_places(folder, base)):
        if place.is_dir() and place != folder:
            yield from _files(place)


def _tower_places(folder: Path, base: str | None) -> list[Path]:
    """Where the vision tower that a checkpoint names may lie, in the order of a loader."""
    bases = [] if base is None else [expand_home(base)]
    for config in map(_config_of, (folder, *bases)):
        name = config.get("mm_vision_tower") or config.get("vision_tower")
        if isinstance(name, str):
            return [*vision_tower_places(name, folder, *bases), *_hub_folders(name)]
    return []


def _hub_folders(name: str) -> list[Path]:
    """The folders that the hub's cache holds of a hub id; none for any other name."""
    if not is_hub_id(name):
        return []
    from huggingface_hub.constants import HF_HUB_CACHE

    kept = Path(HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "snapshots")
    return sorted(kept.iterdir()) if kept.is_dir() else []


def _config_of(folder: Path) -> dict[str, object]:
    path = folder / "config.json"
    return (_read_object(path) if path.is_file() else None) or {}


def _files(folder: Path) -> list[Path]:
    """The files that make the checkpoint; what the training keeps beside them is left out."""
    return [
        path
        for path in visible(folder.iterdir())
        if path.name.endswith(_ENDS) and path.name not in _OF_THE_TRAINING and path.is_file()
    ]
