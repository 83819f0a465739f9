"""LLaVA on Mistral."""

from llava.model.language_model.factory import make_llava

LlavaMistralConfig, LlavaMistralModel, LlavaMistralForCausalLM = make_llava("mistral")
