"""The SigLIP vision tower."""

from __future__ import annotations

from transformers import SiglipImageProcessorPil, SiglipVisionConfig, SiglipVisionModel

from llava.model.multimodal_encoder.vision_tower import VisionTower


class SigLipVisionTower(VisionTower):
    """SigLIP: patches alone, without a class token.

    The layer's output is taken as it is, without the norm behind the last layer.
    """

    config_class = SiglipVisionConfig
    model_class = SiglipVisionModel
    processor_class = SiglipImageProcessorPil
