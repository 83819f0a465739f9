"""Tiny random checkpoints in the original LLaVA format, complete with tokenizer and vision tower.

Everything follows from its arguments: the same call writes the same weights. The language model
knows nothing, but its weights are large enough that answers depend on every token and pixel. All
widths are multiples of 32, which 4-bit quantization on a CPU needs.
"""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece
import torch
from safetensors.torch import save_file

VOCAB_SIZE = 640
NUM_SHARDS = 3

_THINGS = ("dog", "cat", "car", "bus", "tree", "house", "boat", "cup", "ball", "kite", "chair")
_COLORS = ("red", "green", "blue", "yellow", "black", "white", "brown", "gray", "orange", "pink")
_PLACES = ("street", "table", "beach", "field", "kitchen", "bridge", "river", "window", "roof")
_PATTERNS = (
    "What color is the {thing} on the {place}?",
    "Is there a {color} {thing} near the {place}?",
    "How many {thing}s are on the {place}, {number} or {other}?",
    "The {thing} is {color}, and the {place} is {shade}.",
    "Which {thing} is to the left of the {color} {place}?\nA. {color}\nB. {shade}",
    "A {color} {thing} stands in the {place} of house number {number}{other}.",
)
_PROMPTS = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions.",
    "USER: Answer the question using a single word or phrase. ASSISTANT: Yes",
    "Answer with the option's letter from the given choices directly.",
    "Human: When the provided information is insufficient, respond with 'Unanswerable'.",
    "Context: N/A\nQuestion: Which one is it?\nOptions: (A) this (B) that",
)
_MARKUP = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}


class LoadedModel(NamedTuple):
    """What `load_pretrained_model` returns."""

    tokenizer: Any
    model: Any
    image_processor: Any
    context_len: int


def make_tokenizer(folder: Path, *, legacy: bool = False, vocab_size: int = VOCAB_SIZE) -> Path:
    """Writes a sentencepiece tokenizer with LLaMA's options into a folder, which is returned.

    Args:
        folder: Made if it is not there.
        legacy: The switch of `tokenizer_config.json`.
        vocab_size: Number of pieces, of which 259 are the special ones and the bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_sentences()),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        split_digits=True,
        allow_whitespace_only_pieces=True,
        character_coverage=1.0,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    special = {
        name: {"content": token, **_MARKUP}
        for name, token in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))
    }
    _write_json(folder / "special_tokens_map.json", {**special, "pad_token": "<unk>"})
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        **{name: {"__type": "AddedToken", **token} for name, token in special.items()},
        "clean_up_tokenization_spaces": False,
        "legacy": legacy,
        "model_max_length": 2048,
        "pad_token": "<unk>",
        "padding_side": "right",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
    }
    _write_json(folder / "tokenizer_config.json", config)
    return folder


def make_tower(
    folder: Path, *, seed: int = 0, image_size: int = 56, hidden_size: int = 32, num_layers: int = 3
) -> Path:
    """Writes a random CLIP vision tower with patches of 14 pixels and returns its folder.

    Args:
        folder: Made if it is not there.
        seed: Of the weights.
        image_size: Side of an image in pixels; 56 gives 16 patches.
        hidden_size: Width of the features, a multiple of 32.
        num_layers: Transformer layers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["CLIPVisionModel"],
        "attention_dropout": 0.0,
        "hidden_act": "quick_gelu",
        "hidden_size": hidden_size,
        "image_size": image_size,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 2 * hidden_size,
        "layer_norm_eps": 1e-05,
        "model_type": "clip_vision_model",
        "num_attention_heads": 4,
        "num_channels": 3,
        "num_hidden_layers": num_layers,
        "patch_size": 14,
        "projection_dim": 32,
        "torch_dtype": "float16",
        "transformers_version": "4.37.2",
    }
    _write_json(folder / "config.json", config)
    processor = {
        "crop_size": {"height": image_size, "width": image_size},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "CLIPImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": image_size},
    }
    _write_json(folder / "preprocessor_config.json", processor)
    weights = _random_weights(_tower_shapes(config, prefix="vision_model."), seed)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_checkpoint(
    folder: Path,
    tower: Path,
    *,
    seed: int = 0,
    sharded: bool = False,
    safetensors: bool = True,
    **config_overrides: Any,
) -> Path:
    """Writes a random LLaVA checkpoint on LLaMA and returns its folder.

    Args:
        folder: Made if it is not there. A tokenizer that lies there is kept, and decides the size
            of the vocabulary.
        tower: From `make_tower`; beside the checkpoint it is named, elsewhere given by its path.
        seed: Of the weights.
        sharded: Whether the weights lie in several files with an index.
        safetensors: Whether they lie in safetensors files, otherwise in .bin files.
        **config_overrides: Fields of config.json. The weights follow `hidden_size`,
            `intermediate_size`, `num_hidden_layers`, `num_attention_heads`, `num_key_value_heads`,
            `tie_word_embeddings`, `mm_projector_type`, `mm_patch_merge_type` (a newline embedding)
            and `unfreeze_mm_vision_tower` (the tower's weights, other than in its own folder).
    """
    if not (folder / "tokenizer.model").is_file():
        make_tokenizer(folder)
    tokenizer = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    tower_config = json.loads((tower / "config.json").read_text(encoding="utf-8"))
    beside = tower.resolve().parent == folder.resolve().parent
    config = {
        **LLAVA_CONFIG,
        "_name_or_path": folder.name,
        "vocab_size": tokenizer.get_piece_size(),
        "mm_hidden_size": tower_config["hidden_size"],
        "mm_vision_tower": tower.name if beside else str(tower.resolve()),
        **config_overrides,
    }
    _write_json(folder / "config.json", config)
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_length": 4096}
    _write_json(folder / "generation_config.json", {"_from_model_config": True, **generation})
    shapes = _language_shapes(config) | _projector_shapes(config)
    if config["unfreeze_mm_vision_tower"]:
        prefix = "model.vision_tower.vision_tower.vision_model."
        shapes |= _tower_shapes(tower_config, prefix=prefix)
    _write_weights(folder, _random_weights(shapes, seed), sharded, safetensors)
    return folder


LLAVA_CONFIG = {
    "architectures": ["LlavaLlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    "pretraining_tp": 1,
    "rope_scaling": None,
    "use_cache": True,
    "initializer_range": 0.02,
    "freeze_mm_mlp_adapter": False,
    "image_aspect_ratio": "pad",
    "max_length": 4096,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "model_type": "llava_llama",
    "torch_dtype": "float16",
    "transformers_version": "4.31.0",
    "tune_mm_mlp_adapter": False,
    "unfreeze_mm_vision_tower": False,
    "use_mm_proj": True,
}


def _sentences() -> list[str]:
    draw = random.Random(0)
    sentences = [
        draw.choice(_PATTERNS).format(
            thing=draw.choice(_THINGS),
            place=draw.choice(_PLACES),
            color=draw.choice(_COLORS),
            shade=draw.choice(_COLORS),
            number=draw.randrange(10),
            other=draw.randrange(10),
        )
        for _ in range(400)
    ]
    return [*sentences, *_PROMPTS]


def _language_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    keys = width // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {
            f"{prefix}self_attn.q_proj.weight": (width, width),
            f"{prefix}self_attn.k_proj.weight": (keys, width),
            f"{prefix}self_attn.v_proj.weight": (keys, width),
            f"{prefix}self_attn.o_proj.weight": (width, width),
            f"{prefix}mlp.gate_proj.weight": (inner, width),
            f"{prefix}mlp.up_proj.weight": (inner, width),
            f"{prefix}mlp.down_proj.weight": (width, inner),
            f"{prefix}input_layernorm.weight": (width,),
            f"{prefix}post_attention_layernorm.weight": (width,),
        }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    return shapes


def _projector_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, kind = config["hidden_size"], config["mm_projector_type"]
    shapes: dict[str, tuple[int, ...]] = {}
    if kind == "linear":
        layers = {"model.mm_projector.": config["mm_hidden_size"]}
    elif kind == "identity":
        layers = {}
    else:
        depth = int(kind.removeprefix("mlp").removesuffix("x_gelu"))
        layers = {
            f"model.mm_projector.{2 * i}.": width if i else config["mm_hidden_size"]
            for i in range(depth)
        }
    for prefix, inputs in layers.items():
        shapes |= {f"{prefix}weight": (width, inputs), f"{prefix}bias": (width,)}
    if "unpad" in config.get("mm_patch_merge_type", "flat"):
        shapes["model.image_newline"] = (width,)
    return shapes


def _tower_shapes(config: dict[str, Any], *, prefix: str) -> dict[str, tuple[int, ...]]:
    width, inner, patch = config["hidden_size"], config["intermediate_size"], config["patch_size"]
    num_positions = (config["image_size"] // patch) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, config["num_channels"], patch, patch),
        "embeddings.position_embedding.weight": (num_positions, width),
    }
    linear = {f"self_attn.{name}_proj": (width, width) for name in "kvq"}
    linear |= {"self_attn.out_proj": (width, width)}
    linear |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    for layer in range(config["num_hidden_layers"]):
        for name, shape in linear.items():
            shapes[f"encoder.layers.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layers.{layer}.{name}.bias"] = shape[:1]
        for name in ("layer_norm1", "layer_norm2"):
            shapes[f"encoder.layers.{layer}.{name}.weight"] = (width,)
            shapes[f"encoder.layers.{layer}.{name}.bias"] = (width,)
    for name in ("pre_layrnorm", "post_layernorm"):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)
    return {prefix + name: shape for name, shape in shapes.items()}


def _random_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """Float16 weights: norms about 1, biases small, matrices that keep the scale of their input."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            norm = "norm" in name and name.endswith("weight")
            values = 1 + 0.1 * noise if norm else 0.1 * noise
        elif "embed" in name and "patch" not in name:
            values = 0.5 * noise
        else:
            values = 1.5 * noise / noise[0].numel() ** 0.5
        weights[name] = values.half()
    return weights


def _write_weights(
    folder: Path, weights: dict[str, torch.Tensor], sharded: bool, safetensors: bool
) -> None:
    stem, suffix = ("model", ".safetensors") if safetensors else ("pytorch_model", ".bin")
    names = list(weights)
    if not sharded:
        parts = {f"{stem}{suffix}": names}
    else:
        parts = {
            f"{stem}-{i + 1:05d}-of-{NUM_SHARDS:05d}{suffix}": names[i::NUM_SHARDS]
            for i in range(NUM_SHARDS)
        }
        size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
        index = {
            "metadata": {"total_size": size},
            "weight_map": {name: file for file, held in parts.items() for name in held},
        }
        _write_json(folder / f"{stem}{suffix}.index.json", index)
    for file, held in parts.items():
        part = {name: weights[name] for name in held}
        if safetensors:
            save_file(part, folder / file, metadata={"format": "pt"})
        else:
            torch.save(part, folder / file)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
