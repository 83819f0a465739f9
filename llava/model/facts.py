"""What the fields of a checkpoint's JSON files may be; what is not known is refused by name.

A field that decides an answer is read here, once, before anything is loaded. No other field is
handed to the loading library, see `kept_fields`. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llava.model.families import Family
from llava.model.locate import read_json_object
from llava.model.rules import (
    ANY_TEXT,
    ASPECT_RATIO,
    DECIMAL,
    FLAG,
    NULL,
    NUMBER,
    OBJECT,
    OFF,
    POSITIVE,
    TEXT,
    TOKEN_ID,
    Rule,
    check_fields,
    is_number,
    list_of,
    matching,
    one_of,
    unknown_value,
    whole,
)
from llava.model.tower_facts import tuned_parts
from llava.tiling import MERGE_TYPES_IN_WORDS, merge_parts

_LLAVA_FIELD = re.compile(
    r"(mm|image|tokenizer|tune|freeze|unfreeze|use_mm)_\w+|vision_tower|max_sequence_length|"
    r"s2(_scales)?"
)
_TUNABLE = {"", "mm_vision_tower", "mm_vision_resampler", "mm_mlp_adapter", "mm_language_model"}
_TOKENS = whole(0) | list_of(whole(0)) | NULL
_SPECIAL_IDS: Mapping[str, Rule] = {
    **dict.fromkeys(("pad_token_id", "bos_token_id"), TOKEN_ID | NULL),
    "eos_token_id": _TOKENS,
}
_SCALES = matching(
    r"[1-9]\d*(, *[1-9]\d*)*", "whole numbers with commas between, such as 336,672,1008"
)
_PARTS = Rule(
    f"a list of {', '.join(sorted(_TUNABLE - {''}))}, with commas between",
    lambda value: isinstance(value, (str, list)) and _TUNABLE.issuperset(tuned_parts(value)),
)
_LLAVA: Mapping[str, Rule] = {
    "image_aspect_ratio": ASPECT_RATIO,
    "mm_patch_merge_type": Rule(MERGE_TYPES_IN_WORDS, lambda value: merge_parts(value) is not None),
    "mm_projector_type": matching(
        r"linear|identity|mlp[1-9]\d?x_gelu", "linear, identity or mlp<depth>x_gelu"
    ),
    "mm_vision_select_feature": one_of("patch", "cls_patch"),
    "mm_resampler_type": NULL,
    "mm_hidden_size": whole(),
    **dict.fromkeys(("mm_vision_tower", "vision_tower"), TEXT | NULL),
    **dict.fromkeys(("mm_use_im_start_end", "mm_use_im_patch_token"), FLAG | NULL),
    **dict.fromkeys(("unfreeze_mm_vision_tower", "s2", "image_newline_of_each"), FLAG | NULL),
    "mm_tunable_parts": _PARTS | NULL,
    "s2_scales": _SCALES | NULL,
    **dict.fromkeys(("tokenizer_model_max_length", "max_sequence_length"), whole() | NULL),
    "tokenizer_padding_side": one_of("left", "right"),
    **dict.fromkeys(("torch_dtype", "dtype"), one_of("float32", "float16", "bfloat16", None)),
    "_name_or_path": ANY_TEXT | NULL,
    "architectures": list_of(TEXT) | NULL,
}
_LANGUAGE: dict[str, Rule] = {
    "tie_word_embeddings": FLAG,
    "use_cache": FLAG,
    "vocab_size": whole(),
    **_SPECIAL_IDS,
}
# the library reads none of these, whatever they say
_MPT_ATTENTION: Mapping[str, Rule] = {
    "alibi": one_of(True),
    "alibi_bias_max": whole(),
    "attn_type": one_of("multihead_attention"),
    **dict.fromkeys(("attn_uses_sequence_id", "prefix_lm", "qk_ln", "rope"), OFF),
    "softmax_scale": POSITIVE | NULL,
}
_ROPE: Mapping[str, Rule] = {
    **dict.fromkeys(("rope_theta", "low_freq_factor", "high_freq_factor"), POSITIVE),
    "factor": Rule("a number >= 1", lambda value: is_number(value) and value >= 1),
    "original_max_position_embeddings": whole(),
    **dict.fromkeys(("short_factor", "long_factor"), list_of(POSITIVE)),
    **dict.fromkeys(("attention_factor", "beta_fast", "beta_slow"), POSITIVE | NULL),
    **dict.fromkeys(("mscale", "mscale_all_dim"), POSITIVE | NULL),
    "truncate": FLAG,
    "finetuned": FLAG | NULL,
    "partial_rotary_factor": one_of(1, 1.0),
}
# what transformers 5 writes there, and earlier versions outside
_ROPE_PLACES = ("rope_theta", "partial_rotary_factor")
_ROPE_NEEDS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    **dict.fromkeys(("linear", "dynamic", "yarn"), ("factor",)),
    "longrope": ("short_factor", "long_factor"),
    "llama3": (
        *("factor", "low_freq_factor", "high_freq_factor"),
        "original_max_position_embeddings",
    ),
}
_FROM_ZERO = Rule("a number >= 0", lambda value: is_number(value) and value >= 0)
_NAMES_TOKENS: Mapping[str, Rule] = {
    **dict.fromkeys(("eos_token_id", "forced_eos_token_id"), _TOKENS),
    **dict.fromkeys(("suppress_tokens", "begin_suppress_tokens"), list_of(whole(0)) | NULL),
    "bad_words_ids": list_of(list_of(whole(0), 1), 1) | NULL,
    "forced_bos_token_id": whole(0) | NULL,
}
_GENERATION: Mapping[str, Rule] = {
    **_SPECIAL_IDS,
    **_NAMES_TOKENS,
    **dict.fromkeys(("repetition_penalty", "encoder_repetition_penalty"), DECIMAL | NULL),
    **dict.fromkeys(("no_repeat_ngram_size", "min_length", "min_new_tokens"), whole(0) | NULL),
    "length_penalty": NUMBER | NULL,
    "early_stopping": FLAG | one_of("never", None),
    "_from_model_config": FLAG,
    **dict.fromkeys(("renormalize_logits", "remove_invalid_values"), FLAG | NULL),
    # a request states these itself; here they serve who calls `generate` alone
    **dict.fromkeys(("do_sample", "use_cache"), FLAG | NULL),
    **dict.fromkeys(("num_beams", "max_length", "max_new_tokens"), whole() | NULL),
    **dict.fromkeys(("temperature", "top_p", "typical_p"), _FROM_ZERO | NULL),
    "top_k": whole(-1) | NULL,
    # other ways to generate, which need what no request has, or answer otherwise each time
    **dict.fromkeys(("num_return_sequences", "num_beam_groups"), one_of(1, None)),
    "guidance_scale": one_of(1, 1.0, None),
    "encoder_no_repeat_ngram_size": one_of(0, None),
    "token_healing": OFF,
    **dict.fromkeys(("stop_strings", "max_time", "sequence_bias", "watermarking_config"), NULL),
    **dict.fromkeys(("dola_layers", "constraints", "force_words_ids", "penalty_alpha"), NULL),
    **dict.fromkeys(("custom_generate", "cache_implementation", "prefill_chunk_size"), NULL),
    **dict.fromkeys(("prompt_lookup_num_tokens", "assistant_early_exit"), NULL),
    "exponential_decay_length_penalty": NULL,
}
_OVER_PROMPT = "or null, as in transformers' own classes it counts the prompt too"
_GENERATION_OF_NATIVE = {
    **_GENERATION,
    **dict.fromkeys(
        ("repetition_penalty", "encoder_repetition_penalty"),
        Rule(f"1 {_OVER_PROMPT}", one_of(1, 1.0, None).holds),
    ),
    "no_repeat_ngram_size": Rule(f"0 {_OVER_PROMPT}", one_of(0, None).holds),
}
_TOKEN = ANY_TEXT | OBJECT | NULL
_SPECIAL_TOKENS: Mapping[str, Rule] = {
    **dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), _TOKEN),
    **dict.fromkeys(("sep_token", "cls_token", "mask_token"), _TOKEN),
    "additional_special_tokens": list_of(TEXT | OBJECT) | NULL,
}
_TOKENIZER: Mapping[str, Rule] = {
    **_SPECIAL_TOKENS,
    **dict.fromkeys(("legacy", "add_bos_token", "add_eos_token"), FLAG | NULL),
    **dict.fromkeys(("add_prefix_space", "split_special_tokens"), FLAG | NULL),
    "clean_up_tokenization_spaces": FLAG | NULL,
    "extra_special_tokens": list_of(TEXT | OBJECT) | OBJECT | NULL,
    "added_tokens_decoder": OBJECT | NULL,
    "model_max_length": NUMBER | NULL,
    "padding_side": one_of("left", "right", None),
    "tokenizer_class": TEXT | NULL,
}
# what cannot change an answer; the library's own types for these are narrow
_WITHOUT_EFFECT = {
    *("initializer_range", "pretraining_tp", "attention_dropout", "resid_pdrop"),
    *("emb_pdrop", "embd_pdrop"),
}
# fields that a class of the library takes without declaring them
_NOT_DECLARED = {"rope_theta", "rope_scaling", "partial_rotary_factor", "architectures"}


def read_facts(
    config: Mapping[str, Any], family: Family, path: Path, *, native: bool = False
) -> dict[str, Any]:
    """Returns a configuration in the original format's terms whose fields are all understood.

    A `pad_token_id` outside the vocabulary is left out: no answer depends on padding. A `native`
    configuration was translated: its file has the language model's fields in `text_config`.

    Raises:
        CheckpointError: a field has a value that is not known, or contradicts another.
    """
    prefix = "text_config." if native else ""
    rules = {**_LANGUAGE, **family.rules}
    check_fields(dict.fromkeys(family.needed) | dict(config), rules, path, prefix)
    check_fields(config, _LLAVA, path)
    if family.name == "mpt":
        check_fields(config.get("attn_config") or {}, _MPT_ATTENTION, path, "attn_config.")
    else:
        _check_heads(config, path, prefix)
    inner = {**_ROPE, **{name: rules[name] for name in _ROPE_PLACES if name in rules}}
    config = dict(config)
    for name in ("rope_scaling", "rope_parameters"):
        if (rope := config.get(name)) is not None:
            # Phi-3 was first published with longrope called su
            config[name] = {k: "longrope" if v == "su" else v for k, v in rope.items()}
            _check_rope(config[name], inner, path, f"{prefix}{name}.")
            _compare_rope(config, name, path, prefix)
    for one, other in (("rope_scaling", "rope_parameters"), ("torch_dtype", "dtype")):
        given, again = config.get(one), config.get(other)
        if given is not None and again is not None and given != again:
            raise unknown_value(prefix + one, f"the same as `{other}`, {again!r}", given, path)
    pad = config.get("pad_token_id")
    is_padding = pad is None or 0 <= pad < config["vocab_size"]
    return {name: value for name, value in config.items() if is_padding or name != "pad_token_id"}


def _check_heads(config: Mapping[str, Any], path: Path, prefix: str) -> None:
    width, heads = config["hidden_size"], config["num_attention_heads"]
    groups = config.get("num_key_value_heads") or heads
    if config.get("head_dim") is None and width % heads:
        words = f"a divisor of `hidden_size`, {width}"
        raise unknown_value(f"{prefix}num_attention_heads", words, heads, path)
    if heads % groups:
        words = f"a divisor of `num_attention_heads`, {heads}"
        raise unknown_value(f"{prefix}num_key_value_heads", words, groups, path)


def _check_rope(
    rope: Mapping[str, Any], rules: Mapping[str, Rule], path: Path, prefix: str
) -> None:
    kinds = {name: rope[name] for name in ("type", "rope_type") if name in rope}
    if not kinds and rope.keys() - {*_ROPE_PLACES}:
        kinds = {"rope_type": None}
    kind, rule = next(iter(kinds.values()), "default"), one_of(*_ROPE_NEEDS)
    for name, stated in kinds.items():
        if not rule.holds(stated) or stated != kind:
            raise unknown_value(prefix + name, rule.words, stated, path)
    check_fields({**dict.fromkeys(_ROPE_NEEDS[kind]), **rope}, rules, path, prefix)
    for name in rope.keys() - _ROPE.keys() - kinds.keys():
        words = f"left out, as no fields are known beside {', '.join(_ROPE)}"
        raise unknown_value(prefix + name, words, rope[name], path)
    low, high = rope.get("low_freq_factor"), rope.get("high_freq_factor")
    if low is not None and high is not None and low >= high:
        words = f"less than `high_freq_factor`, {high}"
        raise unknown_value(f"{prefix}low_freq_factor", words, low, path)


def _compare_rope(config: Mapping[str, Any], field: str, path: Path, prefix: str) -> None:
    """Checks what is said of positions in a field against the rest of the configuration."""
    rope = config[field]
    for name in _ROPE_PLACES:
        inside, outside = rope.get(name), config.get(name)
        if inside is not None and outside is not None and inside != outside:
            words = f"the same as in `{field}`, {inside}"
            raise unknown_value(prefix + name, words, outside, path)
    heads = config.get("num_attention_heads") or config["n_heads"]
    width = config.get("head_dim") or (config.get("hidden_size") or config["d_model"]) // heads
    share = {**config, **rope}.get("partial_rotary_factor", 1)
    num_pairs = int(width * share) // 2
    for name in ("short_factor", "long_factor"):
        if name in rope and len(rope[name]) != num_pairs:
            words = f"a list of {num_pairs} numbers, half the part of a head that turns"
            raise unknown_value(f"{prefix}{field}.{name}", words, rope[name], path)


def check_generation(config: Mapping[str, Any], path: Path, prefix: str, folder: Path) -> None:
    """Raises CheckpointError if an option of generation is not known, or names no token.

    Options may stand in a config.json, with the prefix, and in the generation_config.json of the
    language model's folder.
    """
    found, num_tokens = [(config, path, prefix)], config["vocab_size"]
    file = folder / "generation_config.json"
    if file.is_file():
        remedy = "Copy it from the original checkpoint."
        found.append((read_json_object(file, remedy), file, ""))
    for generation, place, at in found:
        check_fields(generation, _GENERATION_OF_NATIVE if prefix else _GENERATION, place, at)
        for name in _NAMES_TOKENS:
            if any(token >= num_tokens for token in _tokens_in(generation.get(name))):
                words = f"of the vocabulary, below {num_tokens}"
                raise unknown_value(f"{at}{name}", words, generation[name], place)


def kept_options(generation: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of generation that are known: the library follows no other."""
    return {name: value for name, value in generation.items() if name in _GENERATION}


def _tokens_in(value: Any) -> list[int]:
    """The ids in a number, a list, or a list of lists."""
    if isinstance(value, list):
        return [token for part in value for token in _tokens_in(part)]
    return [] if value is None else [value]


def kept_fields(
    config: Mapping[str, Any], own: frozenset[str], base: frozenset[str]
) -> dict[str, Any]:
    """Returns the fields that make a model: what else a config.json holds steers nothing.

    Args:
        config: From `read_facts`.
        own: The fields that the library's configuration class has.
        base: Those of every such class, which steer the library and not the model.
    """
    known = (own - base - _WITHOUT_EFFECT) | _NOT_DECLARED
    return {k: v for k, v in config.items() if k in known or _LLAVA_FIELD.fullmatch(k)}


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Returns a tokenizer's settings with its special tokens, once all its files are understood.

    Raises:
        CheckpointError: a file cannot be read, or a field is not what the tokenizer takes.
    """
    config = _read_tokenizer_file(folder / "tokenizer_config.json", _TOKENIZER)
    added = folder / "added_tokens.json"
    ids = _read_tokenizer_file(added, {})
    check_fields(ids, dict.fromkeys(ids, whole(0)), added)
    return config | _read_tokenizer_file(folder / "special_tokens_map.json", _SPECIAL_TOKENS)


def _read_tokenizer_file(path: Path, rules: Mapping[str, Rule]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = read_json_object(path, "Copy it from the model that the checkpoint was trained from.")
    check_fields(content, rules, path)
    return content
