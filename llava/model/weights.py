"""Weight files to tensors, without ever running code from them, and every tensor accounted for."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from llava.errors import CheckpointError, reason_of
from llava.model.locate import refuse_lfs_pointer

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

_SHOWN = 5

# Tensors that older versions saved and that are computed today.
_COMPUTED = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")
_TOWER = re.compile(r"(^|\.)vision_tower\.")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Which tensors were loaded and why others were not.

    Attributes:
        num_loaded: Tensors of the checkpoint that the model has.
        num_computed: Tensors of the checkpoint that the model computes itself.
        num_tower_ignored: Tensors of a vision tower that was frozen in training: the tower's own
            files count, as in the reference.
        num_adapter: Tensors of a LoRA adapter, all merged.
        num_new_rows: Embedding rows added for tokens that the checkpoint's language model lacked.
        content_hash: sha256 over the tensors of all weight files.
    """

    num_loaded: int
    num_computed: int
    num_tower_ignored: int
    num_adapter: int = 0
    num_new_rows: int = 0
    content_hash: str = ""


def match_tensors(
    tensors: dict[str, torch.Tensor],
    expected: Mapping[str, torch.Size],
    *,
    tied: frozenset[str],
    tower_in_checkpoint: bool,
    source: Path,
    config_dir: Path,
) -> LoadReport:
    """Removes from `tensors` what the model does not take and returns what was found.

    Args:
        tensors: The checkpoint's tensors by name; changed in place.
        expected: Shapes of the model's parameters and stored buffers by name.
        tied: Names that may be absent because they share another tensor.
        tower_in_checkpoint: Whether the vision tower was tuned, so that its tensors count.
        source: The folder of the language model's tensors, for messages.
        config_dir: The folder of the configuration, another one for an adapter or projector.

    Raises:
        CheckpointError: a tensor is missing, has another shape, or has no place in the model.
    """
    computed = [name for name in tensors if name not in expected and _COMPUTED.search(name)]
    tower = [name for name in tensors if _TOWER.search(name) and name not in computed]
    ignored = [] if tower_in_checkpoint else tower
    for name in (*computed, *ignored):
        del tensors[name]
    whose, remedy = "its config.json", "take the config.json that belongs to it"
    if config_dir != source:
        whose = f"{config_dir / 'config.json'}"
        remedy = f"give the model that {config_dir.name} was trained on with `model.base=`"
    missing = sorted(expected.keys() - tensors.keys() - tied)
    if missing:
        raise CheckpointError(
            f"{source} lacks {len(missing)} of the {len(expected)} tensors that {whose} asks for: "
            f"{_listed(missing)}. Without them the model would answer at random. Download it "
            f"again, or {remedy}."
        )
    unexpected = sorted(tensors.keys() - expected.keys())
    if unexpected:
        raise CheckpointError(
            f"{source} holds {len(unexpected)} tensors that have no place in the model that "
            f"{whose} describes: {_listed(unexpected)}. The two do not belong together: {remedy}."
        )
    shapes = [name for name in tensors if tensors[name].shape != expected[name]]
    if shapes:
        name = shapes[0]
        raise CheckpointError(
            f"{len(shapes)} tensors of {source} have another shape than {whose} asks for, such as "
            f"{name}: {list(tensors[name].shape)} instead of {list(expected[name])}. The two do "
            f"not belong together: {remedy}."
        )
    return LoadReport(
        num_loaded=len(tensors), num_computed=len(computed), num_tower_ignored=len(ignored)
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
