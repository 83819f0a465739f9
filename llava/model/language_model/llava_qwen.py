"""LLaVA on Qwen2 and Qwen2.5."""

from llava.model.language_model.factory import make_llava

LlavaQwenConfig, LlavaQwenModel, LlavaQwenForCausalLM = make_llava("qwen2")
