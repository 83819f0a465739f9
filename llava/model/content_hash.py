"""Identity of a checkpoint: what its files hold, by role, and whether they are still the same.

Tensors are known by their content, whatever files they lie in. Hashing reads every byte, so the
digests of a file are remembered in a cache under the file's real path, inode, size and times: what
was written to in place is hashed anew. Whoever loads a model, which is put together from many
files, notes their states before, and compares what is there afterwards: then what was hashed is
what was read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llava.errors import CheckpointError
from llava.model.checkpoint import Checkpoint, inspect_checkpoint

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_CACHE_VERSION = 2

Hashes = Mapping[str, Mapping[str, str | None]]
"""Hashes (hex) by the role of a folder (`checkpoint`, `base`, `adapter`, `tower`) and by file name,
where `weights` stands for all tensors of a role."""

FileState = list[int | str]
"""Version of the cache, and real place and state of a file."""

FileStates = Mapping[Path, FileState]


def digest_tensor(name: str, tensor: torch.Tensor) -> str:
    """Returns the sha256 (hex) of a tensor's name, dtype, shape and bytes."""
    import torch

    digest = hashlib.sha256(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
    if tensor.numel():
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def combine_digests(digests: Mapping[str, str]) -> str:
    """Returns the sha256 (hex) of tensors' digests, in the order of their names."""
    return hashlib.sha256(json.dumps(dict(sorted(digests.items()))).encode()).hexdigest()


def hash_weight_files(files: Iterable[Path]) -> str:
    """Returns the sha256 (hex) of the tensors in weight files; sharding makes no difference.

    Digests are remembered in `llava-evals/digests` in the user's cache folder.

    Raises:
        CheckpointError: a file cannot be read or is being written to, or a weight is NaN or
            infinite.
    """
    digests: dict[str, str] = {}
    for path in files:
        digests |= _cached_digests(path) or _read_digests(path)
    return combine_digests(digests)


def cached_hash(files: Iterable[Path]) -> str | None:
    """Returns what `hash_weight_files` would, if every file is in the cache; imports no torch."""
    digests: dict[str, str] = {}
    for path in files:
        found = _cached_digests(path)
        if found is None:
            return None
        digests |= found
    return combine_digests(digests)


def _read_digests(path: Path) -> dict[str, str]:
    """The digests of a file by its tensors' names, remembered for the next time."""
    from llava.model.weights import read_tensors

    state = _file_state(path)  # before the reading: what is put there meanwhile is noticed
    tensors = read_tensors([path], packed=True)
    _require_finite(tensors, path)
    digests = {name: digest_tensor(name, tensor) for name, tensor in tensors.items()}
    if _file_state(path) != state:
        raise CheckpointError(
            f"{path} was written to while it was read. Start again once it is complete."
        )
    _remember(path, {"state": state, "digests": digests})
    return digests


def _require_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        # torch asks this of no float of 8 bits
        wide = tensor.half() if tensor.itemsize == 1 else tensor
        if tensor.is_floating_point() and not wide.isfinite().all():
            raise CheckpointError(
                f"{name} in {path} holds NaN or infinite values: every answer would be noise. The "
                "training diverged or the conversion failed; take an earlier checkpoint."
            )


def state_of(stat: os.stat_result) -> list[int]:
    """Returns what changes whenever a file is written to or replaced by another.

    That is size, time of change, the time that nobody can set (ctime) and inode: a file of the same
    size and time, as `cp -p`, `rsync -t` and archives leave it, differs in the last two.
    """
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _file_state(path: Path) -> FileState:
    real = path.resolve()
    return [_CACHE_VERSION, str(real), *state_of(real.stat())]


def _entry_path(path: Path) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "llava-evals/digests")
    return cache / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()}.json"


def _cached_digests(path: Path) -> dict[str, str] | None:
    try:
        entry = json.loads(_entry_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it is hashed anew, whoever wrote what lies there
        return None
    is_valid = isinstance(entry, dict) and entry.get("state") == _file_state(path)
    return entry["digests"] if is_valid else None


def _remember(path: Path, entry: Mapping[str, Any]) -> None:
    """Writes a cache entry atomically; two processes at once write the same."""
    place = _entry_path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # as the umask says, and no file of `tempfile`, which others with this cache cannot read
        scratch = place.with_suffix(f".{secrets.token_hex(8)}.tmp")
        scratch.write_text(json.dumps(entry), encoding="utf-8")
        scratch.replace(place)
    except OSError as error:
        logger.warning("digests of %s are not remembered in %s: %s", path, place.parent, error)


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
    return {path: _file_state(path) for path in checkpoint.files}


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
