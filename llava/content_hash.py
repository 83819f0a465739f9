"""Identity by content: of weights and images, whatever files they lie in. Imports no torch.

Hashing weights reads every byte, so the digests of a file are remembered in a cache under its real
path, inode, size and times: what was written to in place is hashed anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections import ChainMap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llava.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

logger = logging.getLogger(__name__)

_CACHE_VERSION = 2

FileState = list[int | str]
"""Version of the cache, and real place and state of a file."""


def hash_image(image: Image) -> str:
    """Returns the sha256 (hex) of an image's mode, size and pixels."""
    header = f"{image.mode} {image.size[0]}x{image.size[1]} ".encode()
    return hashlib.sha256(header + image.tobytes()).hexdigest()


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
    found = list(map(_cached_digests, files))
    return None if None in found else combine_digests(ChainMap(*filter(None, found)))


def _read_digests(path: Path) -> dict[str, str]:
    """The digests of a file by its tensors' names, remembered for the next time."""
    from llava.model.weights import read_tensors

    state = file_state(path)  # before the reading: what is put there meanwhile is noticed
    tensors = read_tensors([path], packed=True)
    _require_finite(tensors, path)
    digests = {name: digest_tensor(name, tensor) for name, tensor in tensors.items()}
    if file_state(path) != state:
        raise CheckpointError(
            f"{path} was written to while it was read. Start again once it is complete."
        )
    _remember(path, {"state": state, "digests": digests})
    return digests


def _require_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        # torch asks this of no float of 8 bits
        wide = tensor.half() if tensor.itemsize == 1 else tensor
        is_packed = tensor.shape[1:] == (1,)  # bitsandbytes' bytes, which may be stored as floats
        if tensor.is_floating_point() and not is_packed and not wide.isfinite().all():
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


def file_state(path: Path) -> FileState:
    """Returns by which a file can be told from what is put or written there later."""
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
    is_valid = isinstance(entry, dict) and entry.get("state") == file_state(path)
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
