"""The vision tower's own files, held against what a checkpoint holds of the tower."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from llava.errors import CheckpointError
from llava.model.checkpoint import Checkpoint
from llava.model.locate import find_weight_files
from llava.model.weights import is_computed, is_of_tower, read_tensors

logger = logging.getLogger(__name__)

_VISION_PART = re.compile(
    r"(vision_model\.)?(?P<rest>(embeddings|pre_layrnorm|encoder|post_layernorm|head)\..+)"
)


def tower_tensors(checkpoint: Checkpoint, *, with_unused: bool = False) -> dict[str, torch.Tensor]:
    """Returns the tensors of the tower's own files, by their names in the model.

    `with_unused` are those too which the tower is built without.

    Raises:
        CheckpointError: the files are missing or cannot be read.
    """
    tower = checkpoint.tower
    if checkpoint.tower_dir is None or tower is None:
        return {}
    return {
        f"{checkpoint.family.inner}.vision_tower.vision_tower.{tower.kind.prefix}{name}": tensor
        for name, tensor in read_tower_tensors(checkpoint.tower_dir).items()
        if with_unused or tower.has_place_for(name)
    }


def read_tower_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Returns the tensors of the vision model in a tower's folder, by their names in it.

    Raises:
        CheckpointError: the files are missing or cannot be read.
    """
    found = {}
    for name, tensor in read_tensors(find_weight_files(folder)).items():
        match = _VISION_PART.fullmatch(name)  # a whole CLIP or SigLIP holds a text model too
        if match and not is_computed(name):
            found[match["rest"]] = tensor
    return found


def require_frozen_tower(tensors: Mapping[str, torch.Tensor], checkpoint: Checkpoint) -> None:
    """Checks that what a checkpoint holds of a frozen tower is a copy of the tower's own files.

    These count then. Where a checkpoint holds other values, the tower was trained. `tensors` are
    the checkpoint's, of which no field says so, by their names in the model.

    Raises:
        CheckpointError: the values differ, and no field says that the tower was frozen.
    """
    names = [name for name in tensors if is_of_tower(name) and not is_computed(name)]
    held = {name: tensors[name] for name in names}
    if not held or not checkpoint.is_multimodal:
        return
    own = tower_tensors(checkpoint, with_unused=True)
    differing = [name for name in held if not _is_copy(name, held, own)]
    if not differing:
        return
    seen = (
        f"{len(differing)} of the {len(held)} tensors that {checkpoint.language_dir} holds of the "
        f"vision tower, such as {differing[0]}, have other values than in {checkpoint.tower_dir}"
    )
    field, config = "`unfreeze_mm_vision_tower`", checkpoint.config_file
    parts = checkpoint.config.get("mm_tunable_parts")
    if checkpoint.config.get("unfreeze_mm_vision_tower") is None and parts is None:
        raise CheckpointError(
            f"{seen}: the tower was trained, or it is another one. Set {field} in {config} to true "
            "to evaluate with the checkpoint's tower, or to false for the tower's own files."
        )
    stated = f"{field} is false" if parts is None else "`mm_tunable_parts` does not name the tower"
    logger.warning(
        "%s, and the latter are used, as %s in %s. If the tower was trained, set %s to true.",
        *(seen, stated, config, field),
    )


def _is_copy(name: str, held: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> bool:
    """Whether a tensor is the tower's own, rounded as training and saving may have rounded it."""
    if name not in own or own[name].shape != held[name].shape:
        return False
    tensor, original = held[name], own[name]
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    # the tower's files may be the coarser ones
    return any(
        torch.equal(original.to(dtype).to(tensor.dtype), tensor)
        or torch.equal(tensor.to(dtype).to(original.dtype), original)
        for dtype in dtypes
    )
