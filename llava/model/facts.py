"""What the fields of a checkpoint's JSON files may be; what is not known is refused by name.

A field that decides an answer is read here, once, before anything is loaded. No other field is
handed to the loading library, see `kept_fields`. Imports no torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.tiling import ASPECT_RATIOS, MERGE_TYPES, read_pinpoints

_LARGEST = 2**31 - 1
_MOST_LAYERS = 1000

_PROJECTOR = re.compile(r"linear|identity|mlp[1-9]\d?x_gelu")
_PROCESSOR = re.compile(r"(CLIP|Llava|LlavaNext)(ImageProcessor(Fast|Pil)?|FeatureExtractor)")
_LLAVA_FIELD = re.compile(
    r"(mm|image|tokenizer|tune|freeze|unfreeze|use_mm)_\w+|vision_tower|max_sequence_length"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field may be: in words, and as a test of its value."""

    words: str
    holds: Callable[[Any], bool]

    def __or__(self, other: Rule) -> Rule:
        return Rule(
            f"{self.words} or {other.words}",
            lambda value: self.holds(value) or other.holds(value),
        )


def one_of(*values: object) -> Rule:
    """Returns the rule that a field is one of some values, of the same type."""
    words = ", ".join(value if isinstance(value, str) else json.dumps(value) for value in values)
    return Rule(
        f"one of {words}" if len(values) > 1 else words,
        lambda found: any(type(found) is type(value) and found == value for value in values),
    )


def whole(least: int = 1, most: int = _LARGEST) -> Rule:
    """Returns the rule that a field is a whole number within limits."""
    return Rule(
        f"a whole number from {least} to {most}"
        if most < _LARGEST
        else f"a whole number >= {least}",
        lambda value: type(value) is int and least <= value <= most,
    )


def list_of(rule: Rule, least: int = 0, most: int = _LARGEST) -> Rule:
    """Returns the rule that a field is a list of what another rule says, in such a number."""
    return Rule(
        f"a list of {f'{least} times ' if least == most else ''}{rule.words}",
        lambda value: (
            isinstance(value, list) and least <= len(value) <= most and all(map(rule.holds, value))
        ),
    )


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


FLAG = Rule("true or false", lambda value: isinstance(value, bool))
TEXT = Rule("text", lambda value: isinstance(value, str) and bool(value))
OBJECT = Rule("an object", lambda value: isinstance(value, dict))
NUMBER = Rule("a number", _is_number)
POSITIVE = Rule("a positive number", lambda value: _is_number(value) and value > 0)
DECIMAL = Rule(
    "a positive number written as a decimal, such as 1.2",
    lambda value: POSITIVE.holds(value) and (type(value) is float or value == 1),
)
NULL = one_of(None)
PAIRS = list_of(list_of(whole(), 2, 2), 1)
_OFF = one_of(False, None)
_LAYERS = whole(1, _MOST_LAYERS)
_TOKENS = whole(0) | list_of(whole(0)) | NULL
_ACTIVATION = one_of(
    *("silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu")
)
_DTYPE = one_of("float32", "float16", "bfloat16", None)

_LLAVA: Mapping[str, Rule] = {
    "image_aspect_ratio": one_of(*ASPECT_RATIOS),
    "mm_patch_merge_type": one_of(*MERGE_TYPES),
    "mm_projector_type": Rule(
        "linear, identity or mlp<depth>x_gelu",
        lambda value: isinstance(value, str) and bool(_PROJECTOR.fullmatch(value)),
    ),
    "mm_vision_select_feature": one_of("patch", "cls_patch"),
    "mm_resampler_type": NULL,
    "mm_hidden_size": whole(),
    "mm_vision_tower": TEXT | NULL,
    "vision_tower": TEXT | NULL,
    "mm_use_im_start_end": FLAG | NULL,
    "mm_use_im_patch_token": FLAG | NULL,
    "unfreeze_mm_vision_tower": FLAG | NULL,
    "s2": _OFF,
    "tokenizer_model_max_length": whole() | NULL,
    "tokenizer_padding_side": one_of("left", "right"),
    "max_sequence_length": whole() | NULL,
    "torch_dtype": _DTYPE,
    "dtype": _DTYPE,
    "_name_or_path": Rule("text", lambda value: isinstance(value, str)) | NULL,
    "architectures": list_of(TEXT) | NULL,
}
_LANGUAGE: dict[str, Rule] = {
    "tie_word_embeddings": FLAG,
    "use_cache": FLAG,
    "vocab_size": whole(),
    "pad_token_id": whole(-_LARGEST) | NULL,
    "bos_token_id": whole(-_LARGEST) | NULL,
    "eos_token_id": _TOKENS,
}
_DECODER: dict[str, Rule] = {
    "hidden_size": whole(),
    "intermediate_size": whole(),
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": whole(),
    "num_key_value_heads": whole() | NULL,
    "head_dim": whole() | NULL,
    "hidden_act": _ACTIVATION,
    "max_position_embeddings": whole(),
    "rms_norm_eps": POSITIVE,
    "rope_theta": POSITIVE,
    "rope_scaling": OBJECT | NULL,
    "rope_parameters": OBJECT | NULL,
    "attention_bias": FLAG,
    "mlp_bias": FLAG,
    "sliding_window": whole() | NULL,
}
_MPT: dict[str, Rule] = {
    "d_model": whole(),
    "n_heads": whole(),
    "n_layers": _LAYERS,
    "expansion_ratio": whole(),
    "max_seq_len": whole(),
    "attn_config": OBJECT | NULL,
    "layer_norm_epsilon": POSITIVE,
    "logit_scale": NULL,
    "no_bias": one_of(True),
    "embedding_fraction": one_of(1.0, 1),
    "norm_type": one_of("low_precision_layernorm", "layernorm"),
}
# the library reads none of these, whatever they say
_MPT_ATTENTION: Mapping[str, Rule] = {
    "alibi": one_of(True),
    "alibi_bias_max": whole(),
    "attn_type": one_of("multihead_attention"),
    "attn_uses_sequence_id": _OFF,
    "prefix_lm": _OFF,
    "qk_ln": _OFF,
    "rope": _OFF,
    "softmax_scale": POSITIVE | NULL,
}
_SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    "num_attention_heads",
)
_NEEDED = {
    "llama": (*_SIZES, "rms_norm_eps"),
    "mistral": (*_SIZES, "rms_norm_eps"),
    "mpt": ("vocab_size", "d_model", "n_heads", "n_layers"),
}
"""What every saved config.json states, by family; without it the library would guess."""

_ROPE: Mapping[str, Rule] = {
    "rope_theta": POSITIVE,
    "factor": Rule("a number >= 1", lambda value: _is_number(value) and value >= 1),
    "original_max_position_embeddings": whole() | NULL,
    "low_freq_factor": POSITIVE,
    "high_freq_factor": POSITIVE,
    "short_factor": list_of(POSITIVE),
    "long_factor": list_of(POSITIVE),
    "attention_factor": POSITIVE | NULL,
    "beta_fast": POSITIVE | NULL,
    "beta_slow": POSITIVE | NULL,
    "mscale": POSITIVE | NULL,
    "mscale_all_dim": POSITIVE | NULL,
    "truncate": FLAG,
    "finetuned": FLAG | NULL,
}
_ROPE_NEEDS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": (
        *("factor", "low_freq_factor", "high_freq_factor"),
        "original_max_position_embeddings",
    ),
}

_TOWER: Mapping[str, Rule] = {
    "model_type": one_of("clip_vision_model"),
    "hidden_size": whole(),
    "intermediate_size": whole(),
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": whole(),
    "num_channels": one_of(3),
    "image_size": whole(),
    "patch_size": whole(),
    "hidden_act": _ACTIVATION,
    "layer_norm_eps": POSITIVE,
    "quantization_config": NULL,
}
_TOWER_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("image_size", "patch_size"),
)
"""What a tower's own file states; inside another one, what equals CLIP's sizes is left out."""

_PROCESSED: Mapping[str, Rule] = {
    "image_processor_type": Rule(
        "a CLIP image processor",
        lambda value: isinstance(value, str) and bool(_PROCESSOR.fullmatch(value)),
    ),
    "do_resize": one_of(True),
    "do_center_crop": FLAG,
    "do_rescale": FLAG,
    "do_normalize": FLAG,
    "do_convert_rgb": FLAG | NULL,
    "resample": whole(0, 5),
    "rescale_factor": POSITIVE,
    "image_mean": list_of(NUMBER, 3, 3),
    "image_std": list_of(POSITIVE, 3, 3),
}
_PIXELS = ("size", "crop_size")
_GENERATION: Mapping[str, Rule] = {
    "eos_token_id": _TOKENS,
    "repetition_penalty": DECIMAL | NULL,
    "encoder_repetition_penalty": DECIMAL | NULL,
    "no_repeat_ngram_size": whole(0) | NULL,
    "length_penalty": NUMBER | NULL,
    "early_stopping": FLAG | one_of("never", None),
    "min_length": whole(0) | NULL,
    "min_new_tokens": whole(0) | NULL,
    "suppress_tokens": list_of(whole(0)) | NULL,
    "begin_suppress_tokens": list_of(whole(0)) | NULL,
    "bad_words_ids": list_of(list_of(whole(0), 1), 1) | NULL,
    "pad_token_id": whole(-_LARGEST) | NULL,
    "num_return_sequences": one_of(1, None),
    "num_beam_groups": one_of(1, None),
    "cache_implementation": NULL,
    "penalty_alpha": NULL,
    "prompt_lookup_num_tokens": NULL,
}

# what cannot change an answer; the library's own types for these are narrow
_WITHOUT_EFFECT = frozenset(
    {"initializer_range", "attention_dropout", "pretraining_tp", "resid_pdrop", "emb_pdrop"}
)


def check_fields(
    fields: Mapping[str, Any], rules: Mapping[str, Rule], path: Path, prefix: str = ""
) -> None:
    """Checks the fields that are there.

    Args:
        fields: Of a JSON object.
        rules: By name of the field.
        path: The file.
        prefix: Where in the file the object is, `text_config.` for instance.

    Raises:
        CheckpointError: a field is not what its rule says.
    """
    for name in rules.keys() & fields.keys():
        if not rules[name].holds(fields[name]):
            raise unknown_value(f"{prefix}{name}", rules[name].words, fields[name], path)


def unknown_value(name: str, words: str, value: object, path: Path) -> CheckpointError:
    """Returns the error for a field of a JSON file that is not what it must be."""
    return CheckpointError(
        f"`{name}` must be {words}, but is {value!r:.100} in {path}. If that is a mistake, correct "
        "it, or take the file that was saved with the checkpoint; if the model was trained so, it "
        "can only be evaluated with the code that trained it."
    )


def read_facts(
    config: Mapping[str, Any], family: str, path: Path, *, native: bool = False
) -> dict[str, Any]:
    """Returns a configuration in the original format's terms whose fields are all understood.

    A `pad_token_id` outside the vocabulary is left out: no answer depends on padding.

    Args:
        config: As stored, or translated.
        family: Of the language model.
        path: The config.json, for messages.
        native: Whether it was translated, so that the language model's fields lie in `text_config`.

    Raises:
        CheckpointError: a field has a value that is not known, or contradicts another.
    """
    prefix = "text_config." if native else ""
    is_mpt = family == "mpt"
    rules = _LANGUAGE | (_MPT if is_mpt else _DECODER)
    check_fields(config, rules, path, prefix)
    check_fields(config, _LLAVA, path)
    for name in _NEEDED.get(family, _SIZES):
        if config.get(name) is None:
            raise unknown_value(prefix + name, rules[name].words, None, path)
    if is_mpt:
        check_fields(config.get("attn_config") or {}, _MPT_ATTENTION, path, "attn_config.")
    else:
        _check_heads(config, path, prefix)
    for name in ("rope_scaling", "rope_parameters"):
        if config.get(name) is not None:
            _check_rope(config[name], path, f"{prefix}{name}.")
    for one, other in (("rope_scaling", "rope_parameters"), ("torch_dtype", "dtype")):
        given, again = config.get(one), config.get(other)
        if given is not None and again is not None and given != again:
            raise unknown_value(prefix + one, f"the same as `{other}`, {again!r}", given, path)
    facts = dict(config)
    pad, num_tokens = config.get("pad_token_id"), config["vocab_size"]
    if pad is not None and not 0 <= pad < num_tokens:
        del facts["pad_token_id"]
    return facts


def _check_heads(config: Mapping[str, Any], path: Path, prefix: str) -> None:
    width, heads = config["hidden_size"], config["num_attention_heads"]
    groups = config.get("num_key_value_heads") or heads
    if config.get("head_dim") is None and width % heads:
        words = f"a divisor of `hidden_size`, {width}"
        raise unknown_value(f"{prefix}num_attention_heads", words, heads, path)
    if heads % groups:
        words = f"a divisor of `num_attention_heads`, {heads}"
        raise unknown_value(f"{prefix}num_key_value_heads", words, groups, path)


def _check_rope(rope: Mapping[str, Any], path: Path, prefix: str) -> None:
    names = [name for name in ("type", "rope_type") if name in rope]
    kinds = [rope[name] for name in names] or ["default"]
    for name, kind in zip(names, kinds, strict=False):
        rule = one_of(*_ROPE_NEEDS)
        if not rule.holds(kind) or kind != kinds[0]:
            raise unknown_value(prefix + name, rule.words, kind, path)
    if not names and rope.keys() - {"rope_theta"}:
        raise unknown_value(f"{prefix}rope_type", one_of(*_ROPE_NEEDS).words, None, path)
    check_fields(rope, _ROPE, path, prefix)
    for name in rope.keys() - _ROPE.keys() - set(names):
        words = f"left out, as no fields are known beside {', '.join(_ROPE)}"
        raise unknown_value(prefix + name, words, rope[name], path)
    for name in _ROPE_NEEDS[kinds[0]]:
        if rope.get(name) is None:
            raise unknown_value(prefix + name, _ROPE[name].words, None, path)


def read_tiles(config: Mapping[str, Any], tile_size: int, path: Path) -> list[list[int]] | None:
    """Returns the tiling sizes of a configuration in pixels; None where images are not tiled.

    Raises:
        CheckpointError: they are missing, unreadable or not made of whole tiles.
    """
    if config.get("image_aspect_ratio") != "anyres":
        return None
    name, written = "image_grid_pinpoints", config.get("image_grid_pinpoints")
    try:
        sizes = read_pinpoints(written, tile_size)  # type: ignore[arg-type]
    except ValueError as error:
        raise unknown_value(name, _pinpoints_in_words(tile_size), written, path) from error
    if any(width % tile_size or height % tile_size for width, height in sizes):
        raise unknown_value(name, _pinpoints_in_words(tile_size), written, path)
    return [list(size) for size in sizes]


def _pinpoints_in_words(tile_size: int) -> str:
    pairs = [[tile_size, 2 * tile_size], [2 * tile_size, tile_size]]
    return (
        f"widths and heights in multiples of the tower's {tile_size} pixels, such as {pairs}, or a "
        "range of grids, such as (1x1),...,(6x6), because `image_aspect_ratio` is anyres"
    )


def check_tower(tower: Mapping[str, Any], path: Path, prefix: str = "") -> None:
    """Checks the vision part of a tower's configuration.

    Raises:
        CheckpointError: it is no CLIP, or a field has a value that is not known.
    """
    check_fields(tower, _TOWER, path, prefix)
    for name in () if prefix else _TOWER_SIZES:
        if name not in tower:
            raise unknown_value(name, _TOWER[name].words, None, path)
    side, patch = tower.get("image_size", 224), tower.get("patch_size", 32)
    width, heads = tower.get("hidden_size", 768), tower.get("num_attention_heads", 12)
    if patch > side:
        words = f"a whole number from 1 to `image_size`, {side}"
        raise unknown_value(f"{prefix}patch_size", words, patch, path)
    if width % heads:
        words = f"a divisor of `hidden_size`, {width}"
        raise unknown_value(f"{prefix}num_attention_heads", words, heads, path)


def check_processor(
    processor: Mapping[str, Any], config: Mapping[str, Any], path: Path, side: int
) -> None:
    """Checks how images are prepared for a tower.

    Args:
        processor: Content of preprocessor_config.json.
        config: The checkpoint's, which may have images made square before.
        path: The preprocessor_config.json.
        side: Of an image that the tower takes, in pixels.

    Raises:
        CheckpointError: it is no CLIP's, or makes images of another size.
    """
    check_fields(processor, _PROCESSED, path)
    squared = config.get("image_aspect_ratio") in ("pad", "anyres")
    if processor.get("do_center_crop") is False and not squared:
        raise unknown_value("do_center_crop", "true", False, path)
    # what the file leaves out is of the size that CLIP has at first
    size, crop = (processor.get(name, 224 if side == 224 else None) for name in _PIXELS)
    shortest = size.get("shortest_edge") if isinstance(size, dict) else size
    if not whole().holds(shortest):
        words = 'a whole number or {"shortest_edge": <pixels>}'
        raise unknown_value("size", words, size, path)
    if crop not in (side, {"height": side, "width": side}):
        words = f"{side}, the tower's `image_size`, in height and width"
        raise unknown_value("crop_size", words, crop, path)


def check_generation(generation: Mapping[str, Any], num_tokens: int, path: Path) -> None:
    """Checks the options of generation that a checkpoint has.

    Args:
        generation: Content of generation_config.json, or of config.json.
        num_tokens: Size of the vocabulary.
        path: The file.

    Raises:
        CheckpointError: an option has a value that is not known, or names no token.
    """
    check_fields(generation, _GENERATION, path)
    for name in ("eos_token_id", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids"):
        if any(token >= num_tokens for token in _tokens_in(generation.get(name))):
            words = f"of the vocabulary, below {num_tokens}"
            raise unknown_value(name, words, generation[name], path)


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
    known = (own - base - _WITHOUT_EFFECT) | {"rope_theta", "rope_scaling", "architectures"}
    return {
        name: value
        for name, value in config.items()
        if name in known or _LLAVA_FIELD.fullmatch(name)
    }
