"""LLaVA on Phi-3."""

from transformers import Phi3Config

from llava.model.language_model.factory import make_llava

LlavaPhi3Config, LlavaPhi3Model, LlavaPhi3ForCausalLM = make_llava(
    Phi3Config, "llava_phi3", "LlavaPhi3", __name__
)
