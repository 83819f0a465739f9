"""Weight files to tensors, without ever running code from them."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from llava.errors import CheckpointError, reason_of
from llava.lfs_pointer import refuse_lfs_pointer

# what torch.load answers damaged files with
_DAMAGED = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    zipfile.BadZipFile,
)


def read_tensors(files: Iterable[Path]) -> dict[str, torch.Tensor]:
    """Returns every tensor of the files by its name, on the CPU, memory-mapped where possible.

    Raises:
        CheckpointError: a file is truncated, unreadable, a Git LFS pointer or holds something else
            than tensors, or two files hold the same name.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path in files:
        found = _read_safetensors(path) if path.suffix == ".safetensors" else _read_bin(path)
        twice = tensors.keys() & found.keys()
        if twice:
            raise CheckpointError(
                f"{path} holds {len(twice)} tensors that an earlier file holds too, such as "
                f"{min(twice)}. Remove the file that does not belong to the checkpoint."
            )
        tensors |= found
    return tensors


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        refuse_lfs_pointer(path)
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read_bin(path: Path) -> dict[str, torch.Tensor]:
    try:
        refuse_lfs_pointer(path)
        # only the zip format of torch.save can be mapped; older files are read whole
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds something else than tensors, which would run code when loaded: "
            f"{reason_of(error)}. It was not loaded. Get the weights as safetensors, or from a "
            "source that you trust."
        ) from error
    except _DAMAGED as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise CheckpointError(
            f"{path} must hold a mapping of names to tensors. Save `model.state_dict()`, not the "
            "model or the trainer's state."
        )
    return content


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read ({type(error).__name__}: {reason_of(error)}): it is truncated, "
        "damaged or not accessible. Download it again, or check its permissions."
    )
