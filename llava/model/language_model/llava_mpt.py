"""LLaVA on MPT."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, MptConfig, MptForCausalLM, MptModel

from llava.model.llava_arch import LlavaMetaForCausalLM, LlavaMetaModel


class LlavaMptConfig(MptConfig):
    """An MPT configuration with LLaVA's `mm_*` fields beside it."""

    model_type = "llava_mpt"


class LlavaMptModel(LlavaMetaModel, MptModel):
    """The MPT decoder with vision tower and projector."""

    config_class = LlavaMptConfig


class LlavaMptForCausalLM(LlavaMetaForCausalLM, MptForCausalLM):
    """MPT with a language-model head that takes images beside text.

    MPT has no position ids: its attention is biased by distance (ALiBi). `position_ids` are taken
    and have no effect.
    """

    config_class = LlavaMptConfig

    def __init__(self, config: Any) -> None:
        super(MptForCausalLM, self).__init__(config)
        self.transformer = LlavaMptModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_model(self) -> Any:
        """Returns the inner model."""
        return self.transformer


AutoConfig.register("llava_mpt", LlavaMptConfig)
AutoModelForCausalLM.register(LlavaMptConfig, LlavaMptForCausalLM)
