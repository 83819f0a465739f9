"""What was trained over a base: LoRA adapters, projectors and the tensors beside them."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from llava.errors import CheckpointError, reason_of

_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])(\.default)?\.weight")
_PEFT_PREFIX = "base_model.model."
_SHOWN = 3


def normalize_trained_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns tensors that were trained beside an adapter under their names in the model.

    Training saves them with the prefixes of the wrappers that it put around the model.
    """
    stripped = {name.removeprefix("base_model."): tensor for name, tensor in tensors.items()}
    wrapped = any(name.startswith(("model.model.", "model.transformer.")) for name in stripped)
    if not wrapped:
        return stripped
    return {name.removeprefix("model."): tensor for name, tensor in stripped.items()}


def override_tensors(
    tensors: dict[str, torch.Tensor],
    trained: Mapping[str, torch.Tensor],
    *,
    embedding: str,
    source: Path,
) -> None:
    """Puts trained tensors over those of the base, in place; both go by their names in the model.

    Embeddings may hold the rows of the added tokens only; these become the last rows.

    Args:
        tensors: The base's, with as many embedding rows as the checkpoint has tokens.
        trained: The trained ones.
        embedding: Name of the input embeddings.
        source: The checkpoint's folder, for messages.

    Raises:
        CheckpointError: trained embeddings have more rows or another width than the model's.
    """
    for name, tensor in trained.items():
        base = tensors.get(name)
        if name == embedding and base is not None and tensor.shape != base.shape:
            if tensor.shape[0] > base.shape[0] or tensor.shape[1:] != base.shape[1:]:
                raise CheckpointError(
                    f"{name} in {source} has shape {list(tensor.shape)}, but the model's has "
                    f"{list(base.shape)}. Give the base that the checkpoint was trained on."
                )
            rows = base.clone()
            rows[-tensor.shape[0] :] = tensor
            tensors[name] = rows
        else:
            tensors[name] = tensor


def grow_rows(tensor: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Returns (num_rows, D): new rows are the mean of the old, as the reference starts them."""
    missing = num_rows - tensor.shape[0]
    if missing <= 0:
        return tensor
    mean = tensor.float().mean(dim=0, keepdim=True).to(tensor.dtype)
    return torch.cat((tensor, mean.expand(missing, -1)))


def check_adapter(
    adapter: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Size], *, source: Path
) -> None:
    """Checks that every LoRA matrix fits a weight of the model.

    Raises:
        CheckpointError: a matrix fits no weight, in name or in shape.
    """
    if not adapter:
        raise CheckpointError(f"The adapter in {source} is empty. Download it again.")
    homeless = []
    for name, tensor in adapter.items():
        match = _LORA.fullmatch(name)
        if match is None:
            continue
        weight = f"{match['module'].removeprefix(_PEFT_PREFIX)}.weight"
        if weight not in expected:
            homeless.append(weight)
            continue
        axis = 1 if match["part"] == "A" else 0
        if tensor.shape[axis] != expected[weight][axis]:
            raise CheckpointError(
                f"{name} in {source} has shape {list(tensor.shape)}, which does not fit {weight} "
                f"of shape {list(expected[weight])}: the adapter was trained on another model. "
                "Give that model with `model.base=`."
            )
    if homeless:
        raise CheckpointError(
            f"{len(homeless)} matrices of the adapter in {source} belong to weights that the model "
            f"does not have, such as {', '.join(sorted(homeless)[:_SHOWN])}: the adapter was "
            "trained on another model. Give that model with `model.base=`."
        )


def merge_adapter(model: Any, folder: Path, adapter: Iterable[str]) -> Any:
    """Returns the model with a LoRA adapter merged into its (unquantized) weights.

    Args:
        model: A language model, with or without images.
        folder: Where the adapter lies.
        adapter: Names of the adapter's tensors.

    Raises:
        CheckpointError: the adapter cannot be applied, or not all of it.
    """
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict

    names = {re.sub(r"\.default(?=\.weight$)", "", name) for name in adapter}
    try:
        config = PeftConfig.from_pretrained(str(folder))
        with_tower = any("vision_tower" in name for name, _ in model.named_modules())
        if with_tower and not any("vision_tower" in name for name in names):
            # target modules are matched by suffix, and a tower's have the same names
            config.exclude_modules = r".*vision_tower.*"
        config.base_model_name_or_path = str(model.config.name_or_path)
        with warnings.catch_warnings():
            # what peft only warns of is an error below
            warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
            # peft still asks transformers by the old name; nobody who loads a model can help it
            warnings.filterwarnings(
                "ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning
            )
            peft_model = PeftModel.from_pretrained(
                model, str(folder), config=config, torch_device="cpu"
            )
    except (ValueError, TypeError, KeyError, RuntimeError, OSError) as error:
        raise CheckpointError(
            f"The adapter in {folder} cannot be applied: {reason_of(error)}. Check "
            f"`target_modules` in its adapter_config.json{_targets(folder)} and `model.base=`."
        ) from error
    applied = set(get_peft_model_state_dict(peft_model, save_embedding_layers=False))
    if names != applied:
        differing = sorted(names ^ applied)
        raise CheckpointError(
            f"The adapter in {folder} was not applied completely: {len(names - applied)} of its "
            f"tensors found no place and {len(applied - names)} places found no tensor, such as "
            f"{', '.join(differing[:_SHOWN])}. Download the adapter again."
        )
    return peft_model.merge_and_unload()


def _targets(folder: Path) -> str:
    """The target modules of an adapter in brackets, as far as its configuration can be read."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except ValueError:
        return ""
    return f" ({config.get('target_modules')})"
