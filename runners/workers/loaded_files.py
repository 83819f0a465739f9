"""The files that a model was loaded from: what they hold, by role, and whether they still do.

A model is put together from many files. Whoever loads it notes their states before, and compares
what is there afterwards: then what was hashed is what was read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from llava.content_hash import FileState, file_state, hash_weight_files
from llava.errors import CheckpointError
from llava.model.checkpoint import Checkpoint, inspect_checkpoint

Hashes = Mapping[str, Mapping[str, str | None]]
"""Hashes (hex) by the role of a folder (`checkpoint`, `base`, `adapter`, `tower`) and by file name,
where `weights` stands for all tensors of a role."""

FileStates = Mapping[Path, FileState]


def find_weights(checkpoint: Checkpoint) -> dict[str, list[Path]]:
    """Returns the files with weights by folder role; `adapter` is what lies over a base."""
    files = {
        "checkpoint" if checkpoint.base is None else "base": list(checkpoint.weight_files),
        "adapter": list(checkpoint.trained_files),
        "tower": checkpoint.tower_files,
    }
    return {role: paths for role, paths in files.items() if paths}


def hash_small_files(checkpoint: Checkpoint) -> dict[str, dict[str, str]]:
    """Returns the hashes of all files but those with weights, by folder role and name."""
    hashes: dict[str, dict[str, str]] = {}
    roles = {checkpoint.base: "base", checkpoint.path: "checkpoint"}
    with_weights = {path for paths in find_weights(checkpoint).values() for path in paths}
    for path in checkpoint.files:
        if path not in with_weights:
            content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
            hashes.setdefault(roles.get(path.parent, "tower"), {})[path.name] = content_hash
    return hashes


def read_states(checkpoint: Checkpoint) -> FileStates:
    """Returns by which the files can be told from what is put or written there later."""
    return {path: file_state(path) for path in checkpoint.files}


def require_unchanged(checkpoint: Checkpoint, states: FileStates) -> None:
    """Raises CheckpointError if something was written to or replaced since `read_states`."""
    base = None if checkpoint.base is None else str(checkpoint.base)
    found = inspect_checkpoint(str(checkpoint.path), base, checkpoint.name)
    now = read_states(found)
    changed = sorted(str(p) for p in states.keys() | now.keys() if states.get(p) != now.get(p))
    if changed or found != checkpoint:
        raise CheckpointError(
            f"The files of {checkpoint.name} were written to while they were read "
            f"({', '.join(changed) or checkpoint.path}), so it is not known what was loaded. Start "
            "again once they are complete."
        )


def hash_loaded(checkpoint: Checkpoint, states: FileStates) -> dict[str, dict[str, str]]:
    """Returns the hashes of everything that was loaded since `read_states` gave these states.

    Raises:
        CheckpointError: a file was written to or replaced since.
    """
    hashes = hash_small_files(checkpoint)
    for role, paths in find_weights(checkpoint).items():
        hashes.setdefault(role, {})["weights"] = hash_weight_files(paths)
    require_unchanged(checkpoint, states)
    return hashes


def describe_other_files(began: Hashes, found: Hashes) -> str:
    """Returns which files hold something else than those that a run began with.

    >>> describe_other_files({"tower": {"weights": "a"}}, {"tower": {"weights": "b"}})
    'weights of the tower'
    >>> began = {"checkpoint": {"config.json": "a", "tokenizer.json": "b"}}
    >>> describe_other_files(began, {"checkpoint": {"config.json": "c"}})
    'config.json of the checkpoint, tokenizer.json of the checkpoint'
    """
    return ", ".join(
        f"{name} of the {role}"
        for role in {**began, **found}
        for name in sorted(began.get(role, {}).keys() | found.get(role, {}).keys())
        if began.get(role, {}).get(name) != found.get(role, {}).get(name)
    )
