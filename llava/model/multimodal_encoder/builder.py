"""Which vision tower a configuration asks for."""

from __future__ import annotations

from typing import Any

from llava.model.locate import resolve_vision_tower
from llava.model.multimodal_encoder.clip_encoder import CLIPVisionTower, CLIPVisionTowerS2
from llava.model.multimodal_encoder.vision_tower import VisionTower
from llava.model.tower_facts import read_tower
from llava.model.tower_kinds import INTERN_VIT, SIGLIP


def build_vision_tower(config: Any, *, delay_load: bool = False) -> VisionTower:
    """Returns the tower that `config.mm_vision_tower` names; may lie beside the checkpoint.

    Raises:
        CheckpointError: the tower is not found, of an unknown kind, or cannot be read.
        ValueError: the configuration asks for a feature that does not exist.
    """
    name = getattr(config, "mm_vision_tower", None) or config.vision_tower
    folder = resolve_vision_tower(name, getattr(config, "_name_or_path", None) or None)
    tower = read_tower(folder, vars(config))
    tower_class: type[VisionTower] = CLIPVisionTowerS2 if tower.scales else CLIPVisionTower
    # the rarer kinds are imported where they are needed
    if tower.model_type == SIGLIP:
        from llava.model.multimodal_encoder.siglip_encoder import SigLipVisionTower

        tower_class = SigLipVisionTower
    elif tower.model_type == INTERN_VIT:
        from llava.model.multimodal_encoder.internvit_encoder import InternViTVisionTower

        tower_class = InternViTVisionTower
    return tower_class(str(folder), args=config, delay_load=delay_load)
