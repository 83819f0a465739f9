"""The demo checkpoint in the format of LLaVA-1.5: CLIP, LLaMA and a sentencepiece tokenizer."""

from __future__ import annotations

import io
import string
from collections.abc import Iterable

import sentencepiece
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from evals.demo.drawing import IMAGE_SIZE
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

VOCABULARY_SIZE = 896
_IMAGE_MEAN = [0.48145466, 0.4578275, 0.40821073]
_IMAGE_STD = [0.26862954, 0.26130258, 0.27577711]
_SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
_TOWER = {
    **TOWER_SIZES,
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH_SIZE,
    "projection_dim": TOWER_WIDTH,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_TOKEN_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_LANGUAGE = {
    **LANGUAGE_SIZES,
    "num_key_value_heads": 4,
    "vocab_size": VOCABULARY_SIZE,
    "max_position_embeddings": CONTEXT_LENGTH,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    **_TOKEN_IDS,
    "tie_word_embeddings": False,
}
_FLAGS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
_TOKENS = {
    name: {"content": content, **_FLAGS}
    for name, content in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))
}


def _train_tokenizer(texts: Iterable[str]) -> bytes:
    """The content of a `tokenizer.model`, learned with LLaMA's settings.

    Line breaks become bytes, as in LLaMA, because no text is seen across them; all of ASCII has
    pieces of its own, everything else is spelled in bytes.
    """
    lines = [line for text in texts for line in text.split("\n") if line]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY_SIZE,
        character_coverage=1.0,
        required_chars=string.ascii_letters + string.digits + string.punctuation,
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        input_sentence_size=0,
        minloglevel=2,
    )
    return model.getvalue()


LLAVA_1_5 = Form(
    checkpoint="llava-demo",
    early="llava-demo-early",
    conversation="vicuna_v1",
    train_tokenizer=_train_tokenizer,
    tokenizer_file="tokenizer.model",
    tokenizer_configs={
        "special_tokens_map.json": {**_TOKENS, "pad_token": "<unk>"},
        "tokenizer_config.json": {
            "add_bos_token": True,
            "add_eos_token": False,
            **{name: {"__type": "AddedToken", **token} for name, token in _TOKENS.items()},
            "clean_up_tokenization_spaces": False,
            "legacy": False,
            "model_max_length": CONTEXT_LENGTH,
            "pad_token": "<unk>",
            "padding_side": "right",
            "sp_model_kwargs": {},
            "tokenizer_class": "LlamaTokenizer",
        },
    },
    space="▁",
    line_break="<0x0A>",
    build_tower=lambda: CLIPVisionModel(CLIPVisionConfig(**_TOWER)),
    build_language=lambda: LlamaForCausalLM(LlamaConfig(**_LANGUAGE)),
    view_size=IMAGE_SIZE,
    has_class_token=True,
    tunes_tower=False,
    processor=CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=_SQUARE),
    tower_config={
        "architectures": ["CLIPVisionModel"],
        "model_type": "clip_vision_model",
        **_TOWER,
        "torch_dtype": "float16",  # what transformers of LLaVA's time reads
    },
    processor_config={
        "crop_size": IMAGE_SIZE,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": _IMAGE_MEAN,
        "image_std": _IMAGE_STD,
        "resample": 3,  # bicubic
        "size": IMAGE_SIZE,
    },
    config={
        # The name says which conversation template the checkpoint was trained with.
        "_name_or_path": "llava-v1.5-demo",
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava_llama",
        **_LANGUAGE,
        # From here on as in the configurations that LLaVA-1.5 was released with.
        "pretraining_tp": 1,
        "rope_scaling": None,
        "use_cache": True,
        "initializer_range": 0.02,
        "freeze_mm_mlp_adapter": False,
        "image_aspect_ratio": "pad",
        "mm_hidden_size": TOWER_WIDTH,
        "mm_projector_type": PROJECTOR_TYPE,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": SELECT_LAYER,
        "mm_vision_tower": "clip-demo",
        "tokenizer_model_max_length": CONTEXT_LENGTH,
        "tokenizer_padding_side": "right",
        "torch_dtype": "float16",
        "transformers_version": "4.31.0",
        "tune_mm_mlp_adapter": False,
        "unfreeze_mm_vision_tower": False,
        "use_mm_proj": True,
    },
    generation_config={
        "_from_model_config": True,
        **_TOKEN_IDS,
        "max_length": CONTEXT_LENGTH,
    },
)
