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
    (("instructblip", "blip_2", "blip-2"), "InstructBLIP or BLIP-2", _TRANSFORMERS),
    (("gemma2", "gemma3", "llava_gemma2"), "Gemma 2 or 3", _TRANSFORMERS),
    (("mixtral", "qwen2_moe", "qwen3_moe"), "a mixture of experts", _TRANSFORMERS),
)
"""Beginnings of `model_type` as whole words, what the model is, and where it runs."""

_SIGNS = (
    (("llm_cfg", "vision_tower_cfg", "mm_projector_cfg"), "VILA or NVILA", "NVlabs/VILA"),
    (("mm_vision_tower_aux_list",), "Cambrian", "cambrian-mllm/cambrian"),
    (("moe_enable", "moe_mode"), "MoE-LLaVA", "PKU-YuanGroup/MoE-LLaVA"),
    (("mm_video_tower",), "Video-LLaVA", "PKU-YuanGroup/Video-LLaVA"),
)
"""Fields that only a foreign model's config.json has, whatever its `model_type` says."""


def refuse_foreign(config: Mapping[str, Any], path: Path) -> None:
    """Checks that a config.json describes none of the models that run elsewhere.

    Args:
        config: Its content.
        path: The file, for messages.

    Raises:
        CheckpointError: it does; the message says what it is and which code evaluates it.
    """
    model_type = str(config.get("model_type")).lower()
    for names, title, code in FOREIGN:
        if any(model_type == name or _goes_on(model_type, name) for name in names):
            raise _refusal(f"`model_type` is {config['model_type']!r}", title, code, path)
    for fields, title, code in _SIGNS:
        for field in fields:
            if config.get(field):
                raise _refusal(f"it has `{field}`", title, code, path)


def _goes_on(model_type: str, name: str) -> bool:
    """Whether a type is a name with more words behind it: `cambrian_llama`, `bunny-phi3`."""
    return name in _STEMS and model_type.startswith((f"{name}_", f"{name}-"))


_STEMS = frozenset({"cambrian", "moe_llava", "bunny", "video_llava", "tinyllava", "tiny_llava"})


def _refusal(sign: str, title: str, code: str, path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} describes {title} ({sign}), which is another architecture than the LLaVAs that "
        f"can be evaluated here. Evaluate it with {code}."
    )
