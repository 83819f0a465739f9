"""A LLaVA's classes, made from those of its language model."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
)

from llava.model.families import FAMILIES
from llava.model.llava_arch import LlavaMetaForCausalLM, LlavaMetaModel


def make_llava(name: str, config_name: str = "") -> tuple[Any, Any, Any]:
    """Returns a LLaVA's configuration, inner model and causal language model, and registers them.

    Args:
        name: Of the family, see `FAMILIES`.
        config_name: Of the configuration's class, where that is not `LlavaQwenConfig` or the like.
    """
    prefix, model_type = FAMILIES[name].prefix, FAMILIES[name].llava_types[0]
    module = f"{__package__}.{model_type}"
    config_class = CONFIG_MAPPING[name]
    base_class = MODEL_MAPPING[config_class]
    causal_class = MODEL_FOR_CAUSAL_LM_MAPPING[config_class]
    config = type(
        config_name or f"{prefix}Config",
        (config_class,),
        {
            "__module__": module,
            "__doc__": f"A {name} configuration with LLaVA's `mm_*` fields beside it.",
            "model_type": model_type,
        },
    )
    own = {"__module__": module, "config_class": config}
    inner = type(
        f"{prefix}Model",
        (LlavaMetaModel, base_class),
        {**own, "__doc__": f"The {name} decoder with vision tower and projector."},
    )

    def build(self: Any, config: Any) -> None:
        super(causal_class, self).__init__(config)
        setattr(self, self.base_model_prefix, inner(config))
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    causal = type(
        f"{prefix}ForCausalLM",
        (LlavaMetaForCausalLM, causal_class),
        {
            **own,
            "__doc__": f"{name} with a language-model head that takes images beside text.",
            "__init__": build,
        },
    )
    AutoConfig.register(model_type, config)
    AutoModelForCausalLM.register(config, causal)
    return config, inner, causal
