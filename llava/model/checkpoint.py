"""What lies in a checkpoint folder, found and checked without weights or torch.

What a checkpoint is follows from its files and its config.json. Only where these cannot tell, as
for delta weights, does the name decide.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.model.facts import (
    OBJECT,
    check_fields,
    check_generation,
    check_processor,
    check_tower,
    one_of,
    read_facts,
    read_tiles,
    unknown_value,
)
from llava.model.locate import (
    TOKENIZER_FILES,
    TOKENIZER_MODEL_FILES,
    find_weight_files,
    has_weight_files,
    read_config,
    read_json_object,
    read_strings,
    resolve_model_path,
    resolve_vision_tower,
)
from llava.model.native import is_native_config, translate_config
from llava.model.quantized_weights import refuse_quantized, stored_names
from llava.names import identity_of

logger = logging.getLogger(__name__)

DEFAULT_CONTEXT_LEN = 2048

_CLIP_NUM_LAYERS = 12
"""Of a CLIP vision model whose config.json names no number."""

_TOWER_LAYER = re.compile(r"(?:vision_model\.)?encoder\.layers\.(\d+)\.")

_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_NON_LORA_FILE = "non_lora_trainables.bin"
_PROJECTOR_FILE = "mm_projector.bin"
_PROJECTOR_NAMES = ("mm_projector.", "multi_modal_projector.")
_PROCESSOR_FILE = "processor_config.json"

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
        config: The model's configuration in the original format's terms, every field of it that
            decides an answer understood.
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
    def config_file(self) -> Path:
        """Where the configuration stands: in the folder, or in the base's."""
        own = self.path / "config.json"
        return own if self.base is None or own.is_file() else self.base / "config.json"

    @property
    def is_multimodal(self) -> bool:
        """Whether the model takes images."""
        return self.tower_dir is not None

    @property
    def tower_in_checkpoint(self) -> bool:
        """Whether the tower's weights lie in the checkpoint, because it was tuned."""
        return is_tower_tuned(self.config)

    @property
    def tower_files(self) -> list[Path]:
        """The tower's own weight files, where anything of them is read.

        That is also what an adapter on a tuned tower leaves as it was.
        """
        if self.tower_dir is None:
            return []
        is_inside = self.tower_dir in {self.path, self.base}
        if self.tower_in_checkpoint and (
            is_inside or not any(map(_holds_tower, self.trained_files))
        ):
            return []
        return find_weight_files(self.tower_dir)

    @property
    def vision_remedy(self) -> str:
        """What to do where a plain language model is to be shown images."""
        if self.kind is CheckpointKind.PLAIN_ADAPTER:
            return (
                f"{self.path} holds a LoRA adapter alone: its config.json and {_NON_LORA_FILE}, "
                "with the projector, are missing. LLaVA writes them when a training ends; copy "
                "them from its output folder."
            )
        return (
            "Give a LLaVA checkpoint, or the adapter or projector that was trained over this "
            "model, with `model.path=`, and this one as `model.base=`."
        )

    @property
    def context_len(self) -> int:
        """The reference's context length: `max_sequence_length` of the config, else 2048.

        The native format states its own, see `translate_config`.
        """
        return int(self.config.get("max_sequence_length") or DEFAULT_CONTEXT_LEN)

    @property
    def max_prompt_tokens(self) -> int:
        """The longest prompt, images included, that leaves room for an answer and is not cut."""
        longest = int(self.config.get("tokenizer_model_max_length") or self.context_len)
        return min(longest, max(self.context_len, longest) - 1)

    @property
    def context_field(self) -> str:
        """The field of config.json that limits a prompt; without any of them 2,048 does."""
        if self.config.get("tokenizer_model_max_length"):
            return "tokenizer_model_max_length"
        return "text_config.max_position_embeddings" if self.native else "max_sequence_length"

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
            if _holds_image_processor(self.tower_dir / _PROCESSOR_FILE):
                files.append(self.tower_dir / _PROCESSOR_FILE)
        files += self.tower_files
        return [path for path in dict.fromkeys(files) if path.is_file()]


def _holds_tower(trained: Path) -> bool:
    """Whether a file of what was trained over a base holds anything of the vision tower."""
    return any("vision_tower." in name for name in read_strings(trained))


def is_tower_tuned(config: Mapping[str, Any]) -> bool:
    """Whether a configuration says that the vision tower was trained with the language model.

    LLaVA says so in `unfreeze_mm_vision_tower`, LLaVA-NeXT in a list, `mm_tunable_parts`.

    >>> is_tower_tuned({"mm_tunable_parts": "mm_mlp_adapter,mm_vision_tower"})
    True
    """
    parts = config.get("mm_tunable_parts") or ""
    named = parts.split(",") if isinstance(parts, str) else parts
    return bool(config.get("unfreeze_mm_vision_tower")) or (
        "mm_vision_tower" in [str(part).strip() for part in named]
    )


def _holds_image_processor(path: Path) -> bool:
    """Whether this file, not preprocessor_config.json, says how images are prepared."""
    return path.is_file() and "image_processor" in read_json_object(path, "Download it again.")


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
    if base_dir is not None:
        _require_model(base_dir)
    kind = _kind_of(folder, base_dir)
    config_dir, config = _config_of(folder, base_dir)
    config_path = config_dir / "config.json"
    language_dir = base_dir or folder
    translated = native = is_native_config(config)
    if base_dir is not None and (base_dir / "config.json").is_file():
        native = is_native_config(read_config(base_dir))
    if translated:
        config = translate_config(config, config_dir) | {"mm_vision_tower": str(language_dir)}
    family = _family_of(config, folder, name, base_dir)
    config = read_facts(config, family, config_path, native=translated)
    if not any((language_dir / file).is_file() for file in TOKENIZER_MODEL_FILES):
        raise CheckpointError(
            f"No tokenizer lies in {language_dir}: neither "
            f"{' nor '.join(TOKENIZER_MODEL_FILES)}. Copy it from the language model that the "
            "checkpoint was trained from."
        )
    _check_generation(config, language_dir, config_path)
    weight_files = _dense_weight_files(language_dir)
    tower_dir, tower_config = _tower_of(config, folder, base_dir, native=translated)
    if tower_dir is not None:
        config |= _image_facts(config, config_path, tower_dir, tower_config)
    trained_files = _trained_files(kind, folder)
    if base is not None and base_dir is not None:
        _compare_base(folder, base, base_dir)
    if kind is CheckpointKind.PLAIN_ADAPTER and tower_dir is not None and not native:
        _compare_projector(folder, language_dir, trained_files[0])
    return Checkpoint(
        kind=kind,
        family=family,
        name=name,
        path=folder,
        base=base_dir,
        config=config,
        native=native,
        weight_files=weight_files,
        trained_files=trained_files,
        tower_dir=tower_dir,
        tower_config=tower_config,
    )


def _dense_weight_files(folder: Path) -> tuple[Path, ...]:
    """The language model's weight files, none of them quantized; programs name those variously."""
    known = has_weight_files(folder)
    files = find_weight_files(folder) if known else sorted(folder.glob("*"))
    refuse_quantized(stored_names(files), read_config(folder), folder)
    return tuple(files if known else find_weight_files(folder))


def _check_generation(config: Mapping[str, Any], folder: Path, config_path: Path) -> None:
    """Checks the options of generation, in config.json and in the file that has them alone."""
    check_generation(config, config["vocab_size"], config_path)
    path = folder / "generation_config.json"
    if path.is_file():
        generation = read_json_object(path, "Copy it from the original checkpoint, or remove it.")
        check_generation(generation, config["vocab_size"], path)


def _image_facts(
    config: Mapping[str, Any], config_path: Path, tower_dir: Path, tower: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of images once the tower is: the tiling sizes in pixels."""
    path = tower_dir / "preprocessor_config.json"
    processor = read_json_object(path, "Download the vision tower again.")
    side = tower.get("image_size", 224)
    check_processor(processor, config, path, side)
    width, known = tower.get("hidden_size", 768), config.get("mm_hidden_size")
    if width != known:
        raise CheckpointError(
            f"The vision tower in {tower_dir} has features of width {width}, but "
            f"`mm_hidden_size` is {known} in {config_path}. Use the tower that the checkpoint was "
            "trained with."
        )
    sizes = read_tiles(config, side, config_path)
    return {} if sizes is None else {"image_grid_pinpoints": sizes}


def _kind_of(folder: Path, base: Path | None) -> CheckpointKind:
    """What the files of the folder make of it."""
    config = read_config(folder) if (folder / "config.json").is_file() else {}
    is_llava = str(config.get("model_type")).startswith("llava") or "mm_vision_tower" in config
    if (folder / _ADAPTER_CONFIG).is_file():
        adapter = read_json_object(folder / _ADAPTER_CONFIG, "Download the adapter again.")
        _require_base(folder, base, "an adapter", adapter.get("base_model_name_or_path"))
        with_projector = (is_llava and not is_native_config(config)) or (
            folder / _NON_LORA_FILE
        ).is_file()
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


def _require_model(base: Path) -> None:
    """Checks that what is given as a base is no adapter or projector itself."""
    if has_weight_files(base):
        return
    for file, what in ((_ADAPTER_CONFIG, "a LoRA adapter"), (_PROJECTOR_FILE, "a projector")):
        if (base / file).is_file():
            recorded, _ = _recorded_base(base)
            named = f", {recorded!r}," if recorded else ""
            raise CheckpointError(
                f"`model.base` is {base}, but that is {what} itself ({file} lies there, and no "
                f"model). Give the model{named} that it was trained on as `model.base=`."
            )


def _recorded_base(folder: Path) -> tuple[str, str]:
    """The model that an adapter or projector was trained on, and the field that names it.

    The name is empty where no file tells it.
    """
    file, key = "config.json", "_name_or_path"
    if (folder / _ADAPTER_CONFIG).is_file():
        file, key = _ADAPTER_CONFIG, "base_model_name_or_path"
    if not (folder / file).is_file():
        return "", ""
    recorded = read_json_object(folder / file, "Download it again.").get(key)
    return recorded if isinstance(recorded, str) else "", f"`{key}` in {folder / file}"


def _compare_base(folder: Path, base: str, base_dir: Path) -> None:
    """Warns where an adapter or projector was trained on another model than it is given over."""
    recorded, field = _recorded_base(folder)
    given = {identity_of(path) for path in (base, str(base_dir), str(base_dir.resolve()))}
    if recorded and identity_of(recorded) not in given:
        _warn(
            f"`model.base` is {base}, but {field} says that {folder.name} was trained on "
            f"{recorded!r}. Over another model it gives worse answers, without a sign. Give that "
            "model, unless yours is the same under another name."
        )


def _compare_projector(folder: Path, base: Path, adapter: Path) -> None:
    """Warns where a LoRA adapter has no projector of its own, and the base's is taken."""
    if not holds_projector(adapter):
        _warn(
            f"{folder} holds a LoRA adapter alone, without config.json and {_NON_LORA_FILE}: the "
            f"projector of {base} answers with it. LLaVA trains the projector too, and writes it "
            "when the training ends. If this training did, copy both files from its output folder."
        )


@cache
def _warn(message: str) -> None:
    """Logs a warning once, however often the same checkpoint is looked at."""
    logger.warning("%s", message)


def _require_base(folder: Path, base: Path | None, what: str, hint: str | None) -> None:
    if base is None:
        trained_on = f" It was trained on {hint!r}." if hint else ""
        raise CheckpointError(
            f"{folder} holds {what}: it needs the model that it was trained on.{trained_on} Give "
            "its folder or hub id with `model.base=`."
        )


def _config_of(folder: Path, base: Path | None) -> tuple[Path, dict[str, Any]]:
    """The checkpoint's own configuration and its folder; an adapter may leave it to its base."""
    if base is not None and not (folder / "config.json").is_file():
        if not (folder / _NON_LORA_FILE).is_file():
            return base, read_config(base)
        raise CheckpointError(
            f"{folder / 'config.json'} is missing: it says which tower and projector belong to the "
            "adapter. Copy it from the folder in which the adapter was trained."
        )
    return folder, read_config(folder)


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
        str(config.get("architectures")),
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
        tower_dir, tower_config = Path(config["mm_vision_tower"]), config["vision_config"]
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
        tower_config = _tower_config(tower_dir)
        if not is_tower_tuned(config):
            _check_layers(tower_dir, tower_config)
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


def _tower_config(folder: Path) -> dict[str, Any]:
    """The vision part of a tower's config.json, which CLIP keeps beside a text part."""
    config, path = read_config(folder), folder / "config.json"
    if "vision_config" not in config:
        check_tower(config, path)
        return config
    check_fields(config, {"model_type": one_of("clip"), "vision_config": OBJECT}, path)
    check_tower(config["vision_config"], path, "vision_config.")
    return dict(config["vision_config"])


def _check_layers(folder: Path, config: Mapping[str, Any]) -> None:
    """Checks that a tower has as many layers as its config.json says: they are counted from both.

    Layers that the file knows nothing of would be left out without a word.
    """
    found = {
        int(match[1])
        for name in stored_names(find_weight_files(folder))
        if (match := _TOWER_LAYER.match(name))
    }
    stated = config.get("num_hidden_layers", _CLIP_NUM_LAYERS)
    if found and max(found) + 1 > stated:
        words = f"{max(found) + 1}, as the weights beside it have so many layers"
        raise unknown_value("num_hidden_layers", words, stated, folder / "config.json")


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
    if (folder / _NON_LORA_FILE).is_file():
        return adapters[0], folder / _NON_LORA_FILE
    if not holds_projector(adapters[0]):
        raise CheckpointError(
            f"{folder / _NON_LORA_FILE} is missing: it holds the projector that was trained with "
            "the adapter. Without it the model cannot see. Copy it from the training's output."
        )
    return (adapters[0],)


def holds_projector(adapter: Path) -> bool:
    """Whether an adapter's file holds the projector, or matrices on it, besides the rest.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return any(part in name for name in read_strings(adapter) for part in _PROJECTOR_NAMES)
