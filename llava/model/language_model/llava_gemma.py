"""LLaVA on Gemma."""

from llava.model.language_model.factory import make_llava

LlavaGemmaConfig, LlavaGemmaModel, LlavaGemmaForCausalLM = make_llava("gemma")
