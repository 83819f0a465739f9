"""What lies in a checkpoint folder, found and checked without weights or torch.

What a checkpoint is follows from its files and its config.json. Only where these cannot tell, as
for delta weights, does the name decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.model.locate import (
    TOKENIZER_FILES,
    TOKENIZER_MODEL_FILES,
    find_weight_files,
    has_weight_files,
    read_config,
    read_json_object,
    resolve_model_path,
    resolve_vision_tower,
)
from llava.model.native import is_native_config, translate_config

DEFAULT_CONTEXT_LEN = 2048

_CLIP_NUM_LAYERS = 12
"""Of a CLIP vision model whose config.json names no number."""

_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_NON_LORA_FILE = "non_lora_trainables.bin"
_PROJECTOR_FILE = "mm_projector.bin"

_LLAVA_FAMILIES = {"llava_llama": "llama", "llava_mistral": "mistral", "llava_mpt": "mpt"}
_PLAIN_FAMILIES = {"llama": "llama", "mistral": "mistral", "mpt": "mpt"}
_AMBIGUOUS_TYPE = "llava"


class CheckpointKind(Enum):
    """What a folder holds and what has to be added to make a model of it."""

    LLAVA = "a complete LLaVA"
    LLAVA_LORA = "a LoRA adapter with the rest of what was trained, over a base"
    PROJECTOR = "a projector over a language model"
    PLAIN = "a language model"
    PLAIN_ADAPTER = "a LoRA adapter over a base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose parts have all been found.

    Attributes:
        kind: What it is.
        family: `llama`, `mistral` or `mpt`.
        name: The model's name, from which the reference tells the tokenizer.
        path: The folder.
        base: Folder of the base; None for a complete checkpoint.
        config: The model's configuration in the original format's terms.
        native: Whether the weights have the names of transformers' own LLaVA classes.
        weight_files: Files with the language model's weights (the base's, if there is one).
        trained_files: Files with what was trained over a base.
        tower_dir: Folder of the vision tower; None for a plain language model.
        tower_config: The vision part of the tower's config.json; empty without a tower.
    """

    kind: CheckpointKind
    family: str
    name: str
    path: Path
    base: Path | None
    config: Mapping[str, Any]
    native: bool
    weight_files: tuple[Path, ...]
    trained_files: tuple[Path, ...]
    tower_dir: Path | None
    tower_config: Mapping[str, Any]

    @property
    def tokenizer_dir(self) -> Path:
        """The folder whose tokenizer counts: the base's, if there is one."""
        return self.base or self.path

    @property
    def is_multimodal(self) -> bool:
        """Whether the model takes images."""
        return self.tower_dir is not None

    @property
    def tower_in_checkpoint(self) -> bool:
        """Whether the tower's weights lie in the checkpoint, because it was tuned."""
        return self.native or bool(self.config.get("unfreeze_mm_vision_tower"))

    @property
    def context_len(self) -> int:
        """The reference's context length: `max_sequence_length` of the config, else 2048."""
        return int(self.config.get("max_sequence_length") or DEFAULT_CONTEXT_LEN)

    @property
    def num_image_tokens(self) -> int:
        """Embeddings of an image that is not tiled; 0 for a plain language model."""
        if not self.is_multimodal:
            return 0
        side = int(self.tower_config.get("image_size", 224))
        patches = side // int(self.tower_config.get("patch_size", 32))
        return patches**2 + (self.config.get("mm_vision_select_feature") == "cls_patch")

    @property
    def files(self) -> list[Path]:
        """Every file that decides what the model answers, for hashing; each once."""
        folders = [self.path, *([self.base] if self.base else [])]
        names = ("config.json", "generation_config.json", _ADAPTER_CONFIG, *TOKENIZER_FILES)
        files = [folder / name for folder in folders for name in names]
        files += [*self.weight_files, *self.trained_files]
        if self.tower_dir is not None:
            files += [self.tower_dir / name for name in ("config.json", "preprocessor_config.json")]
            files += [] if self.tower_in_checkpoint else find_weight_files(self.tower_dir)
        return [path for path in dict.fromkeys(files) if path.is_file()]


def inspect_checkpoint(
    path: str, base: str | None = None, name: str | None = None, revision: str | None = None
) -> Checkpoint:
    """Returns what lies in a checkpoint, once everything that loading needs has been found.

    Args:
        path: Folder or hub id.
        base: Folder or hub id of the model below an adapter or a projector.
        name: The model name; None for the folder's.
        revision: Branch, tag or commit of a hub id.

    Raises:
        CheckpointError: a file is missing or unreadable, base and checkpoint do not go together,
            or the checkpoint is of a kind that cannot be loaded.
    """
    folder = resolve_model_path(path, revision)
    name = name or folder.name
    if "delta" in name.lower():
        raise CheckpointError(
            f"{name} holds delta weights: differences to LLaMA, not a model. Add them to the "
            "original LLaMA weights (LLaVA's `llava.model.apply_delta`) and give the result."
        )
    base_dir = None if base is None else resolve_model_path(base, option="model.base")
    kind = _kind_of(folder, base_dir)
    config = _config_of(folder, base_dir)
    native = is_native_config(config)
    if native:
        config = translate_config(config, folder)
    family = _family_of(config, folder, name, base_dir)
    if not any(((base_dir or folder) / file).is_file() for file in TOKENIZER_MODEL_FILES):
        raise CheckpointError(
            f"No tokenizer lies in {base_dir or folder}: neither "
            f"{' nor '.join(TOKENIZER_MODEL_FILES)}. Copy it from the language model that the "
            "checkpoint was trained from."
        )
    tower_dir, tower_config = _tower_of(config, folder, base_dir, native=native)
    return Checkpoint(
        kind=kind,
        family=family,
        name=name,
        path=folder,
        base=base_dir,
        config=config,
        native=native,
        weight_files=tuple(find_weight_files(base_dir or folder)),
        trained_files=_trained_files(kind, folder),
        tower_dir=tower_dir,
        tower_config=tower_config,
    )


def _kind_of(folder: Path, base: Path | None) -> CheckpointKind:
    """What the files of the folder make of it."""
    config = read_config(folder) if (folder / "config.json").is_file() else {}
    is_llava = str(config.get("model_type")).startswith("llava") or "mm_vision_tower" in config
    if (folder / _ADAPTER_CONFIG).is_file():
        adapter = read_json_object(folder / _ADAPTER_CONFIG, "Download the adapter again.")
        _require_base(folder, base, "an adapter", adapter.get("base_model_name_or_path"))
        with_projector = is_llava or (folder / _NON_LORA_FILE).is_file()
        return CheckpointKind.LLAVA_LORA if with_projector else CheckpointKind.PLAIN_ADAPTER
    if (folder / _PROJECTOR_FILE).is_file() and not has_weight_files(folder):
        _require_base(folder, base, "a projector without a language model", None)
        return CheckpointKind.PROJECTOR
    if base is not None:
        raise CheckpointError(
            f"`model.base` is {base}, but {folder} is a complete checkpoint, which has no base. "
            "Leave `model.base` out."
        )
    return CheckpointKind.LLAVA if is_llava else CheckpointKind.PLAIN


def _require_base(folder: Path, base: Path | None, what: str, hint: str | None) -> None:
    if base is None:
        trained_on = f" It was trained on {hint!r}." if hint else ""
        raise CheckpointError(
            f"{folder} holds {what}: it needs the model that it was trained on.{trained_on} Give "
            "its folder or hub id with `model.base=`."
        )


def _config_of(folder: Path, base: Path | None) -> dict[str, Any]:
    """The checkpoint's own configuration; an adapter may leave it to its base."""
    if base is not None and not (folder / "config.json").is_file():
        if not (folder / _NON_LORA_FILE).is_file():
            return read_config(base)
        raise CheckpointError(
            f"{folder / 'config.json'} is missing: it says which tower and projector belong to the "
            "adapter. Copy it from the folder in which the adapter was trained."
        )
    return read_config(folder)


def _family_of(config: Mapping[str, Any], folder: Path, name: str, base: Path | None) -> str:
    model_type = str(config.get("model_type"))
    families = _LLAVA_FAMILIES | _PLAIN_FAMILIES
    if model_type in families:
        return families[model_type]
    if model_type != _AMBIGUOUS_TYPE:
        raise CheckpointError(
            f"`model_type` must be one of {', '.join((*families, _AMBIGUOUS_TYPE, 'llava_next'))}, "
            f"but is {model_type!r} in {folder / 'config.json'}. Other models cannot be loaded."
        )
    base_type = "" if base is None else str(read_config(base).get("model_type"))
    if base_type in families:
        return families[base_type]
    hints = [
        " ".join(config.get("architectures") or []),
        "mpt" if "d_model" in config else "",
        name,
    ]
    for hint in hints:
        for family in ("mistral", "mpt", "llama"):
            if family in hint.lower():
                return family
    return "llama"


def _tower_of(
    config: Mapping[str, Any], folder: Path, base: Path | None, *, native: bool
) -> tuple[Path | None, Mapping[str, Any]]:
    """Folder and configuration of the vision tower; None for a plain language model."""
    tower_dir, key = folder, "vision_feature_layer"
    if native:
        tower_config = config["vision_config"]
    else:
        if config.get("model_type") in _PLAIN_FAMILIES and not config.get("mm_vision_tower"):
            return None, {}
        tower = config.get("mm_vision_tower") or config.get("vision_tower")
        if not tower:
            raise CheckpointError(
                f"`mm_vision_tower` is missing in {folder / 'config.json'}: without it the model "
                "cannot see. Take the config.json that was saved with the checkpoint."
            )
        tower_dir, key = resolve_vision_tower(tower, folder, base), "mm_vision_select_layer"
        if not config.get("unfreeze_mm_vision_tower"):
            find_weight_files(tower_dir)
        tower_config = read_config(tower_dir)
        tower_config = tower_config.get("vision_config") or tower_config
    num_layers = int(tower_config.get("num_hidden_layers") or _CLIP_NUM_LAYERS)
    layer = config.get("mm_vision_select_layer")
    # the embeddings count as the output of a layer before the first
    if type(layer) is not int or not -num_layers - 1 <= layer <= num_layers:
        own = (folder / "config.json").is_file()
        source = (folder if own or base is None else base) / "config.json"
        raise CheckpointError(
            f"`{key}` must be a whole number from {-num_layers - 1} to {num_layers}, as the vision "
            f"tower in {tower_dir} has {num_layers} layers, but is {layer!r} in {source}. Take the "
            "config.json and the tower that belong to the checkpoint."
        )
    return tower_dir, tower_config


def _trained_files(kind: CheckpointKind, folder: Path) -> tuple[Path, ...]:
    """The files of what was trained over a base; all must be there."""
    if kind is CheckpointKind.PROJECTOR:
        return (folder / _PROJECTOR_FILE,)
    if kind not in (CheckpointKind.LLAVA_LORA, CheckpointKind.PLAIN_ADAPTER):
        return ()
    adapters = [folder / name for name in _ADAPTER_FILES if (folder / name).is_file()]
    if not adapters:
        raise CheckpointError(
            f"{folder / _ADAPTER_CONFIG} is there, but neither {' nor '.join(_ADAPTER_FILES)}. "
            "Download the adapter again."
        )
    if kind is CheckpointKind.PLAIN_ADAPTER:
        return (adapters[0],)
    if not (folder / _NON_LORA_FILE).is_file():
        raise CheckpointError(
            f"{folder / _NON_LORA_FILE} is missing: it holds the projector that was trained with "
            "the adapter. Without it the model cannot see. Copy it from the training's output."
        )
    return adapters[0], folder / _NON_LORA_FILE
