"""LLaVA on Gemma."""

from transformers import GemmaConfig

from llava.model.language_model.factory import make_llava

LlavaGemmaConfig, LlavaGemmaModel, LlavaGemmaForCausalLM = make_llava(
    GemmaConfig, "llava_gemma", "LlavaGemma", __name__
)
