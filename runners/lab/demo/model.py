"""The demo model: a CLIP tower, a two-layer projector and a LLaMA, all small."""

from __future__ import annotations

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from evals.demo.drawing import IMAGE_SIZE
from runners.lab.demo.tokenizer import VOCABULARY_SIZE

PATCH_SIZE = 8
SELECT_LAYER = -2
_PROJECTED_STD = 0.5


class DemoModel(nn.Module):
    """Tower, projector and language model side by side."""

    def __init__(self) -> None:
        super().__init__()
        # 36 patches; the features come from behind the second of three layers.
        vision = CLIPVisionConfig(
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=3,
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            projection_dim=96,
        )
        # Every width is a multiple of 32, which NF4 on a CPU needs.
        language = LlamaConfig(
            vocab_size=VOCABULARY_SIZE,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=2048,
            rms_norm_eps=1e-5,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            tie_word_embeddings=False,
        )
        self.tower = CLIPVisionModel(vision)
        self.projector = nn.Sequential(
            nn.Linear(vision.hidden_size, language.hidden_size),
            nn.GELU(),
            nn.Linear(language.hidden_size, language.hidden_size),
        )
        self.language = LlamaForCausalLM(language)

    def select_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The tower's patch features, (B, P, D) float32, for (B, 3, H, W) float32 pixels."""
        # As LLaVA's tower does: of the last layer but one, without the class token.
        states = self.tower(pixel_values, output_hidden_states=True).hidden_states
        return states[SELECT_LAYER][:, 1:]

    def freeze_tower(self) -> None:
        """Rounds the tower to float16, as it will be stored, and ends its training."""
        self.tower.half().float().requires_grad_(False)

    @torch.no_grad()
    def scale_projector(self, pixel_values: torch.Tensor) -> None:
        """Scales the projector's last layer so that images come out with a deviation of 0.5.

        The default initialization makes image embeddings so small that they are learned late.
        """
        projected = self.projector(self.select_features(pixel_values))
        self.projector[2].weight *= _PROJECTED_STD / projected.std()
