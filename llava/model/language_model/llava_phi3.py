"""LLaVA on Phi-3."""

from llava.model.language_model.factory import make_llava

LlavaPhi3Config, LlavaPhi3Model, LlavaPhi3ForCausalLM = make_llava("phi3")
