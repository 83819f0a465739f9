"""What an adapter's adapter_config.json may say, and that its files hold what it names.

Read before anything is loaded; peft would fill in what is missing. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.model.locate import read_json_object, read_strings
from llava.model.rules import (
    FLAG,
    NULL,
    OFF,
    POSITIVE,
    TEXT,
    Rule,
    check_fields,
    list_of,
    one_of,
    whole,
)

ADAPTER_CONFIG = "adapter_config.json"


def _object_of(rule: Rule) -> Rule:
    return Rule(
        f"an object of {rule.words}",
        lambda value: isinstance(value, dict) and all(map(rule.holds, value.values())),
    )


_COMMON: Mapping[str, Rule] = {
    "bias": one_of("none", "all", "lora_only", "boft_only"),
    "modules_to_save": list_of(TEXT) | NULL,
    **dict.fromkeys(("target_modules", "exclude_modules"), TEXT | list_of(TEXT) | NULL),
    "fan_in_fan_out": FLAG,
    "rank_pattern": _object_of(whole()) | NULL,
    "alpha_pattern": _object_of(POSITIVE) | NULL,
}
_LORA: Mapping[str, Rule] = {
    "r": whole(),
    "lora_alpha": POSITIVE,
    **dict.fromkeys(("use_rslora", "use_dora", "lora_bias", "ensure_weight_tying"), FLAG),
    # what cannot be merged, or needs other code
    **dict.fromkeys(("alora_invocation_tokens", "layer_replication", "megatron_config"), NULL),
    "use_qalora": OFF,
}
_KINDS: Mapping[str, tuple[Mapping[str, Rule], tuple[str, ...]]] = {
    "LORA": (_LORA, ("r", "lora_alpha")),
    "ADALORA": ({"lora_alpha": POSITIVE}, ("lora_alpha",)),
    "LOHA": ({"r": whole(), "alpha": POSITIVE}, ("r", "alpha")),
    "LOKR": ({"r": whole(), "alpha": POSITIVE}, ("r", "alpha")),
    "IA3": ({}, ()),
    "OFT": ({}, ()),
    "BOFT": ({}, ()),
}
"""What peft can merge into weights: the rules of each kind, and the fields that it needs."""


def read_adapter_config(folder: Path) -> Mapping[str, Any]:
    """Returns the content of an adapter's adapter_config.json, every field of it understood.

    Raises:
        CheckpointError: it cannot be read, or a field has a value that is not known.
    """
    path = folder / ADAPTER_CONFIG
    config = read_json_object(path, "Download the adapter again.")
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise CheckpointError(
            f"`peft_type` must be one of {', '.join(_KINDS)}, but is {kind!r:.100} in {path}: "
            "other adapters cannot be merged here. Merge it with peft where it was trained, and "
            "give the merged model."
        )
    rules, needed = _KINDS[kind]
    check_fields(dict.fromkeys(needed) | config, {**_COMMON, **rules}, path)
    return config


def check_adapter_files(folder: Path, files: Iterable[Path]) -> None:
    """Checks an adapter's configuration, and that its files hold every module that it saved whole.

    Raises:
        CheckpointError: a field is not understood, or a module is in none of the files.
    """
    config, files = read_adapter_config(folder), list(files)
    saved = config.get("modules_to_save") or ()
    names = [name for file in files for name in read_strings(file)] if saved else []
    for module in saved:
        if not any(f"{module}." in name for name in names):
            raise lacks_saved(module, "", folder, files)


def lacks_saved(module: str, tensors: str, folder: Path, files: Iterable[Path]) -> CheckpointError:
    """Returns the error for a module that an adapter saved whole and that is not all there."""
    what = f"lack {tensors}" if tensors else "hold nothing of it"
    return CheckpointError(
        f"`modules_to_save` in {folder / ADAPTER_CONFIG} names {module}, but "
        f"{', '.join(map(str, files))} {what}: the base's would answer in its place. Copy the "
        "adapter from the output of its training again."
    )
