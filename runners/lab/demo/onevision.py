"""The demo checkpoint in the format of LLaVA-OneVision: tiles, SigLIP, Qwen2 and byte-level BPE."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import ByteLevel
from transformers import (
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from runners.lab.demo.form import (
    CONTEXT_LENGTH,
    LANGUAGE_SIZES,
    PATCH_SIZE,
    PROJECTOR_TYPE,
    SELECT_LAYER,
    TOWER_SIZES,
    TOWER_WIDTH,
    Form,
)

_TILE_SIZE = 24
_NUM_PIECES = 893
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_END_OF_TEXT, _, _END_OF_TURN = _SPECIAL
_SPECIAL_IDS = {token: _NUM_PIECES + number for number, token in enumerate(_SPECIAL)}
_TOKENS = {"eos_token": _END_OF_TURN, "pad_token": _END_OF_TEXT}
_FLAGS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
# Contractions, words with the character before them, single digits, punctuation with the line
# breaks behind it, line breaks, spaces: Qwen2 never joins characters across these.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TOWER = {
    **TOWER_SIZES,
    "image_size": _TILE_SIZE,
    "patch_size": PATCH_SIZE,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "vision_use_head": False,
}
_LANGUAGE = {
    **LANGUAGE_SIZES,
    "num_key_value_heads": 2,
    "vocab_size": _NUM_PIECES + len(_SPECIAL),
    "max_position_embeddings": CONTEXT_LENGTH,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "bos_token_id": _SPECIAL_IDS[_END_OF_TEXT],
    "eos_token_id": _SPECIAL_IDS[_END_OF_TURN],
    "tie_word_embeddings": True,
    "rope_theta": 1_000_000.0,
    "use_sliding_window": False,
    "sliding_window": CONTEXT_LENGTH,
    "max_window_layers": 4,
}


def _train_tokenizer(texts: Iterable[str]) -> bytes:
    """The content of a `tokenizer.json`, learned with Qwen2's settings."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = ByteLevel(trim_offsets=False)
    # The marks of turns are tokens of their own, whatever stands beside them.
    parts = [part for text in texts for part in _without_marks(text)]
    trainer = trainers.BpeTrainer(
        vocab_size=_NUM_PIECES,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(parts, trainer)
    tokenizer.add_special_tokens(list(_SPECIAL))
    return f"{tokenizer.to_str(pretty=False)}\n".encode()


def _without_marks(text: str) -> list[str]:
    for mark in _SPECIAL:
        text = text.replace(mark, "\0")
    return [part for part in text.split("\0") if part]


ONEVISION = Form(
    checkpoint="llava-demo-next",
    early=None,
    conversation="qwen_1_5",
    train_tokenizer=_train_tokenizer,
    tokenizer_file="tokenizer.json",
    tokenizer_configs={
        "special_tokens_map.json": {"additional_special_tokens": list(_SPECIAL[1:]), **_TOKENS},
        "tokenizer_config.json": {
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(number): {"content": token, **_FLAGS, "special": True}
                for token, number in _SPECIAL_IDS.items()
            },
            "additional_special_tokens": list(_SPECIAL[1:]),
            "bos_token": None,
            "clean_up_tokenization_spaces": False,
            **_TOKENS,
            "errors": "replace",
            "model_max_length": CONTEXT_LENGTH,
            "padding_side": "right",
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    },
    space="Ġ",
    line_break="Ċ",
    build_tower=lambda: SiglipVisionModel(SiglipVisionConfig(**_TOWER)),
    build_language=lambda: Qwen2ForCausalLM(Qwen2Config(**_LANGUAGE)),
    view_size=_TILE_SIZE,
    has_class_token=False,
    tunes_tower=True,
    processor=SiglipImageProcessorPil(size={"height": _TILE_SIZE, "width": _TILE_SIZE}),
    tower_config={
        "architectures": ["SiglipVisionModel"],
        "model_type": "siglip_vision_model",
        **_TOWER,
        "torch_dtype": "float16",
    },
    processor_config={
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
        "size": {"height": _TILE_SIZE, "width": _TILE_SIZE},
    },
    config={
        # The name says which conversation template the checkpoint was trained with.
        "_name_or_path": "llava-onevision-demo",
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava_qwen",
        **_LANGUAGE,
        # From here on as in the configurations that LLaVA-OneVision was released with.
        "rope_scaling": None,
        "use_cache": True,
        "initializer_range": 0.02,
        "attention_dropout": 0.0,
        "freeze_mm_mlp_adapter": False,
        # A demo picture has 2 x 2 tiles; from 3 x 3 tiles on the map of features is shrunk.
        "image_aspect_ratio": "anyres_max_4",
        "image_crop_resolution": None,
        "image_grid_pinpoints": "(1x1),...,(3x3)",
        "image_split_resolution": None,
        "mm_hidden_size": TOWER_WIDTH,
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": PROJECTOR_TYPE,
        "mm_resampler_type": None,
        "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": SELECT_LAYER,
        "mm_vision_tower": "siglip-demo",
        "tokenizer_model_max_length": CONTEXT_LENGTH,
        "tokenizer_padding_side": "right",
        "torch_dtype": "float16",
        "transformers_version": "4.40.0.dev0",
        "tune_mm_mlp_adapter": False,
        "use_mm_proj": True,
    },
    generation_config={
        "bos_token_id": _SPECIAL_IDS[_END_OF_TEXT],
        "eos_token_id": [_SPECIAL_IDS[_END_OF_TURN], _SPECIAL_IDS[_END_OF_TEXT]],
        "pad_token_id": _SPECIAL_IDS[_END_OF_TEXT],
        "max_length": CONTEXT_LENGTH,
    },
)
