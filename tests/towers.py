"""Tiny random vision towers of other kinds than CLIP, with transformers' own models of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    InternVLVisionConfig,
    InternVLVisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

WIDTH = 32
_SIZES = {"hidden_size": WIDTH, "intermediate_size": 64, "num_attention_heads": 4}


def make_siglip(folder: Path, **fields: Any) -> SiglipVisionModel:
    """Writes a SigLIP tower of three layers; returns the model that transformers makes of it.

    Images of 32 pixels have 2 x 2 patches of 14; what is left of them is not seen.
    """
    config = _SIZES | {"num_hidden_layers": 3, "image_size": 32, "patch_size": 14} | fields
    model = _randomized(SiglipVisionModel(SiglipVisionConfig(**config)))
    tensors = {f"vision_model.{name}": tensor for name, tensor in model.state_dict().items()}
    text = {"text_model.embeddings.token_embedding.weight": torch.ones(2, 2)}
    _write(folder, {"model_type": "siglip_vision_model", **config}, tensors | text)
    return model


def make_internvit(folder: Path, **fields: Any) -> InternVLVisionModel:
    """Writes an InternViT tower of five layers, trained on images of 4 x 4 patches of 56 pixels.

    Returns the model that transformers makes of the same tensors under other names.
    """
    config: dict[str, Any] = _SIZES | {"num_hidden_layers": 5, "image_size": 224, "patch_size": 56}
    config |= {"layer_norm_eps": 1e-6, "qkv_bias": False, "qk_normalization": True} | fields
    same = {name: config[name] for name in (*_SIZES, "num_hidden_layers", "image_size")}
    model = InternVLVisionModel(
        InternVLVisionConfig(
            **same,
            patch_size=config["patch_size"],
            norm_type="rms_norm",
            use_qk_norm=config["qk_normalization"],
            attention_bias=config["qkv_bias"],
        )
    )
    own = _randomized(model).state_dict()
    tensors = {
        _internvit_name(name): tensor for name, tensor in own.items() if "_proj." not in name
    }
    for name in [name for name in own if "q_proj." in name]:
        parts = [own[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
        tensors[_internvit_name(name).replace("q_proj", "qkv")] = torch.cat(parts)
    _write(folder, {"model_type": "intern_vit_6b", **config}, tensors)
    return model


def _internvit_name(name: str) -> str:
    for transformers_name, own in (
        ("embeddings.cls_token", "embeddings.class_embedding"),
        ("patch_embeddings.projection", "patch_embedding"),
        ("position_embeddings", "position_embedding"),
        ("encoder.layer.", "encoder.layers."),
        ("attention.projection_layer", "attn.proj"),
        ("attention.", "attn."),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("lambda_", "ls"),
    ):
        name = name.replace(transformers_name, own)
    return name


def _randomized(model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        # so much that each layer, place and pixel tells
        scale = 0.3 if parameter.ndim < 2 else 1.5 / parameter[0].numel() ** 0.5
        parameter.data = (noise * scale + (parameter.ndim < 2)).half().float()
    return model.eval()


def _write(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    held = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
