"""What the JSON files beside a tokenizer may say. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llava.model.locate import read_json_object
from llava.model.rules import (
    ANY_TEXT,
    FLAG,
    NULL,
    NUMBER,
    OBJECT,
    TEXT,
    Rule,
    check_fields,
    list_of,
    one_of,
    whole,
)

_TOKEN = ANY_TEXT | OBJECT | NULL
_SPECIAL: Mapping[str, Rule] = {
    **dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), _TOKEN),
    **dict.fromkeys(("sep_token", "cls_token", "mask_token"), _TOKEN),
    "additional_special_tokens": list_of(TEXT | OBJECT) | NULL,
}
_CONFIG: Mapping[str, Rule] = {
    **_SPECIAL,
    **dict.fromkeys(("legacy", "add_bos_token", "add_eos_token"), FLAG | NULL),
    **dict.fromkeys(("add_prefix_space", "split_special_tokens"), FLAG | NULL),
    "clean_up_tokenization_spaces": FLAG | NULL,
    "extra_special_tokens": list_of(TEXT | OBJECT) | OBJECT | NULL,
    "added_tokens_decoder": OBJECT | NULL,
    "model_max_length": NUMBER | NULL,
    "padding_side": one_of("left", "right", None),
    "tokenizer_class": TEXT | NULL,
}


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Returns a tokenizer's settings with its special tokens, once all its files are understood.

    Raises:
        CheckpointError: a file cannot be read, or a field is not what the tokenizer takes.
    """
    config = _read(folder / "tokenizer_config.json", _CONFIG)
    added = folder / "added_tokens.json"
    ids = _read(added, {})
    check_fields(ids, dict.fromkeys(ids, whole(0)), added)
    return config | _read(folder / "special_tokens_map.json", _SPECIAL)


def _read(path: Path, rules: Mapping[str, Rule]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = read_json_object(path, "Copy it from the language model that was trained.")
    check_fields(content, rules, path)
    return content
