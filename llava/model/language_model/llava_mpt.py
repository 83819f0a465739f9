"""LLaVA on MPT.

MPT has no position ids: its attention is biased by distance (ALiBi). `position_ids` are taken and
have no effect.
"""

from llava.model.language_model.factory import make_llava

LlavaMptConfig, LlavaMptModel, LlavaMptForCausalLM = make_llava("mpt")
