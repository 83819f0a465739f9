"""LLaVA on Qwen2 and Qwen2.5."""

from transformers import Qwen2Config

from llava.model.language_model.factory import make_llava

LlavaQwenConfig, LlavaQwenModel, LlavaQwenForCausalLM = make_llava(
    Qwen2Config, "llava_qwen", "LlavaQwen", __name__
)
