"""Models to measure with: the demo, and random weights in LLaVA's shapes, made on the fly."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, CLIPImageProcessorPil, CLIPVisionConfig

from llava.model.builder import load_pretrained_model
from llava.model.language_model.llava_llama import LlavaConfig
from llava.model.locate import read_config
from llava.model.tower_facts import read_tower
from llava.model.tower_kinds import Tower, describe_tower
from llava.tokenizer import load_tokenizer

DEMO_DIR = Path(__file__).parents[3] / "llava" / "demo" / "llava-demo"
CONTEXT_LEN = 2048

# width, inner width, layers and heads of the language model and of the vision tower
_SHAPES = {
    "random-25m": ((512, 1376, 8, 8), (64, 128, 2, 4)),
    "random-7b": ((4096, 11008, 32, 32), (1024, 4096, 24, 16)),
    "random-13b": ((5120, 13824, 40, 40), (1024, 4096, 24, 16)),
}
_CERTAINTY = 16.0
"""How far the likeliest token stands above the average one; margins are some 4 less."""

_SHARE_UNSURE = 0.02
"""Of the tokens, after which the likeliest stands less high, down to not at all."""

MODELS = ("llava-demo", *_SHAPES)


def build_model(
    name: str, *, device: str, dtype: torch.dtype, tower_dtype: torch.dtype | None
) -> tuple[Any, Any, Any, int]:
    """Returns tokenizer, model, image processor and context length of one of `MODELS`.

    Random ones have LLaVA-1.5's 576 image tokens and the demo's vocabulary, whose tokenizer decodes
    their answers. `device` is `cpu` or `cuda:N`; the vision tower is float32 by default.

    Raises:
        ValueError: the name is unknown.
    """
    if name == "llava-demo":
        options: dict[str, Any] = {"device": device}
        if device != "cpu":
            options = {"device": "cuda", "device_map": {"": device}}
        return load_pretrained_model(
            str(DEMO_DIR), None, name, dtype=dtype, vision_tower_dtype=tower_dtype, **options
        )
    if name not in _SHAPES:
        raise ValueError(f"`model` must be one of {', '.join(MODELS)}, but is {name!r}.")
    tokenizer = load_tokenizer(DEMO_DIR)
    model = _random_model(name, len(tokenizer), torch.device(device), dtype)
    tower = model.get_vision_tower()
    tower.to(tower_dtype or torch.float32)
    return tokenizer, model, tower.image_processor, CONTEXT_LEN


def describe_model(name: str) -> tuple[dict[str, Any], Tower]:
    """Returns the configuration of one of `MODELS`, where sizes are concerned, and its tower.

    Raises:
        ValueError: the name is unknown.
    """
    if name == "llava-demo":
        config = read_config(DEMO_DIR)
        return config, read_tower(DEMO_DIR.parent / config["mm_vision_tower"], config)
    if name not in _SHAPES:
        raise ValueError(f"`model` must be one of {', '.join(MODELS)}, but is {name!r}.")
    (width, inner, layers, heads), (tower_width, tower_inner, tower_layers, _) = _SHAPES[name]
    config = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": 32_000,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
    }
    tower = {
        "hidden_size": tower_width,
        "intermediate_size": tower_inner,
        "num_hidden_layers": tower_layers,
        "image_size": 336,
        "patch_size": 14,
    }
    return config, describe_tower(tower, config)


def _random_model(name: str, vocab_size: int, device: torch.device, dtype: torch.dtype) -> Any:
    """A LLaVA of LLaVA-1.5's form, its weights drawn on the device from a fixed seed."""
    (width, inner, layers, heads), tower = _SHAPES[name]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        _describe_tower(folder, tower)
        config = LlavaConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
            pad_token_id=0,
            mm_vision_tower=folder,
            mm_hidden_size=tower[0],
            mm_projector_type="mlp2x_gelu",
            mm_vision_select_layer=-2,
            unfreeze_mm_vision_tower=True,  # builds the tower without weights of its own
            image_aspect_ratio="pad",
            attn_implementation="sdpa",
        )
        with device:  # no copy of 26 GB of weights from CPU to GPU
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)  # keeps the scale of states
        _set_apart(model)
    model.generation_config.eos_token_id = None  # every answer has its full length
    return model.eval()


def _set_apart(model: Any) -> None:
    """Gives answers the certainty of a trained model's; else all their tokens are nearly tied.

    Each token has one that follows it: its own state outweighs what layers add, and a row of the
    head points along it, for a few tokens less than for most.
    """
    embeddings, head = model.get_input_embeddings().weight, model.lm_head.weight
    num_tokens, width = embeddings.shape
    embeddings.mul_((width * model.config.num_hidden_layers) ** 0.5)
    rising = torch.linspace(0, 1 / _SHARE_UNSURE, num_tokens, device=head.device)
    certainty = _CERTAINTY * rising.clamp(max=1)[torch.randperm(num_tokens, device=head.device)]
    followers = torch.randperm(num_tokens, device=head.device)
    towards = torch.nn.functional.normalize(embeddings.float(), dim=1) * certainty[:, None]
    head[followers] += (towards * width**-0.5).to(head)


def _describe_tower(folder: str, shape: tuple[int, int, int, int]) -> None:
    """Writes what a CLIP tower's folder has beside the weights."""
    width, inner, layers, heads = shape
    CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=336,
        patch_size=14,
    ).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=336).save_pretrained(folder)
