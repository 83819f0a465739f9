"""LLaVA on LLaMA and Vicuna."""

from transformers import LlamaConfig

from llava.model.language_model.factory import make_llava

LlavaConfig, LlavaLlamaModel, LlavaLlamaForCausalLM = make_llava(
    LlamaConfig, "llava_llama", "LlavaLlama", __name__, "LlavaConfig"
)
