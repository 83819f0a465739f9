"""Quantized loading by bitsandbytes. Vision tower, projector and head are never quantized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

_KINDS = ("int8", "nf4", "fp4")
_KEPT_PARTS = ("mm_projector", "vision_tower", "image_newline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How the language model's linear layers are stored.

    Attributes:
        kind: `int8`, `nf4` or `fp4`.
        double_quant: Whether the scales of 4-bit weights are quantized too.
        compute_dtype: Dtype in which 4-bit weights are multiplied; None for the model's.
    """

    kind: str
    double_quant: bool = True
    compute_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(
                f"`kind` must be one of {', '.join(_KINDS)}, but is {self.kind!r}. Leave "
                "quantization out for full precision."
            )

    def finish(self, model: torch.nn.Module) -> None:
        """Sets what has to be set on the loaded layers.

        On processors with bfloat16 instructions bitsandbytes would round scales and inputs to
        bfloat16 whatever the compute dtype, and takes only widths that are multiples of 64. That
        is left to those who compute in bfloat16.
        """
        if self.kind == "int8" or self.compute_dtype is torch.bfloat16:
            return
        from bitsandbytes.nn import Linear4bit

        for module in model.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False

    def to_config(self, dtype: torch.dtype, inner_model: str) -> Any:
        """Returns the `BitsAndBytesConfig` for a dtype and the name of the inner model."""
        from transformers import BitsAndBytesConfig

        # an explicit list replaces bitsandbytes' own, which would have kept the head
        kept = ["lm_head", *(f"{inner_model}.{part}" for part in _KEPT_PARTS)]
        if self.kind == "int8":
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            llm_int8_skip_modules=kept,
            bnb_4bit_quant_type=self.kind,
            bnb_4bit_use_double_quant=self.double_quant,
            bnb_4bit_compute_dtype=self.compute_dtype or dtype,
        )
