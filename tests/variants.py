"""Checkpoints of every other kind, made from the tiny complete ones of `tests.checkpoints`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from llava.model.families import MODEL_TYPES
from tests.checkpoints import make_checkpoint

_TOKENIZER_FILES = ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")
_LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def make_mistral(folder: Path, tower: Path, **config_overrides: Any) -> Path:
    """Writes a LLaVA on Mistral, with grouped key-value heads, and returns its folder."""
    config = {"architectures": ["LlavaMistralForCausalLM"], "model_type": "llava_mistral"}
    config |= {"num_key_value_heads": 2, "sliding_window": None, "rope_theta": 10000.0}
    return make_checkpoint(folder, tower, **{**config, **config_overrides})


FAMILY_FIELDS: dict[str, dict[str, Any]] = {
    "llama 3": {
        "num_key_value_heads": 2,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "qwen2": {"model_type": "llava_qwen", "num_key_value_heads": 2, "rms_norm_eps": 1e-6},
    "qwen2 with windows": {
        "model_type": "llava_qwen",
        "tie_word_embeddings": True,
        "use_sliding_window": True,
        "sliding_window": 12,
        "max_window_layers": 1,
    },
    "qwen3": {"model_type": "llava_qwen3", "num_key_value_heads": 2, "head_dim": 24},
    "phi3": {"model_type": "llava_phi3", "partial_rotary_factor": 0.5, "sliding_window": 40},
    "gemma": {
        "model_type": "llava_gemma",
        "num_key_value_heads": 1,
        "head_dim": 24,
        "hidden_act": "gelu",
        "tie_word_embeddings": True,
    },
}
"""What config.json says of a tiny LLaVA on each language model, beside what it says of LLaMA's."""


def make_family(folder: Path, tower: Path, family: str, **config_overrides: Any) -> Path:
    """Writes a tiny LLaVA on another language model, one of `FAMILY_FIELDS`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {"model_type": "llava_llama", **FAMILY_FIELDS[family], **config_overrides}
    made_on = MODEL_TYPES[fields["model_type"]]
    name = made_on.name
    make_checkpoint(folder, tower, **{"architectures": [f"{made_on.prefix}ForCausalLM"], **fields})
    config = _read_json(folder / "config.json")
    known = {key: value for key, value in config.items() if key not in _NOT_OF_A_MODEL}
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **known))
    generator = torch.Generator().manual_seed(0)
    tensors = {
        key: _random_tensor(tensor.shape, generator)
        for key, tensor in plain.state_dict().items()
        if key != "lm_head.weight" or not config["tie_word_embeddings"]
    }
    given = load_file(folder / "model.safetensors")
    tensors |= {key: tensor for key, tensor in given.items() if "mm_" in key or "newline" in key}
    tensors |= {key: tensor for key, tensor in given.items() if "vision_tower" in key}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


_NOT_OF_A_MODEL = frozenset({"model_type", "architectures", "transformers_version", "torch_dtype"})


def _random_tensor(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(shape, generator=generator)
    scale = 1.5 / shape[-1] ** 0.5 if len(shape) > 1 else 0.1
    return (scale * noise + (len(shape) == 1)).half()


def make_mpt(folder: Path, tower: Path, *, seed: int = 0, **config_overrides: Any) -> Path:
    """Writes a LLaVA on MPT with a byte-level tokenizer.json and returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab_size = write_byte_level_tokenizer(folder)
    width, tower_config = 64, json.loads((tower / "config.json").read_text(encoding="utf-8"))
    config = {
        "architectures": ["LlavaMptForCausalLM"],
        "model_type": "llava_mpt",
        "d_model": width,
        "n_heads": 4,
        "n_layers": 2,
        "expansion_ratio": 4,
        "max_seq_len": 512,
        "vocab_size": vocab_size,
        "attn_config": {"alibi": True, "attn_impl": "torch", "alibi_bias_max": 8},
        "no_bias": True,
        "norm_type": "low_precision_layernorm",
        "init_config": {"name": "kaiming_normal_"},
        "use_cache": True,
        "eos_token_id": 0,
        "mm_hidden_size": tower_config["hidden_size"],
        "mm_projector_type": "linear",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_layer": -2,
        "mm_vision_tower": tower.name,
        "image_aspect_ratio": "pad",
        "torch_dtype": "float16",
        **config_overrides,
    }
    _write_json(folder / "config.json", config)
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return (1.5 * torch.randn(shape, generator=generator) / shape[-1] ** 0.5).half()

    tensors = {
        "transformer.wte.weight": random(vocab_size, width),
        "transformer.norm_f.weight": torch.ones(width).half(),
        "transformer.mm_projector.weight": random(width, tower_config["hidden_size"]),
        "transformer.mm_projector.bias": random(width),
    }
    for i in range(config["n_layers"]):
        prefix = f"transformer.blocks.{i}."
        tensors |= {
            f"{prefix}norm_1.weight": torch.ones(width).half(),
            f"{prefix}norm_2.weight": torch.ones(width).half(),
            f"{prefix}attn.Wqkv.weight": random(3 * width, width),
            f"{prefix}attn.out_proj.weight": random(width, width),
            f"{prefix}ffn.up_proj.weight": random(4 * width, width),
            f"{prefix}ffn.down_proj.weight": random(width, 4 * width),
        }
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def make_base(folder: Path, llava: Path) -> Path:
    """Writes the plain language model inside a LLaVA checkpoint and returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _copy_tokenizer(llava, folder)
    config = {
        key: value for key, value in _read_json(llava / "config.json").items() if "mm_" not in key
    }
    model_type = MODEL_TYPES[config["model_type"]].name
    _write_json(folder / "config.json", config | {"model_type": model_type})
    tensors = load_file(llava / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "mm_" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_projector(folder: Path, llava: Path, **config_overrides: Any) -> Path:
    """Writes the projector of a LLaVA checkpoint alone and returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _read_json(llava / "config.json") | config_overrides)
    tensors = load_file(llava / "model.safetensors")
    projector = {name: tensor for name, tensor in tensors.items() if "mm_projector" in name}
    torch.save(projector, folder / "mm_projector.bin")
    return folder


def make_lora(folder: Path, llava: Path, *, seed: int = 0, rank: int = 4) -> Path:
    """Writes an adapter as LLaVA's training does, with the projector beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _read_json(llava / "config.json"))
    tensors = load_file(llava / "model.safetensors")
    rest = {f"base_model.model.{name}": t for name, t in tensors.items() if "mm_projector" in name}
    torch.save(rest, folder / "non_lora_trainables.bin")
    write_adapter(folder, tensors, seed=seed, rank=rank)
    return folder


def write_adapter(
    folder: Path, tensors: dict[str, torch.Tensor], *, seed: int = 0, rank: int = 4
) -> Path:
    """Writes a PEFT LoRA adapter for a language model's tensors into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    adapter = {}
    for name, tensor in tensors.items():
        module = name.removesuffix(".weight")
        if "layers." in name and module.endswith(_LORA_TARGETS):
            outputs, inputs = tensor.shape
            prefix = f"base_model.model.{module}"
            adapter[f"{prefix}.lora_A.weight"] = 0.3 * torch.randn(
                rank, inputs, generator=generator
            )
            adapter[f"{prefix}.lora_B.weight"] = 0.3 * torch.randn(
                outputs, rank, generator=generator
            )
    torch.save(adapter, folder / "adapter_model.bin")
    config = {
        "base_model_name_or_path": "the-base",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": list(_LORA_TARGETS),
        "task_type": "CAUSAL_LM",
    }
    _write_json(folder / "adapter_config.json", config)
    return folder


def make_native(folder: Path, llava: Path, tower: Path) -> Path:
    """Writes a complete LLaVA checkpoint as transformers' own class saves it.

    Args:
        folder: Where to.
        llava: A checkpoint in the original format; any-resolution ones become LLaVA-NeXT.
        tower: Its vision tower.
    """
    from transformers import (
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
    )

    config = _read_json(llava / "config.json")
    anyres = config["image_aspect_ratio"] == "anyres"
    text = {key: value for key, value in config.items() if "mm_" not in key and "image" not in key}
    text |= {"model_type": config["model_type"].removeprefix("llava_")}
    vision = _read_json(tower / "config.json")
    options: dict[str, Any] = {"text_config": text, "vision_config": vision, "image_token_index": 3}
    if anyres:
        pinpoints = [[height, width] for width, height in config["image_grid_pinpoints"]]
        native_config = LlavaNextConfig(**options, image_grid_pinpoints=pinpoints)
        model = LlavaNextForConditionalGeneration(native_config)
    else:
        model = LlavaForConditionalGeneration(LlavaConfig(**options))
    tensors = load_file(llava / "model.safetensors")
    if not config["unfreeze_mm_vision_tower"]:
        own = load_file(tower / "model.safetensors")
        tensors |= {f"model.vision_tower.vision_tower.{name}": t for name, t in own.items()}
    model.load_state_dict({_native_name(name): t.float() for name, t in tensors.items()})
    model.save_pretrained(folder)
    _copy_tokenizer(llava, folder)
    shutil.copyfile(tower / "preprocessor_config.json", folder / "preprocessor_config.json")
    return folder


def _native_name(name: str) -> str:
    for original, native in (
        ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
        ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
        ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
        ("model.image_newline", "model.image_newline"),
        ("model.", "model.language_model."),
    ):
        if name.startswith(original):
            return native + name.removeprefix(original)
    return name


def merged_by_hand(tensors: dict[str, torch.Tensor], adapter: Path) -> dict[str, torch.Tensor]:
    """Returns float32 tensors with an adapter of `write_adapter` added: W + 2 B A."""
    lora = torch.load(adapter / "adapter_model.bin", weights_only=True)
    merged = {name: tensor.float() for name, tensor in tensors.items()}
    for name, down in lora.items():
        if name.endswith("lora_A.weight"):
            weight = name.removeprefix("base_model.model.").replace(".lora_A", "")
            merged[weight] += 2 * lora[name.replace("lora_A", "lora_B")] @ down
    return merged


def write_byte_level_tokenizer(folder: Path) -> int:
    """Trains a GPT-NeoX-like tokenizer on a few sentences and returns its size."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["What color is the dog?", "Answer the question."], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    config = {"tokenizer_class": "GPTNeoXTokenizer", "model_max_length": 512}
    _write_json(folder / "tokenizer_config.json", special | config)
    return int(tokenizer.get_vocab_size())


def _copy_tokenizer(source: Path, target: Path) -> None:
    for name in _TOKENIZER_FILES:
        shutil.copyfile(source / name, target / name)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
