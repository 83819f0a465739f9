"""Identity of a checkpoint by the content of its tensors, whatever files they lie in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch


def digest_tensor(name: str, tensor: torch.Tensor) -> str:
    """Returns the sha256 (hex) of a tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
    if tensor.numel():
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def combine_digests(digests: Mapping[str, str]) -> str:
    """Returns the sha256 (hex) of tensors' digests, in the order of their names."""
    return hashlib.sha256(json.dumps(dict(sorted(digests.items()))).encode()).hexdigest()
