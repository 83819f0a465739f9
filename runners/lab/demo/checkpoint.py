"""Writes the demo model in the original formats: a LLaVA checkpoint and a CLIP tower beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from runners.lab.demo.model import SELECT_LAYER, DemoModel
from runners.storage.files import write_json

TOWER_NAME = "clip-demo"
_CONTEXT_LENGTH = 2048
_LAYER_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_IMAGE_MEAN = [0.48145466, 0.4578275, 0.40821073]
_IMAGE_STD = [0.26862954, 0.26130258, 0.27577711]


def write_tower(model: DemoModel, folder: Path) -> None:
    """Writes the tower in float16, with its configuration and that of the image processor."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.tower.config
    names = (
        *_LAYER_SIZES, "image_size", "patch_size", "projection_dim", "hidden_act", "layer_norm_eps",
    )  # fmt: skip
    write_json(
        folder / "config.json",
        {
            "architectures": ["CLIPVisionModel"],
            "model_type": "clip_vision_model",
            **{name: getattr(config, name) for name in names},
            "torch_dtype": "float16",  # what transformers of LLaVA's time reads
        },
    )
    write_json(
        folder / "preprocessor_config.json",
        {
            "crop_size": config.image_size,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": _IMAGE_MEAN,
            "image_std": _IMAGE_STD,
            "resample": 3,  # bicubic
            "size": config.image_size,
        },
    )
    _write_weights(folder, {"vision_model.": model.tower})


def write_checkpoint(model: DemoModel, folder: Path) -> None:
    """Writes projector and language model in float16, with their configurations."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", _llava_config(model))
    tokens = {name: getattr(model.language.config, name) for name in _SPECIAL_IDS}
    generation = {"_from_model_config": True, **tokens, "max_length": _CONTEXT_LENGTH}
    write_json(folder / "generation_config.json", generation)
    _write_weights(folder, {"": model.language, "model.mm_projector.": model.projector})


def _llava_config(model: DemoModel) -> dict[str, Any]:
    language = model.language.config
    names = (
        *_LAYER_SIZES, "num_key_value_heads", "vocab_size", "max_position_embeddings",
        "rms_norm_eps", "hidden_act", *_SPECIAL_IDS, "tie_word_embeddings",
    )  # fmt: skip
    return {
        # The name says which conversation template the checkpoint was trained with.
        "_name_or_path": "llava-v1.5-demo",
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava_llama",
        **{name: getattr(language, name) for name in names},
        # From here on as in the configurations that LLaVA-1.5 was released with.
        "pretraining_tp": 1,
        "rope_scaling": None,
        "use_cache": True,
        "initializer_range": 0.02,
        "freeze_mm_mlp_adapter": False,
        "image_aspect_ratio": "pad",
        "mm_hidden_size": model.tower.config.hidden_size,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": SELECT_LAYER,
        "mm_vision_tower": TOWER_NAME,
        "tokenizer_model_max_length": _CONTEXT_LENGTH,
        "tokenizer_padding_side": "right",
        "torch_dtype": "float16",
        "transformers_version": "4.31.0",
        "tune_mm_mlp_adapter": False,
        "unfreeze_mm_vision_tower": False,
        "use_mm_proj": True,
    }


def write_tokenizer(content: bytes, folder: Path) -> None:
    """Writes a `tokenizer.model` with its configurations into a checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(content)
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    contents = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokens = {name: {"content": content, **flags} for name, content in contents.items()}
    write_json(folder / "special_tokens_map.json", {**tokens, "pad_token": "<unk>"})
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            **{name: {"__type": "AddedToken", **token} for name, token in tokens.items()},
            "clean_up_tokenization_spaces": False,
            "legacy": False,
            "model_max_length": _CONTEXT_LENGTH,
            "pad_token": "<unk>",
            "padding_side": "right",
            "sp_model_kwargs": {},
            "tokenizer_class": "LlamaTokenizer",
        },
    )


def _write_weights(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Writes the weights of modules in float16, each name behind the prefix of its module."""
    halves = {
        prefix + name: tensor.half().contiguous()
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    path = folder / "model.safetensors"
    save_file(halves, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors leaves it to its owner alone
