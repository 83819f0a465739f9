"""LLaVA on LLaMA and Vicuna."""

from llava.model.language_model.factory import make_llava

LlavaConfig, LlavaLlamaModel, LlavaLlamaForCausalLM = make_llava("llama", config_name="LlavaConfig")
