"""Weight files to tensors, without ever running code from them, and every tensor accounted for.

What a checkpoint holds of its vision tower is held against the tower's own files.
"""

from __future__ import annotations

import logging
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from llava.errors import CheckpointError, reason_of
from llava.model.checkpoint import Checkpoint
from llava.model.kinds import NON_LORA_FILE, PROJECTOR_FILE, CheckpointKind
from llava.model.locate import find_weight_files, read_strings, refuse_lfs_pointer, unreadable
from llava.model.quantized_weights import refuse_quantized
from llava.model.rules import unknown_value
from llava.model.tower_facts import is_tower_tuned

logger = logging.getLogger(__name__)

# what torch and safetensors answer damaged files with
_DAMAGED = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError),
    *(AssertionError, struct.error, zipfile.BadZipFile, SafetensorError),
)

_SHOWN = 5

# Tensors that older versions saved and that are computed today.
_COMPUTED = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")
_TOWER = re.compile(r"(^|\.)vision_tower\.")
_VISION_PART = re.compile(
    r"(.*vision_tower\.)?(vision_model\.)?"
    r"(?P<rest>(embeddings|pre_layrnorm|encoder|post_layernorm|head)\..+)"
)
_NEWLINE = re.compile(r"(^|\.)image_newline$")
_PROJECTOR = re.compile(r"(^|\.)(mm_projector\.|image_newline$)")

# What torch.compile, data parallelism and checkpointing of activations put into a tensor's name.
_WRAPPERS = re.compile(
    r"(^|(?<=\.))(_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)


def read_tensors(files: Iterable[Path], *, packed: bool = False) -> dict[str, torch.Tensor]:
    """Returns every tensor of the files by its name, on the CPU, memory-mapped where possible.

    Names are without what wrappers around the model put into them, such as `_orig_mod.`.

    Args:
        files: Safetensors, .bin or .pt files.
        packed: Whether weights may be stored quantized; who loads them has them unpacked, and calls
            `require_numbers` then.

    Raises:
        CheckpointError: a file is truncated, unreadable, a Git LFS pointer or holds something else
            than tensors, tensors without values or of other numbers than weights have, or a name
            that it or another file holds too.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path in files:
        stored = _read_file(path)
        found = {_WRAPPERS.sub("", name): tensor for name, tensor in stored.items()}
        if len(found) < len(stored):
            raise CheckpointError(
                f"{path} holds tensors twice, with and without the prefix of a wrapper such as "
                "`_orig_mod.` or `module.`. Save the model alone."
            )
        if empty := [name for name, tensor in found.items() if tensor.shape == (0,)]:
            raise CheckpointError(
                f"{path} holds {len(empty)} tensors that are empty, such as {empty[0]}: it was "
                "saved before DeepSpeed ZeRO-3 or FSDP had gathered the weights of all processes. "
                "Save it again with `stage3_gather_16bit_weights_on_model_save`, or rebuild it "
                "with `zero_to_fp32.py` in the training's checkpoint."
            )
        if not packed:
            require_numbers(found, path)
        if twice := tensors.keys() & found.keys():
            raise CheckpointError(
                f"{path} holds {len(twice)} tensors that an earlier file holds too, such as "
                f"{min(twice)}. Remove the file that does not belong to the checkpoint."
            )
        tensors |= found
    return tensors


def require_numbers(tensors: Mapping[str, torch.Tensor], place: Path) -> None:
    """Raises CheckpointError if tensors hold whole numbers or bytes, as quantized weights do."""
    for name, tensor in tensors.items():
        # whole numbers and bytes would be taken for weights as they stand
        is_number = tensor.is_floating_point() and tensor.element_size() > 1
        if tensor.ndim and not is_number and not is_computed(name):
            refuse_quantized(tensors, place)
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{name} in {place} is stored as {dtype}: these are quantized weights. Give the "
                "dense ones that they were made from."
            )


def is_of_tower(name: str) -> bool:
    """Whether a tensor belongs to the vision tower."""
    return bool(_TOWER.search(name))


def is_computed(name: str) -> bool:
    """Whether a tensor is one that older versions saved and that models compute themselves today.

    >>> is_computed("model.layers.0.self_attn.rotary_emb.inv_freq")
    True
    """
    return bool(_COMPUTED.search(name))


def _read_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        refuse_lfs_pointer(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        # only the zip format of torch.save can be mapped; older files are read whole
        mapped = zipfile.is_zipfile(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds something else than tensors, which would run code when loaded: "
            f"{reason_of(error)}. It was not loaded. Get the weights as safetensors, or from a "
            "source that you trust."
        ) from error
    except _DAMAGED as error:
        raise unreadable(path, error) from error
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise CheckpointError(
            f"{path} must hold a mapping of names to tensors. Save `model.state_dict()`, not the "
            "model or the trainer's state."
        )
    return content


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
        quantized_by: By what weights were stored quantized; empty for dense ones.
        num_unpacked: Weights that were stored so, all of them dense now.
        content_hash: sha256 over the tensors of all weight files.
    """

    num_loaded: int
    num_computed: int
    num_tower_ignored: int
    num_adapter: int = 0
    num_new_rows: int = 0
    quantized_by: str = ""
    num_unpacked: int = 0
    content_hash: str = ""


def has_own_head(tensors: Mapping[str, torch.Tensor], embeddings: str) -> bool:
    """Whether tensors have a head of other values than the embeddings, which have that name."""
    head, table = tensors.get("lm_head.weight"), tensors.get(embeddings)
    if head is None or table is None:
        return False
    return head.shape != table.shape or not torch.equal(head, table.to(head))


def match_tensors(
    tensors: dict[str, torch.Tensor],
    expected: Mapping[str, torch.Size],
    *,
    tied: frozenset[str],
    checkpoint: Checkpoint,
) -> LoadReport:
    """Removes from `tensors` what the model does not take and returns what was found.

    Args:
        tensors: The checkpoint's tensors by name; changed in place.
        expected: Shapes of the model's parameters and stored buffers by name; with those of the
            vision tower if it was tuned.
        tied: Names that may be absent because they share another tensor.
        checkpoint: Where the tensors come from.

    Raises:
        CheckpointError: a tensor is missing, has another shape, or has no place in the model, or
            the configuration does not say whether rows are closed by the newline that is there.
    """
    config = checkpoint.config_file
    # the newline that a model had before it was trained without one
    for name in [name for name in tensors.keys() - expected.keys() if _NEWLINE.search(name)]:
        if "mm_patch_merge_type" not in checkpoint.config:
            words = f"stated, such as spatial_unpad, as the weights hold {name}"
            raise unknown_value("mm_patch_merge_type", words, None, config)
        del tensors[name]
    computed = [name for name in tensors if name not in expected and is_computed(name)]
    frozen = not any(map(is_of_tower, expected))
    ignored = [name for name in tensors if frozen and is_of_tower(name) and name not in computed]
    for name in (*computed, *ignored):
        del tensors[name]
    unexpected = sorted(tensors.keys() - expected.keys())
    missing = sorted(expected.keys() - tensors.keys() - tied)
    if missing:
        raise CheckpointError(_describe_missing(missing, unexpected, len(expected), checkpoint))
    if unexpected:
        name = unexpected[0]  # a file may hold it under another name
        files = (file for file in checkpoint.weight_files if name in read_strings(file))
        raise CheckpointError(
            f"{next(files, checkpoint.language_dir)} holds {len(unexpected)} tensors that have no "
            f"place in the model that {config} describes: {listed(unexpected)}. The two do not "
            f"belong together: {checkpoint.remedy(name)}."
        )
    require_shapes(tensors, expected, checkpoint.language_dir, config, checkpoint.remedy)
    return LoadReport(
        num_loaded=len(tensors), num_computed=len(computed), num_tower_ignored=len(ignored)
    )


def require_shapes(
    tensors: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Size],
    holder: Path,
    asker: Path | str,
    remedy: Callable[[str], str],
) -> None:
    """Raises CheckpointError if a tensor of `holder` has no such shape as `asker` asks for."""
    if odd := [name for name, tensor in tensors.items() if tensor.shape != expected.get(name)]:
        found, asked = list(tensors[odd[0]].shape), list(expected.get(odd[0], ())) or "none"
        raise CheckpointError(
            f"{len(odd)} tensors of {holder} have another shape than {asker} asks for, such as "
            f"{odd[0]}: {found} instead of {asked}. The two do not belong together: "
            f"{remedy(odd[0])}."
        )


def _describe_missing(
    missing: list[str], unexpected: list[str], total: int, checkpoint: Checkpoint
) -> str:
    folder, config = checkpoint.language_dir, checkpoint.config_file
    others = f" It holds others that have no place: {listed(unexpected)}." if unexpected else ""
    if checkpoint.trained_files and all(map(_PROJECTOR.search, missing)):
        files = ", ".join(map(str, checkpoint.trained_files))
        is_projector = checkpoint.kind is CheckpointKind.PROJECTOR
        name = PROJECTOR_FILE if is_projector else NON_LORA_FILE
        return (
            f"Neither {folder} nor {files} holds the projector's {listed(missing)}. "
            f"Without them the model cannot see.{others} Copy the {name} "
            "that the training saved with this step; if it left a pretrained projector as it was, "
            f"copy that projector's {PROJECTOR_FILE} under this name."
        )
    what, remedy = f"of the {total} tensors that {config} asks for", checkpoint.remedy("")
    result = " Without them the model would answer at random."
    if all(map(is_of_tower, missing)):
        result = ""
        what = f"tensors of the vision tower, which its `vision_config` describes in {config}"
        if not checkpoint.native:
            fields = "`unfreeze_mm_vision_tower` or `mm_tunable_parts`"
            said = folder / "config.json" if is_tower_tuned(checkpoint.below) else config
            what = f"tensors of the vision tower, which {fields} in {said} says was trained"
            remedy = f"correct the field, or `mm_vision_tower` in {config} if that is another tower"
    return (
        f"{folder} lacks {len(missing)} {what}: {listed(missing)}.{result}{others} "
        f"Download it again, or {remedy}."
    )


def listed(names: Sequence[str]) -> str:
    """Returns the first few names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def tower_tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Returns the tensors of the tower's own files that it is built with, by the model's names.

    Raises:
        CheckpointError: the files are missing or cannot be read.
    """
    tower = checkpoint.tower
    if checkpoint.tower_dir is None or tower is None:
        return {}
    return {
        f"{checkpoint.family.inner}.vision_tower.vision_tower.{tower.kind.prefix}{name}": tensor
        for name, tensor in read_tower_tensors(checkpoint.tower_dir).items()
        if tower.has_place_for(name)
    }


def read_tower_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Returns the tensors of the vision model in a tower's folder, by their names in it.

    Raises:
        CheckpointError: the files are missing or cannot be read.
    """
    tensors = read_tensors(find_weight_files(folder))
    # a whole CLIP or SigLIP holds a text model too
    matches = {name: _VISION_PART.fullmatch(name) for name in tensors if not is_computed(name)}
    return {match["rest"]: tensors[name] for name, match in matches.items() if match}


def require_frozen_tower(tensors: Mapping[str, torch.Tensor], checkpoint: Checkpoint) -> None:
    """Raises CheckpointError if a checkpoint holds another tower than the tower's own files do.

    Where the configuration beside the weights says that the tower was frozen, its own files count
    against other values, with a warning. `tensors` are the checkpoint's, of which no field says
    that the tower was trained, by their names in the model.
    """
    held = {n: t for n, t in tensors.items() if is_of_tower(n) and not is_computed(n)}
    if not held or checkpoint.tower_dir is None:
        return
    stored = read_tower_tensors(checkpoint.tower_dir)
    places = {n: match["rest"] for n in held if (match := _VISION_PART.fullmatch(n))}
    own = {n: stored[place] for n, place in places.items() if place in stored}
    shapes, asker = {n: t.shape for n, t in own.items()}, f"the tower in {checkpoint.tower_dir}"
    require_shapes(held, shapes, checkpoint.language_dir, asker, checkpoint.remedy)
    if not (differing := [n for n, tensor in held.items() if not _is_copy(tensor, own[n])]):
        return
    seen = (
        f"{len(differing)} of the {len(held)} tensors that {checkpoint.language_dir} holds of the "
        f"vision tower, such as {differing[0]}, have other values than in {checkpoint.tower_dir}"
    )
    field, config = "`unfreeze_mm_vision_tower`", checkpoint.language_dir / "config.json"
    said = checkpoint.below or checkpoint.config  # trainings over a base do not speak of its tower
    parts = said.get("mm_tunable_parts")
    if said.get("unfreeze_mm_vision_tower") is None and parts is None:
        raise CheckpointError(
            f"{seen}: the tower was trained, or it is another one. Set {field} in {config} to true "
            "to evaluate with the checkpoint's tower, or to false for the tower's own files."
        )
    stated = f"{field} is false" if parts is None else "`mm_tunable_parts` does not name the tower"
    logger.warning(
        "%s, and the latter are used, as %s in %s. If the tower was trained, set %s to true.",
        *(seen, stated, config, field),
    )


def _is_copy(tensor: torch.Tensor, original: torch.Tensor) -> bool:
    """Whether a tensor is the tower's own, rounded as training and saving may have rounded it."""
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    # the tower's files may be the coarser ones
    return any(
        torch.equal(original.to(dtype).to(tensor.dtype), tensor)
        or torch.equal(tensor.to(dtype).to(original.dtype), original)
        for dtype in dtypes
    )
