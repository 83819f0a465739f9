"""What was trained over a base: LoRA adapters, projectors and the tensors beside them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llava.errors import CheckpointError, reason_of
from llava.model.kinds import ADAPTER_CONFIG, lacks_saved, read_adapter_config
from llava.model.native import trained_names
from llava.model.rules import unknown_value
from llava.model.weights import is_computed, is_of_tower, listed, read_tensors, require_shapes

_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<part>A|B|embedding_A|embedding_B)(\.weight)?")
_ADAPTER_PART = re.compile(r"\.(?=(lora|ia3|hada|lokr|oft|boft|vera|randlora|shira|trainable)_)")
_PEFT_PREFIX = "base_model.model."
_EMBEDDINGS = ("embed_tokens.weight", "transformer.wte.weight")
_TABLES = ("embed_tokens", "wte", "lm_head", "lm_head.token_adapter")
_OLD = ("language_model.", "multi_modal_projector.", "vision_tower.")  # in transformers before 4.52
_MAX_ADDED_ROWS = 3  # LLaVA adds tokens for a patch and for the start and end of an image

# what peft answers a configuration with that it cannot follow
_REFUSED = (
    *(ValueError, TypeError, KeyError, RuntimeError, OSError, AttributeError, AssertionError),
    re.error,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """What peft has saved in one file.

    Attributes:
        file: The file.
        config: Content of adapter_config.json, understood.
        parts: Matrices to be merged, by the name of the module in the model and their own.
        whole: Tensors that stand for the base's, by their names in the model: modules that were
            saved with the adapter, embeddings, the layers that matrices lie on.
        targets: The name in the model of each module with matrices, by the one that it was trained
            under.
    """

    file: Path
    config: Mapping[str, Any]
    parts: Mapping[str, torch.Tensor]
    whole: Mapping[str, torch.Tensor]
    targets: Mapping[str, str]

    @property
    def trains_tower(self) -> bool:
        """Whether matrices lie in the vision tower; biases that were saved all do not say so."""
        return any(map(is_of_tower, self.parts))

    def parts_tables(self) -> bool:
        """Whether head and embeddings, one in the base, have to be two to be merged into.

        Raises:
            CheckpointError: rows that were trained of both lie under matrices on the head.
        """
        trained, field = {*self.targets.values()}, "trainable_token_indices"
        if not self.config.get("ensure_weight_tying"):
            trained.update(self.config.get("modules_to_save") or ())
        if "lm_head" in trained and self.config.get(field):
            words = "left out beside matrices on lm_head, which is the embeddings in the base"
            raise unknown_value(field, words, self.config[field], self.file.parent / ADAPTER_CONFIG)
        return any(name.endswith(_TABLES) for name in trained)


def read_adapter(file: Path, rename: Callable[[str], str]) -> Adapter:
    """Returns what an adapter's file holds, told apart by its tensors.

    `rename` gives the model's name of a tensor by the one that it was trained under.

    Raises:
        CheckpointError: the file cannot be read, or is empty.
    """
    parts, whole, targets = {}, {}, {}
    for stored, tensor in read_tensors([file]).items():
        name = stored.removeprefix(_PEFT_PREFIX).replace(".default", "")
        module, *part = _ADAPTER_PART.split(name, maxsplit=1)[::2]
        if part:
            targets[module] = target = rename(module)
            parts[f"{target}.{part[0]}"] = tensor
        elif ".original_module." not in name:
            whole[rename(_unwrapped(name))] = tensor
    if not parts and not whole:
        raise CheckpointError(f"The adapter in {file} is empty. Download it again.")
    config = read_adapter_config(file.parent)
    return Adapter(file=file, config=config, parts=parts, whole=whole, targets=targets)


def _unwrapped(name: str) -> str:
    """A tensor's name without what peft puts around modules that are saved whole or adapted."""
    return name.replace(".modules_to_save", "").replace(".base_layer", "").replace(".default", "")


def normalize_trained_names(
    tensors: Mapping[str, torch.Tensor], rename: Callable[[str], str]
) -> dict[str, torch.Tensor]:
    """Returns tensors that were trained beside an adapter under their names in the model.

    Training saves them with the prefixes of the wrappers that it put around the model; `rename` is
    as for `read_adapter`.
    """
    stripped = {
        _unwrapped(name).removeprefix("base_model."): tensor
        for name, tensor in tensors.items()
        if ".original_module." not in name
    }
    wrapped = any(name.startswith(("model.model.", "model.transformer.")) for name in stripped)
    prefix = "model." if wrapped else ""
    return {rename(name.removeprefix(prefix)): tensor for name, tensor in stripped.items()}


def override_tensors(
    tensors: dict[str, torch.Tensor],
    trained: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Size],
    *,
    file: Path,
    config: Path,
) -> None:
    """Puts trained tensors over those of the base, in place; both go by their names in the model.

    The base's embeddings have as many rows as the checkpoint has tokens; the trained ones may hold
    those of the added tokens only, which become the last rows.

    Raises:
        CheckpointError: a trained tensor has no place in the model, or another shape.
    """
    homeless = sorted(name for name in trained if name not in expected and not is_computed(name))
    if homeless:
        raise CheckpointError(
            f"{file} holds {len(homeless)} tensors that have no place in the model that {config} "
            f"describes: {listed(homeless)}. Take both from the output of the same training."
        )
    fitting = {name: tensor for name, tensor in trained.items() if name in expected}
    for name, base in tensors.items():
        rows = fitting.get(name)
        if name.endswith(_EMBEDDINGS) and rows is not None and len(rows) <= _MAX_ADDED_ROWS:
            fitting[name] = torch.cat((base[: -len(rows)], rows.to(base.dtype)))
    remedy = "take both from the output of one training"
    if any(len(t) > len(tensors[k]) for k, t in fitting.items() if k.endswith(_EMBEDDINGS)):
        remedy = (
            "the training enlarged the vocabulary, so merge with peft's `merge_and_unload` where "
            "it was made, and save the model with its tokenizer"
        )
    require_shapes(fitting, expected, file, config, lambda _: remedy)
    tensors.update(fitting)


def grow_rows(tensor: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Returns (num_rows, D): new rows are the mean of the old, as the reference starts them."""
    missing = num_rows - tensor.shape[0]
    if missing <= 0:
        return tensor
    mean = tensor.float().mean(dim=0, keepdim=True).to(tensor.dtype)
    return torch.cat((tensor, mean.expand(missing, -1)))


def require_saved_modules(
    adapter: Adapter,
    trained: Mapping[Path, Mapping[str, torch.Tensor]],
    expected: Iterable[str],
) -> None:
    """Raises CheckpointError if `trained` lacks a tensor of a module that was saved whole."""
    held = {name for part in trained.values() for name in part}
    lacking = sorted(name for name in expected if name not in held)
    for module in adapter.config.get("modules_to_save") or ():
        if of_it := [n for n in lacking if any(f"{module}." in old for old in trained_names(n))]:
            raise lacks_saved(module, listed(of_it), adapter.file.parent, trained)


def require_whole_projector(file: Path, trained: Iterable[str], expected: Iterable[str]) -> None:
    """Raises CheckpointError if a file has part of the projector; the rest would be the base's."""
    held = {name for name in trained if ".mm_projector." in name}
    lacking = sorted({name for name in expected if ".mm_projector." in name} - held)
    if held and lacking:
        raise CheckpointError(
            f"{file} holds the projector without {listed(lacking)}: it was saved in part, and the "
            "base's would answer in their place. Copy it again from where its training saved this "
            "step."
        )


def check_adapter(adapter: Adapter, expected: Mapping[str, torch.Size]) -> None:
    """Raises CheckpointError if a matrix fits no weight of the model, or a bias no layer."""
    for name, tensor in adapter.parts.items():
        module, is_bias, _ = name.partition(".lora_B.bias")
        if is_bias and f"{module}.bias" not in expected:
            words, path = f"false, as {module} has no bias", adapter.file.parent / ADAPTER_CONFIG
            raise unknown_value("lora_bias", words, True, path)
        if (match := _LORA.fullmatch(name)) is None:
            continue
        weight = f"{match['module']}.weight"
        if weight not in expected:
            raise CheckpointError(
                f"Matrices of the adapter in {adapter.file} belong to weights that the model does "
                f"not have, such as {weight}: the adapter was trained on another model. Give that "
                "model with `model.base=`."
            )
        # an embedding's weight has its inputs as rows, as the other layers have their outputs
        axis = 1 if match["part"].endswith("A") else 0
        size = expected[weight][1 - axis if "embedding" in match["part"] else axis]
        if tensor.ndim != len(expected[weight]):
            raise CheckpointError(
                f"{name} in {adapter.file} has shape {list(tensor.shape)}, which is none of a "
                "matrix: it was saved before the weights of all processes were gathered. Save the "
                "adapter again, from the whole model."
            )
        if tensor.shape[axis] != size:
            raise CheckpointError(
                f"{name} in {adapter.file} has shape {list(tensor.shape)}, which does not fit "
                f"{weight} of shape {list(expected[weight])}: the adapter was trained on another "
                "model. Give that model with `model.base=`."
            )


def merge_adapter(model: Any, adapter: Adapter, held: Collection[str]) -> Any:
    """Returns the model with an adapter's matrices merged into its (unquantized) weights.

    `held` are the tensors that stand for the base's, which are in the model already.

    Raises:
        CheckpointError: the adapter cannot be applied, or not all of it.
    """
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    folder = adapter.file.parent
    tensors = {_PEFT_PREFIX + name: tensor for name, tensor in adapter.parts.items()}
    try:
        config = PeftConfig.from_pretrained(str(folder))
        _aim(config, model, adapter)
        config.base_model_name_or_path = str(model.config.name_or_path)
        with warnings.catch_warnings():
            # peft asks transformers by an old name, and takes AdaLoRA's ranks for LoRA's
            for idle in ("`is_gradient_check", r".*rank_pattern .*\.lora_E", r".*\(0, .*ZeRO-3"):
                warnings.filterwarnings("ignore", idle)
            peft_model = PeftModel(model, config)
            set_peft_model_state_dict(peft_model, tensors)
            applied = set(get_peft_model_state_dict(peft_model, save_embedding_layers=False))
    except _REFUSED as error:
        raise CheckpointError(
            f"The adapter in {folder} cannot be applied: {reason_of(error)}. Check "
            "`target_modules` in its adapter_config.json "
            f"({adapter.config.get('target_modules')}) and `model.base=`."
        ) from error
    # the biases that were trained beside the matrices are in the model, but for a frozen tower's
    places = {name.replace(".base_layer.", ".") for name in applied}
    places -= {_PEFT_PREFIX + name for name in held}
    if not any(map(is_of_tower, (*adapter.parts, *held))):
        places = {name for name in places if not is_of_tower(name)}
    if tensors.keys() != places:
        differing = tensors.keys() ^ places
        raise CheckpointError(
            f"The adapter in {folder} was not applied completely: {len(tensors.keys() - places)} "
            f"of its tensors found no place and {len(places - tensors.keys())} places found no "
            f"tensor, such as {min(differing)}. Download the adapter again."
        )
    return peft_model.eval().merge_and_unload()


def _aim(config: Any, model: Any, adapter: Adapter) -> None:
    """Makes an adapter's configuration name the modules of the model that it is merged into."""
    from peft.utils.other import get_pattern_key

    config.inference_mode = True
    if getattr(config, "ensure_weight_tying", False):  # with it peft would change the two twice
        config.ensure_weight_tying = False
        tables = [name for name in adapter.targets if name.endswith(_TABLES)]
        config.target_modules = _with_names(config.target_modules, tables)
    if any(trained != target for trained, target in adapter.targets.items()):
        # the configuration goes by the names of the training, and so do its exceptions
        part = ".lora_E" if config.peft_type == "ADALORA" else ""
        for name, end in (("rank_pattern", part), ("alpha_pattern", "")):
            pattern = getattr(config, name, None) or {}
            keys = {to: get_pattern_key(pattern, f"{t}{end}") for t, to in adapter.targets.items()}
            setattr(
                config, name, {f"{t}{end}": pattern[k] for t, k in keys.items() if k in pattern}
            )
        if getattr(config, "feedforward_modules", None):
            config.feedforward_modules = _named_by(config, model, adapter, "feedforward_modules")
        config.target_modules = _named_by(config, model, adapter, "target_modules")
        config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
        config.modules_to_save = None
        return
    saved, config.modules_to_save = config.modules_to_save or (), None  # the model has them by now
    # target modules are matched by suffix: a tower's have the same names, and peft lays no matrices
    # on what it saves whole
    names = [
        name
        for name, _ in model.named_modules()
        if (not adapter.trains_tower and is_of_tower(f"{name}."))
        or any(re.match(rf"(.*\.)?{re.escape(module)}(\.|$)", name) for module in saved)
    ]
    config.exclude_modules = _with_names(config.exclude_modules, names)


def _with_names(modules: str | Collection[str] | None, names: Collection[str]) -> Any:
    """What peft goes by, a pattern or a list of modules, with more of them."""
    if isinstance(modules, str):
        return "|".join((f"({modules})", *map(re.escape, names)))
    return [*(modules or ()), *names]


def _named_by(config: Any, model: Any, adapter: Adapter, field: str) -> set[str]:
    """The modules that a field names by what they were called in training, saved or not."""
    from peft.tuners.tuners_utils import check_target_module_exists

    asked = copy(config)
    asked.target_modules = getattr(config, field)
    old = any(trained.startswith(_OLD) for trained in adapter.targets)
    return {
        name
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), torch.Tensor)
        and (adapter.trains_tower or not is_of_tower(f"{name}."))
        and any(
            check_target_module_exists(asked, trained)
            for trained in trained_names(name)
            if trained.startswith(_OLD) == old and (trained != name or name == "lm_head")
        )
    }
