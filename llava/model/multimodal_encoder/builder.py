"""Which vision tower a configuration asks for."""

from __future__ import annotations

from typing import Any

from llava.model.locate import resolve_vision_tower
from llava.model.multimodal_encoder.clip_encoder import CLIPVisionTower


def build_vision_tower(config: Any, *, delay_load: bool = False) -> CLIPVisionTower:
    """Returns the tower that `config.mm_vision_tower` names; may lie beside the checkpoint.

    Raises:
        CheckpointError: the tower is not found, or its configuration cannot be read.
        ValueError: the configuration asks for a feature that does not exist.
    """
    name = getattr(config, "mm_vision_tower", None) or config.vision_tower
    folder = resolve_vision_tower(name, getattr(config, "_name_or_path", None) or None)
    return CLIPVisionTower(str(folder), args=config, delay_load=delay_load)
