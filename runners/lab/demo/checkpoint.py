"""Writes the demo model in an original format: a LLaVA checkpoint and a vision tower beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from runners.lab.demo.form import SELECT_LAYER, Form
from runners.lab.demo.model import DemoModel
from runners.storage.files import write_json

_TOWER = "model.vision_tower.vision_tower.vision_model."


def write_tower(model: DemoModel, folder: Path) -> None:
    """Writes the tower in float16, with its configuration and that of the image processor."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", model.form.tower_config)
    write_json(folder / "preprocessor_config.json", model.form.processor_config)
    _write_weights(folder, _named("vision_model.", model.tower.state_dict()))


def write_checkpoint(model: DemoModel, folder: Path) -> None:
    """Writes projector and language model in float16, with their configurations.

    The tower too, up to the layer that is taken, if it was tuned with them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", model.form.config)
    write_json(folder / "generation_config.json", model.form.generation_config)
    _write_weights(folder, _checkpoint_tensors(model))


def _checkpoint_tensors(model: DemoModel) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = model.language.state_dict()
    if model.language.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    tensors |= _named("model.mm_projector.", model.projector.state_dict())
    if model.form.layout.unpads:
        tensors["model.image_newline"] = model.image_newline
    if model.form.tunes_tower:
        left_out = f"encoder.layers.{model.tower.config.num_hidden_layers + 1 + SELECT_LAYER}."
        tower = {
            name: tensor
            for name, tensor in model.tower.state_dict().items()
            if not name.startswith(left_out)
        }
        tensors |= _named(_TOWER, tower)
    return tensors


def write_tokenizer(form: Form, content: bytes, folder: Path) -> None:
    """Writes a tokenizer with its configurations into a checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / form.tokenizer_file).write_bytes(content)
    for name, config in form.tokenizer_configs.items():
        write_json(folder / name, config)


def _named(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _write_weights(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes tensors in float16."""
    halves = {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}
    path = folder / "model.safetensors"
    save_file(halves, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors leaves it to its owner alone
