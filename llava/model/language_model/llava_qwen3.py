"""LLaVA on Qwen3."""

from transformers import Qwen3Config

from llava.model.language_model.factory import make_llava

LlavaQwen3Config, LlavaQwen3Model, LlavaQwen3ForCausalLM = make_llava(
    Qwen3Config, "llava_qwen3", "LlavaQwen3", __name__
)
