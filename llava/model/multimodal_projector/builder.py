"""Projectors from vision features (D_v) to the language model's embeddings (D)."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

_MLP = re.compile(r"mlp(\d+)x_gelu")


def build_vision_projector(config: Any) -> nn.Module:
    """Returns a projector (..., D_v) -> (..., D) as `config.mm_projector_type` says.

    Args:
        config: Has `mm_hidden_size` (D_v), `hidden_size` (D) and may have `mm_projector_type`:
            `linear` (the default), `mlp<depth>x_gelu` or `identity`.

    Raises:
        ValueError: the type is unknown.
    """
    projector_type = getattr(config, "mm_projector_type", "linear")
    if projector_type == "linear":
        return nn.Linear(config.mm_hidden_size, config.hidden_size)
    if projector_type == "identity":
        return nn.Identity()
    if (mlp := _MLP.fullmatch(projector_type)) is None:
        raise ValueError(
            "`mm_projector_type` must be linear, identity or mlp<depth>x_gelu, but is "
            f"{projector_type!r}. Correct the checkpoint's config.json."
        )
    layers: list[nn.Module] = [nn.Linear(config.mm_hidden_size, config.hidden_size)]
    for _ in range(1, int(mlp[1])):
        layers += [nn.GELU(), nn.Linear(config.hidden_size, config.hidden_size)]
    return nn.Sequential(*layers)
