"""What lies in a checkpoint folder, found and checked without weights or torch.

What a checkpoint is follows from its files and its config.json. Only where these cannot tell, as
for delta weights, does the name decide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError
from llava.model.facts import check_generation, read_facts
from llava.model.families import FAMILIES, MODEL_TYPES, Family, refuse_foreign
from llava.model.kinds import (
    ADAPTER_CONFIG,
    NON_LORA_FILE,
    CheckpointKind,
    check_adapter_files,
    compare_base,
    compare_projector,
    find_trained_files,
    holds_part,
    kind_of,
    require_model,
)
from llava.model.locate import (
    TOKENIZER_FILES,
    find_tokenizer_file,
    find_weight_files,
    has_weight_files,
    read_config,
    resolve_model_path,
)
from llava.model.native import NATIVE_TYPES, is_native_config, translate_config
from llava.model.quantized_weights import find_packing, refuse_quantized, stored_names
from llava.model.rules import one_of, unknown_value
from llava.model.tower_facts import find_tower, is_tower_tuned, processor_files, read_image_facts
from llava.model.tower_kinds import Tower
from llava.tiling import Layout, read_layout

DEFAULT_CONTEXT_LEN = 2048
_REFERENCE_FAMILIES = ("mistral", "mpt", "llama")
"""What a LLaVA of the type `llava` may be on, in the order in which hints are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose parts have all been found.

    Attributes:
        kind: What it is.
        family: Of its language model.
        name: The model's name, from which the reference tells the tokenizer.
        path: The folder.
        base: Folder of the base; None for a complete checkpoint.
        config: The model's configuration in the original format's terms, every field of it that
            decides an answer understood.
        config_file: Where it stands: in the folder, or in the base's.
        below: What the base's config.json says, as it stands there; empty without one.
        native: Whether the weights have the names of transformers' own LLaVA classes.
        weight_files: Files with the language model's weights (the base's, if there is one).
        trained_files: Files with what was trained over a base.
        tower_dir: Folder of the vision tower; None for a plain language model.
        tower: The vision tower; None for a plain language model.
    """

    kind: CheckpointKind
    family: Family
    name: str
    path: Path
    base: Path | None
    config: Mapping[str, Any]
    config_file: Path
    below: Mapping[str, Any]
    native: bool
    weight_files: tuple[Path, ...]
    trained_files: tuple[Path, ...]
    tower_dir: Path | None
    tower: Tower | None

    @property
    def language_dir(self) -> Path:
        """The folder of the language model and its tokenizer: the base's, if there is one."""
        return self.base or self.path

    def remedy(self, tensor: str) -> str:
        """Returns what to do where a tensor of that name does not fit the configuration."""
        if "vision_tower." in tensor and not self.native:
            return (
                f"name the tower that it is of as `mm_vision_tower` in {self.config_file}; one "
                "with parts that were added in training cannot be loaded"
            )
        if self.config_file.parent == self.language_dir:
            return "take the config.json that belongs to it"
        return f"give the model that {self.path.name} was trained on with `model.base=`"

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
        if self.tower_in_checkpoint:
            is_inside = self.tower_dir in {self.path, self.base}
            if is_inside or not holds_part(self.trained_files, "vision_tower."):
                return []
        return find_weight_files(self.tower_dir)

    @property
    def context_len(self) -> int:
        """The longest prompt with its answer, see `context_len_of`.

        The native format states its own, see `translate_config`.
        """
        return context_len_of(self.config, self.family)

    @property
    def max_prompt_tokens(self) -> int:
        """The longest prompt, images included, that leaves room for an answer and is not cut."""
        longest = int(self.config.get("tokenizer_model_max_length") or self.context_len)
        return min(longest, max(self.context_len, longest) - 1)

    @property
    def layout(self) -> Layout:
        """How images are laid out for the tower."""
        return read_layout(self.config)

    @property
    def files(self) -> list[Path]:
        """Every file that decides what the model answers, for hashing; each once."""
        folders = [self.path, *([self.base] if self.base else [])]
        names = ("config.json", "generation_config.json", ADAPTER_CONFIG, *TOKENIZER_FILES)
        files = [folder / name for folder in folders for name in names]
        files += [*self.weight_files, *self.trained_files]
        if self.tower_dir is not None and self.tower is not None:
            files.append(self.tower_dir / "config.json")
            files += processor_files(self.tower_dir, self.tower)
        files += self.tower_files
        return [path for path in dict.fromkeys(files) if path.is_file()]


def context_len_of(config: Mapping[str, Any], family: Family | None) -> int:
    """Returns the context length of a LLaVA: `max_sequence_length`, or what its training went by.

    LLaVA itself goes by 2,048 then. LLaVA-NeXT, which writes `mm_tunable_parts`, and every code for
    other language models go by the positions that these have.

    Args:
        config: In the original format's terms.
        family: Of the language model; None for one that no LLaVA is built on.
    """
    default = DEFAULT_CONTEXT_LEN
    if family is None or not family.is_original or config.get("mm_tunable_parts") is not None:
        default = config.get("max_position_embeddings", default)
    return int(config.get("max_sequence_length") or default)


def inspect_checkpoint(
    path: str,
    base: str | None = None,
    name: str | None = None,
    revision: str | None = None,
    *,
    in_memory: bool = False,
) -> Checkpoint:
    """Returns what lies in a checkpoint, once everything that loading needs has been found.

    Args:
        path: Folder or hub id.
        base: Folder or hub id of the model below an adapter or a projector.
        name: The model name; None for the folder's.
        revision: Branch, tag or commit of a hub id.
        in_memory: Whether weights and tokenizer are not read from files, which need not be there.

    Raises:
        CheckpointError: a file is missing or unreadable, base and checkpoint do not go together,
            or the checkpoint is of a kind that cannot be loaded.
    """
    folder = resolve_model_path(path, revision)
    name = name or folder.name
    if re.search(r"(?<![a-z])delta(?![a-z])", name.lower()):
        raise CheckpointError(
            f"{name} holds delta weights: differences to LLaMA, not a model. Add them to the "
            "original LLaMA weights (LLaVA's `llava.model.apply_delta`) and give the result. If "
            "it is a model, name it otherwise with `model.name=`."
        )
    base_dir = None if base is None else resolve_model_path(base, option="model.base")
    if base_dir is not None:
        require_model(base_dir)
    kind = kind_of(folder, base_dir)
    config_dir, config, below = _configs_of(kind, folder, base_dir)
    config_path = config_dir / "config.json"
    language_dir = base_dir or folder
    refuse_foreign(config, config_path)
    translated, native = is_native_config(config), is_native_config(below or config)
    if translated:
        config = translate_config(config, config_dir) | {"mm_vision_tower": str(language_dir)}
    family = _family_of(config, config_path, name, below)
    config = read_facts(config, family, config_path, native=translated)
    if is_tower_tuned(below):  # trainings over it keep that tower, under whatever name they give
        config["unfreeze_mm_vision_tower"] = True
    if not in_memory:
        find_tokenizer_file(language_dir)
    check_generation(config, config_path, "text_config." if translated else "", language_dir)
    weight_files = () if in_memory else _readable_weight_files(language_dir)
    tower_dir = tower = None
    if config.get("model_type") not in FAMILIES or config.get("mm_vision_tower"):
        tower_dir, tower = find_tower(config, config_path, folder, base_dir, native=translated)
        config |= read_image_facts(config, config_path, tower_dir, tower)
    trained_files = find_trained_files(kind, folder)
    if kind in (CheckpointKind.LLAVA_LORA, CheckpointKind.PLAIN_ADAPTER):
        check_adapter_files(folder, trained_files)
        if not native and below.get("mm_vision_tower"):
            compare_projector(folder, language_dir, trained_files)
    if base is not None and base_dir is not None:
        compare_base(folder, base, base_dir)
    return Checkpoint(
        kind=kind,
        family=family,
        name=name,
        path=folder,
        base=base_dir,
        config=config,
        config_file=config_path,
        below=below,
        native=native,
        weight_files=weight_files,
        trained_files=trained_files,
        tower_dir=tower_dir,
        tower=tower,
    )


def _readable_weight_files(folder: Path) -> tuple[Path, ...]:
    """The language model's weight files, dense or quantized in a way that can be read."""
    if not has_weight_files(folder):  # programs that quantize name theirs variously
        refuse_quantized(stored_names(sorted(folder.glob("*"))), folder)
    files = find_weight_files(folder)
    find_packing(stored_names(files), folder, files)
    return tuple(files)


def _configs_of(
    kind: CheckpointKind, folder: Path, base: Path | None
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Folder and content of a configuration, an adapter's or left to its base, and the base's."""
    below = read_config(base) if base is not None and (base / "config.json").is_file() else {}
    if base is None or (folder / "config.json").is_file():
        return folder, read_config(folder), below
    is_llava = "mm_vision_tower" in below or is_native_config(below)
    is_needed = kind is CheckpointKind.PROJECTOR and not is_llava
    if not is_needed and not (folder / NON_LORA_FILE).is_file():
        return base, read_config(base), below
    raise CheckpointError(
        f"{folder / 'config.json'} is missing: it says which tower and projector belong to what "
        "was trained over a base. Copy it from the training's output: it is the same for each step."
    )


def _family_of(config: Mapping[str, Any], path: Path, name: str, below: dict[str, Any]) -> Family:
    model_type = str(config.get("model_type"))
    classes = str(config.get("architectures") or "")
    named = [each for each in FAMILIES.values() if f"{each.prefix}ForCausalLM" in classes]
    if model_type in MODEL_TYPES:
        family = MODEL_TYPES[model_type]
        if named and family not in named:
            words = f"{family.prefix}ForCausalLM, as `model_type` is {model_type}"
            raise unknown_value("architectures", words, config["architectures"], path)
        return family
    if model_type != "llava":
        raise CheckpointError(
            f"`model_type` must be one of {', '.join((*MODEL_TYPES, *NATIVE_TYPES))}, but is "
            f"{model_type!r} in {path}. Other models cannot be loaded."
        )
    if (below_type := str(below.get("model_type"))) in MODEL_TYPES:
        return MODEL_TYPES[below_type]
    hints = (classes, "mpt" if "d_model" in config else "", name)
    named += [FAMILIES[n] for hint in hints for n in _REFERENCE_FAMILIES if n in hint.lower()]
    if named:
        return named[0]
    if classes:  # another language model's tensors may have the same names
        known = one_of(*(f"{family.prefix}ForCausalLM" for family in FAMILIES.values()))
        raise unknown_value("architectures", known.words, config["architectures"], path)
    return FAMILIES["llama"]
