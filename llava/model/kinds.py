"""What the files of a checkpoint folder make of it: a model, or what was trained over a base.

Also what an adapter's adapter_config.json may say, that its files hold what it names, and whether a
base is the model that an adapter or projector was trained on. Imports no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.model.families import MODEL_TYPES
from llava.model.locate import (
    has_weight_files,
    lacks_files,
    read_config,
    read_json_object,
    read_strings,
)
from llava.model.native import is_native_config
from llava.model.rules import (
    FLAG,
    NULL,
    OFF,
    POSITIVE,
    TEXT,
    Rule,
    check_fields,
    list_of,
    matching,
    one_of,
    whole,
)
from llava.model.tower_kinds import KINDS, PART_TYPES
from llava.names import identity_of

logger = logging.getLogger(__name__)

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
NON_LORA_FILE = "non_lora_trainables.bin"
PROJECTOR_FILE = "mm_projector.bin"
PROJECTOR_PARTS = ("mm_projector.", "multi_modal_projector.")
"""What the name of a tensor of the projector, or of a matrix on it, holds."""
_OF_A_BASE = (
    *("num_attention_heads", "num_key_value_heads", "rms_norm_eps", "rope_theta", "hidden_act"),
    *("sliding_window", "tie_word_embeddings"),
)
"""What no training changes of a language model and no tensor shows."""

_TOWERS = (*KINDS, *PART_TYPES)
"""`model_type` of what is no language model, but the tower of one."""
_ALIKE = {"llama", "mistral"}
"""Language models that compute the same: LLaVA trains the latter by the former's classes too."""


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
    # other kinds took a part off the base that is not found a second time
    "init_lora_weights": FLAG
    | NULL
    | matching(
        "(?i:eva|gaussian|loftq|mica|olora|orthogonal|pissa)",
        "eva, gaussian, loftq, mica, olora, orthogonal or pissa (convert others where they were "
        "trained, with peft's `path_initial_model_for_weight_conversion`)",
    ),
    # what cannot be merged, or needs other code
    **dict.fromkeys(("alora_invocation_tokens", "layer_replication", "megatron_config"), NULL),
    **dict.fromkeys(("arrow_config", "use_bdlora"), NULL),
    "use_qalora": OFF,
}
_MERGEABLE: Mapping[str, Mapping[str, Rule]] = {
    "LORA": _LORA,
    "ADALORA": {"lora_alpha": POSITIVE, "rank_pattern": _object_of(list_of(FLAG)) | NULL},
    **{kind: {"r": whole(), "alpha": POSITIVE} for kind in ("LOHA", "LOKR")},
    **{kind: {} for kind in ("IA3", "OFT", "BOFT")},
}
"""What peft can merge into weights: the rules of each kind."""
_NEEDED = {"r", "lora_alpha", "alpha"}  # by the kinds that have rules for them


class CheckpointKind(Enum):
    """What a folder holds and what has to be added to make a model of it."""

    LLAVA = "a complete LLaVA"
    LLAVA_LORA = "a LoRA adapter with the rest of what was trained, over a base"
    PROJECTOR = "a projector over a language model"
    PLAIN = "a language model"
    PLAIN_ADAPTER = "a LoRA adapter over a base"


def kind_of(folder: Path, base: Path | None) -> CheckpointKind:
    """What the files of the folder make of it."""
    config = _config_in(folder, "model.path")
    is_llava = str(config.get("model_type")).startswith("llava") or "mm_vision_tower" in config
    if (folder / ADAPTER_CONFIG).is_file():
        _require_base(folder, base, "an adapter")
        is_original = is_llava and not is_native_config(config)
        with_projector = is_original or (folder / NON_LORA_FILE).is_file()
        return CheckpointKind.LLAVA_LORA if with_projector else CheckpointKind.PLAIN_ADAPTER
    if not has_weight_files(folder):
        for name in (*ADAPTER_FILES, NON_LORA_FILE):
            if (folder / name).is_file():
                raise CheckpointError(
                    f"{folder / ADAPTER_CONFIG} is missing: without it {name}, which lies there, "
                    "is no adapter. Copy all files of the adapter from where its training saved "
                    "them, each of the same step."
                )
        if (folder / PROJECTOR_FILE).is_file():
            _require_base(folder, base, "a projector without a language model")
            return CheckpointKind.PROJECTOR
        if base is not None or not (folder / "config.json").is_file():
            raise _lacks_model("model.path", folder, ADAPTER_CONFIG, PROJECTOR_FILE)
    if base is not None:
        read_config(folder)  # without which it is not complete
        raise CheckpointError(
            f"`model.base` is {base}, but {folder} is a complete checkpoint, which has no base. "
            "Leave `model.base` out."
        )
    return CheckpointKind.LLAVA if is_llava else CheckpointKind.PLAIN


def require_model(base: Path) -> None:
    """Raises CheckpointError if what is given as a base holds no language model."""
    _config_in(base, "model.base")
    if has_weight_files(base):
        return
    adapter = (ADAPTER_CONFIG, *ADAPTER_FILES, NON_LORA_FILE)
    whats = {**dict.fromkeys(adapter, "a LoRA adapter"), PROJECTOR_FILE: "a projector"}
    for file, what in whats.items():
        if (base / file).is_file():
            recorded, _ = _recorded_base(base)
            named = f", {recorded!r}," if recorded else ""
            raise CheckpointError(
                f"`model.base` is {base}, but that is {what} itself ({file} lies there, and no "
                f"model). Give the model{named} that it was trained on as `model.base=`."
            )
    if not (base / "config.json").is_file():
        raise _lacks_model("model.base", base)


def _config_in(folder: Path, option: str) -> dict[str, Any]:
    """Returns what a folder's config.json says, which must not be a vision tower's.

    It is empty where there is none.
    """
    path = folder / "config.json"
    config = read_config(folder) if path.is_file() else {}
    if (model_type := config.get("model_type")) in _TOWERS:
        raise CheckpointError(
            f"`{option}` is {folder}, but that is a vision tower, as `model_type` is "
            f"{model_type!r} in {path}. Give the model whose config.json names it."
        )
    return config


def _lacks_model(option: str, folder: Path, *trained: str) -> CheckpointError:
    """Returns the error for a folder that holds no model, nor what was trained over one."""
    found = {path.parent for name in trained for path in folder.glob(f"*/{name}")}
    for path in folder.glob("*/config.json"):
        inner = path.parent
        if has_weight_files(inner) and read_config(inner).get("model_type") not in _TOWERS:
            found.add(inner)
    opening = "No model, adapter or projector lies in" if trained else "No model lies in"
    if not found:
        return lacks_files(opening, folder, *trained)
    names = sorted(found)
    return CheckpointError(
        f"`{option}` is {folder}. {opening} it, only in its folders: "
        f"{', '.join(path.name for path in names)}. Give one of them, as `{option}={names[-1]}`."
    )


def _recorded_base(folder: Path) -> tuple[str, str]:
    """The model that an adapter or projector was trained on, and the field that names it.

    The name is empty where no file tells it.
    """
    file, key = "config.json", "_name_or_path"
    if (folder / ADAPTER_CONFIG).is_file():
        file, key = ADAPTER_CONFIG, "base_model_name_or_path"
    if not (folder / file).is_file():
        return "", ""
    recorded = read_json_object(folder / file, "Download it again.").get(key)
    return recorded if isinstance(recorded, str) else "", f"`{key}` in {folder / file}"


def compare_base(folder: Path, base: str, base_dir: Path) -> None:
    """Warns where an adapter or projector was trained on another model than it is given over.

    Raises:
        CheckpointError: it was trained on another kind of language model.
    """
    recorded, field = _recorded_base(folder)
    names = {identity_of(path) for path in (base, str(base_dir), str(base_dir.resolve()))}
    if recorded and identity_of(recorded) not in names:
        _warn(
            f"`model.base` is {base}, but {field} says that {folder.name} was trained on "
            f"{recorded!r}. Over another model it gives worse answers, without a sign. Give that "
            "model, unless yours is the same under another name."
        )
    if not all((place / "config.json").is_file() for place in (folder, base_dir)):
        return
    own, given = read_config(folder), read_config(base_dir)
    families = [MODEL_TYPES.get(str(each.get("model_type"))) for each in (own, given)]
    kinds = {family.name for family in families if family is not None}
    if len(kinds) > 1 and kinds != _ALIKE:
        raise CheckpointError(
            f"`model.base` is {base}, whose `model_type` is {given['model_type']}, but "
            f"{folder / 'config.json'} describes a {own['model_type']}. Give the model that "
            f"{folder.name} was trained on."
        )
    pairs = ((name, own.get(name), given.get(name)) for name in _OF_A_BASE)
    differing = [name for name, one, other in pairs if None not in (one, other) and one != other]
    if differing:
        told = ", ".join(f"`{n}` is {own[n]!r:.60}, there {given[n]!r:.60}" for n in differing)
        _warn(
            f"{folder / 'config.json'} describes another language model than `model.base`, {base}: "
            f"{told}. The former counts. Give the model that {folder.name} was trained on."
        )


def compare_projector(folder: Path, base: Path, trained: Iterable[Path]) -> None:
    """Warns where a LoRA adapter has no projector of its own, and the base's is taken."""
    if not holds_part(trained, *PROJECTOR_PARTS):
        _warn(
            f"{folder} holds a LoRA adapter alone, without a projector in {NON_LORA_FILE}: the "
            f"projector of {base} answers with it. LLaVA trains the projector too, and writes it "
            "with config.json as it is when the training ends. To evaluate an earlier step, have "
            "the training save both with it."
        )


@cache
def _warn(message: str) -> None:
    """Logs a warning once, however often the same checkpoint is looked at."""
    logger.warning("%s", message)


def _require_base(folder: Path, base: Path | None, what: str) -> None:
    if base is None:
        recorded, field = _recorded_base(folder)
        told = f" According to {field}, that is {recorded!r}." if recorded else ""
        raise CheckpointError(
            f"{folder} holds {what}: it needs the model that it was trained on.{told} Give its "
            "folder or hub id with `model.base=`."
        )


def find_trained_files(kind: CheckpointKind, folder: Path) -> tuple[Path, ...]:
    """The files of what was trained over a base; all must be there."""
    if kind is CheckpointKind.PROJECTOR:
        return (folder / PROJECTOR_FILE,)
    if kind not in (CheckpointKind.LLAVA_LORA, CheckpointKind.PLAIN_ADAPTER):
        return ()
    adapters = [folder / name for name in ADAPTER_FILES if (folder / name).is_file()]
    if not adapters:
        raise CheckpointError(
            f"{folder / ADAPTER_CONFIG} is there, but neither {' nor '.join(ADAPTER_FILES)}. "
            "Download the adapter again."
        )
    if (folder / NON_LORA_FILE).is_file():
        return adapters[0], folder / NON_LORA_FILE
    if kind is CheckpointKind.LLAVA_LORA and not holds_part(adapters[:1], *PROJECTOR_PARTS):
        raise CheckpointError(
            f"{folder / NON_LORA_FILE} is missing: it holds the projector that was trained with "
            "the adapter. Copy that of the same step. LLaVA saves it only when the training ends, "
            "for the last step alone: to evaluate an earlier one, have the training save it then. "
            "If the base is a LLaVA and its projector was left as it was, "
            f"`torch.save({{}}, {str(folder / NON_LORA_FILE)!r})` says so."
        )
    return (adapters[0],)


def holds_part(files: Iterable[Path], *parts: str) -> bool:
    """Whether the name of a tensor in weight files holds one of these parts.

    Raises:
        CheckpointError: a file cannot be read.
    """
    return any(part in name for file in files for name in read_strings(file) for part in parts)


def read_adapter_config(folder: Path) -> Mapping[str, Any]:
    """Returns the content of an adapter's adapter_config.json, every field of it understood.

    Raises:
        CheckpointError: it cannot be read, or a field has a value that is not known.
    """
    path = folder / ADAPTER_CONFIG
    config = read_json_object(path, "Download the adapter again.")
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in _MERGEABLE:
        raise CheckpointError(
            f"`peft_type` must be one of {', '.join(_MERGEABLE)}, but is {kind!r:.100} in {path}: "
            "other adapters cannot be merged here. Merge it with peft where it was trained, and "
            "give the merged model."
        )
    rules = _MERGEABLE[kind]
    check_fields(dict.fromkeys(rules.keys() & _NEEDED) | config, {**_COMMON, **rules}, path)
    return config


def check_adapter_files(folder: Path, files: Sequence[Path]) -> None:
    """Raises CheckpointError if a field is not understood, or no file has a module saved whole."""
    for module in read_adapter_config(folder).get("modules_to_save") or ():
        if not holds_part(files, f"{module}."):
            raise lacks_saved(module, "", folder, files)


def lacks_saved(module: str, tensors: str, folder: Path, files: Iterable[Path]) -> CheckpointError:
    """Returns the error for a module that an adapter saved whole and that is not all there."""
    what = f"lack {tensors}" if tensors else "hold nothing of it"
    return CheckpointError(
        f"`modules_to_save` in {folder / ADAPTER_CONFIG} names {module}, but "
        f"{', '.join(map(str, files))} {what}: the base's would answer in its place. Copy the "
        "adapter again from where its training saved this step."
    )
