"""The families of language models below a LLaVA: their names, fields and peculiarities.

What differs from family to family is said here once; the rest of the house asks. Models that are no
LLaVA of these are refused by name. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.model.rules import (
    ACTIVATION,
    EPSILON,
    FLAG,
    NULL,
    NUM_LAYERS,
    OBJECT,
    POSITIVE,
    Rule,
    is_number,
    list_of,
    one_of,
    whole,
)

_SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "rms_norm_eps"),
)
_DECODER: Mapping[str, Rule] = {
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads"), whole()),
    **dict.fromkeys(("num_key_value_heads", "head_dim", "sliding_window"), whole() | NULL),
    "num_hidden_layers": NUM_LAYERS,
    "hidden_act": ACTIVATION,
    "max_position_embeddings": whole(),
    "rms_norm_eps": EPSILON,
    "rope_theta": POSITIVE,
    **dict.fromkeys(("rope_scaling", "rope_parameters"), OBJECT | NULL),
    **dict.fromkeys(("attention_bias", "mlp_bias"), FLAG),
    "partial_rotary_factor": one_of(1, 1.0),
}
_SHARE = Rule("a number above 0, at most 1", lambda value: is_number(value) and 0 < value <= 1)
_WINDOWS: Mapping[str, Rule] = {
    "use_sliding_window": FLAG,
    "max_window_layers": whole(0),
    "layer_types": list_of(one_of("full_attention", "sliding_attention")) | NULL,
}
_MPT: Mapping[str, Rule] = {
    **dict.fromkeys(("d_model", "n_heads", "expansion_ratio", "max_seq_len"), whole()),
    "n_layers": NUM_LAYERS,
    "attn_config": OBJECT | NULL,
    "layer_norm_epsilon": EPSILON,
    "logit_scale": NULL,
    "no_bias": one_of(True),
    "embedding_fraction": one_of(1.0, 1),
    "norm_type": one_of("low_precision_layernorm", "layernorm"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family of language models.

    Attributes:
        name: Its `model_type` in transformers.
        llava_types: `model_type` of the LLaVAs on it; the first is what their classes register, in
            the module of that name in `llava.model.language_model`.
        rules: What the fields of its config.json may be, beside those of every language model.
        needed: The fields that every saved config.json states; the library would guess them.
        defaults: What transformers leaves out of a `text_config` because its class has it so; empty
            where its own LLaVA classes answer otherwise than the family's LLaVAs were trained.
        inner: Attribute of the language model below the head.
        embeddings: Name of the table of token embeddings.
        is_tied: Whether the head is that table where no field says so.
        is_packable: Whether its attention takes a mask of its own and explicit positions.
        is_original: Whether the first LLaVA was built on it, whose context is 2,048 tokens long
            unless a field says otherwise.
    """

    name: str
    llava_types: tuple[str, ...]
    rules: Mapping[str, Rule] = field(default_factory=lambda: _DECODER)
    needed: tuple[str, ...] = _SIZES
    defaults: Mapping[str, Any] = field(default_factory=dict)
    inner: str = "model"
    embeddings: str = "model.embed_tokens.weight"
    is_tied: bool = False
    is_packable: bool = True
    is_original: bool = False

    @property
    def prefix(self) -> str:
        """What the names of its LLaVA's classes begin with, such as `LlavaQwen`."""
        return self.llava_types[0].title().replace("_", "")


_LAYERS = {"num_hidden_layers": 32, "num_attention_heads": 32}
_DEFAULTS = _LAYERS | {"hidden_size": 4096, "rms_norm_eps": 1e-6}
_QWEN_DEFAULTS = (
    _DEFAULTS
    | {"vocab_size": 151936, "intermediate_size": 22016}
    | {"num_key_value_heads": 32, "max_position_embeddings": 32768}
)

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="llama",
            llava_types=("llava_llama", "share4v"),
            defaults=_DEFAULTS
            | {"vocab_size": 32000, "intermediate_size": 11008, "max_position_embeddings": 2048},
            is_original=True,
        ),
        Family(
            name="mistral",
            llava_types=("llava_mistral",),
            defaults=_DEFAULTS
            | {"vocab_size": 32000, "intermediate_size": 14336}
            | {"num_key_value_heads": 8, "max_position_embeddings": 4096 * 32},
            is_original=True,
        ),
        Family(
            name="mpt",
            llava_types=("llava_mpt",),
            rules=_MPT,
            needed=("vocab_size", "d_model", "n_heads", "n_layers"),
            inner="transformer",
            embeddings="transformer.wte.weight",
            is_tied=True,
            is_packable=False,
            is_original=True,
        ),
        Family(
            name="qwen2",
            llava_types=("llava_qwen", "llava_qwen2"),
            rules={**_DECODER, **_WINDOWS},
            defaults=_QWEN_DEFAULTS,
        ),
        Family(
            name="qwen3",
            llava_types=("llava_qwen3",),
            rules={**_DECODER, **_WINDOWS, "head_dim": whole()},
            needed=(*_SIZES, "head_dim"),
            defaults={**_QWEN_DEFAULTS, "head_dim": 128},
        ),
        Family(
            name="phi3",
            llava_types=("llava_phi3", "llava_phi"),
            rules={
                **_DECODER,
                "original_max_position_embeddings": whole(),
                "partial_rotary_factor": _SHARE,
            },
            defaults=_LAYERS
            | {"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192}
            | {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096}
            | {"rms_norm_eps": 1e-5},
        ),
        Family(
            name="gemma",
            llava_types=("llava_gemma",),
            rules={
                **_DECODER,
                "head_dim": whole(),
                # what the library always computes, whatever these say
                "hidden_act": one_of("gelu", "gelu_pytorch_tanh"),
                "hidden_activation": one_of("gelu_pytorch_tanh", None),
                "use_bidirectional_attention": one_of(False, None),
            },
            needed=(*_SIZES, "head_dim"),
            is_tied=True,
        ),
    )
}
"""Every family by its name."""

MODEL_TYPES: Mapping[str, Family] = {
    name: family for family in FAMILIES.values() for name in (family.name, *family.llava_types)
}
"""The family by the `model_type` of a language model or of a LLaVA on it."""

_TRANSFORMERS = "transformers' own class for it and that model's evaluation"
FOREIGN: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("llava_onevision1_5",), "LLaVA-OneVision-1.5", "EvolvingLMMs-Lab/LLaVA-OneVision-1.5"),
    (("llava_next_video",), "LLaVA-NeXT-Video", _TRANSFORMERS),
    (("video_llava",), "Video-LLaVA", "PKU-YuanGroup/Video-LLaVA"),
    (("vipllava",), "ViP-LLaVA", "WisconsinAIVision/ViP-LLaVA"),
    (("vila", "nvila", "llava_topdown"), "VILA or NVILA", "NVlabs/VILA"),
    (("cambrian",), "Cambrian", "cambrian-mllm/cambrian"),
    (("moe_llava",), "MoE-LLaVA", "PKU-YuanGroup/MoE-LLaVA"),
    (("llava_mixtral", "llava_qwen_moe"), "LLaVA on a mixture of experts", "LLaVA-VL/LLaVA-NeXT"),
    (("bunny",), "Bunny", "BAAI-DCAI/Bunny"),
    (("mobilevlm", "mobilellama"), "MobileVLM", "Meituan-AutoML/MobileVLM"),
    (("tinyllava", "tiny_llava"), "TinyLLaVA", "TinyLLaVA/TinyLLaVA_Factory"),
    (("fastvlm", "fast_vlm"), "FastVLM", "apple/ml-fastvlm"),
    (("mllama",), "Llama 3.2 Vision", _TRANSFORMERS),
    (("paligemma",), "PaliGemma", _TRANSFORMERS),
    (("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), "Qwen-VL", _TRANSFORMERS),
    (("internvl_chat", "internvl"), "InternVL 1.1 or later", "OpenGVLab/InternVL"),
    (("minicpmv",), "MiniCPM-V", "OpenBMB/MiniCPM-o"),
    (("idefics", "idefics2", "idefics3"), "IDEFICS", _TRANSFORMERS),
    (("instructblip", "blip_2"), "InstructBLIP or BLIP-2", _TRANSFORMERS),
    (("gemma2", "gemma3", "llava_gemma2"), "Gemma 2 or 3", _TRANSFORMERS),
    (("mixtral", "qwen2_moe", "qwen3_moe"), "a mixture of experts", _TRANSFORMERS),
)
"""Each `model_type` in small letters with `_` for `-`, what the model is, and where it runs."""

_STEMS = {"cambrian", "moe_llava", "bunny", "video_llava", "tinyllava", "tiny_llava"}
"""Those that have more words behind them: `cambrian_llama`, `bunny-phi3`."""

_SIGNS = {
    **dict.fromkeys(("llm_cfg", "vision_tower_cfg", "mm_projector_cfg"), "vila"),
    "mm_vision_tower_aux_list": "cambrian",
    **dict.fromkeys(("moe_enable", "moe_mode"), "moe_llava"),
    "mm_video_tower": "video_llava",
}
"""Fields that only a foreign model's config.json has, and the `model_type` that such a model has
elsewhere."""


def refuse_foreign(config: Mapping[str, Any], path: Path) -> None:
    """Raises CheckpointError, saying where it runs, if a config.json describes another model."""
    model_type = str(config.get("model_type"))
    signs = {f"`model_type` is {model_type!r}": model_type}
    if str(config.get("mm_vision_tower")).startswith("mobileclip"):
        signs[f"`mm_vision_tower` is {config['mm_vision_tower']!r:.100}"] = "fastvlm"
    signs |= {f"it has `{field}`": known for field, known in _SIGNS.items() if config.get(field)}
    for sign, known in signs.items():
        plain = known.lower().replace("-", "_")
        for names, title, code in FOREIGN:
            stems = tuple(f"{name}_" for name in names if name in _STEMS)
            if plain in names or plain.startswith(stems):
                raise CheckpointError(
                    f"{path} describes {title} ({sign}), which is another architecture than the "
                    f"LLaVAs that can be evaluated here. Evaluate it with {code}."
                )
