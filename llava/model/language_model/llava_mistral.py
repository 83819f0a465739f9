"""LLaVA on Mistral."""

from transformers import MistralConfig

from llava.model.language_model.factory import make_llava

LlavaMistralConfig, LlavaMistralModel, LlavaMistralForCausalLM = make_llava(
    MistralConfig, "llava_mistral", "LlavaMistral", __name__
)
