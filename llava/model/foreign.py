"""Models that are no LLaVA of this kind, refused by name. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError

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

_STEMS = frozenset({"cambrian", "moe_llava", "bunny", "video_llava", "tinyllava", "tiny_llava"})
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
    """Checks that a config.json describes none of the models that run elsewhere.

    Raises:
        CheckpointError: it does; the message says what it is and which code evaluates it.
    """
    model_type = str(config.get("model_type"))
    signs = {f"`model_type` is {model_type!r}": model_type}
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
