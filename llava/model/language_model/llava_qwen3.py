"""LLaVA on Qwen3."""

from llava.model.language_model.factory import make_llava

LlavaQwen3Config, LlavaQwen3Model, LlavaQwen3ForCausalLM = make_llava("qwen3")
