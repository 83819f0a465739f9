"""Ways in which checkpoints are broken, each with what the refusal has to say."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints import make_checkpoint, make_tokenizer, make_tower
from tests.variants import (
    make_base,
    make_lora,
    make_mistral,
    make_native,
    make_projector,
    write_adapter,
)


@dataclass(frozen=True)
class Workshop:
    """A folder with a vision tower, a complete checkpoint and its language model."""

    home: Path

    @property
    def tower(self) -> Path:
        """A tower, made on first use."""
        folder = self.home / "clip-tiny"
        return folder if folder.is_dir() else make_tower(folder)

    def llava(self, name: str = "llava-tiny", **options: Any) -> Path:
        """A complete checkpoint."""
        return make_checkpoint(self.home / name, self.tower, **options)

    def base(self) -> Path:
        """The language model of a complete checkpoint."""
        return make_base(self.home / "vicuna-tiny", self.llava("llava-of-base"))


@dataclass(frozen=True)
class Broken:
    """A broken checkpoint: what to load and what the message must match."""

    path: Path
    message: str
    base: Path | None = None


class Payload:
    """A pickle that would create a file if it were loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def edit_config(folder: Path, **fields: Any) -> None:
    """Changes fields of a folder's config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Changes the tensors of a folder's model.safetensors."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def truncate(path: Path) -> None:
    """Cuts a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncated_safetensors(shop: Workshop) -> Broken:
    folder = shop.llava()
    truncate(folder / "model.safetensors")
    return Broken(folder, r"model\.safetensors cannot be read")


def truncated_bin(shop: Workshop) -> Broken:
    folder = shop.llava(safetensors=False)
    truncate(folder / "pytorch_model.bin")
    return Broken(folder, r"pytorch_model\.bin cannot be read")


def pickle_with_code(shop: Workshop) -> Broken:
    folder = shop.llava(safetensors=False)
    (folder / "pytorch_model.bin").write_bytes(
        pickle.dumps({"w": Payload(folder / "executed")}, protocol=2)
    )
    return Broken(folder, r"pytorch_model\.bin holds something else than tensors")


def missing_weights(shop: Workshop) -> Broken:
    folder = shop.llava()
    (folder / "model.safetensors").unlink()
    return Broken(folder, r"No weights lie in .*llava-tiny.* Download the checkpoint again")


def weights_in_parts(shop: Workshop) -> Broken:
    folder = shop.llava()
    (folder / "model.safetensors").unlink()
    (folder / "global_step500").mkdir()
    told = r"No weights lie in .*llava-tiny.* as global_step500 shows: join them with"
    return Broken(folder, told)


def missing_shard(shop: Workshop) -> Broken:
    folder = shop.llava(sharded=True)
    (folder / "model-00002-of-00003.safetensors").unlink()
    return Broken(folder, r"names 3 files.*1 are missing: model-00002-of-00003\.safetensors")


def index_names_absent_file(shop: Workshop) -> Broken:
    folder = shop.llava(sharded=True)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.norm.weight"] = "model-00009-of-00009.safetensors"
    path.write_text(json.dumps(index))
    return Broken(folder, r"model-00009-of-00009\.safetensors")


def missing_config(shop: Workshop) -> Broken:
    folder = shop.llava()
    (folder / "config.json").unlink()
    return Broken(folder, r"config\.json is missing")


def broken_config(shop: Workshop) -> Broken:
    folder = shop.llava()
    truncate(folder / "config.json")
    return Broken(folder, r"config\.json cannot be read")


def unknown_model_type(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_config(folder, model_type="llava_rwkv")
    return Broken(folder, r"`model_type` must be one of .*'llava_rwkv'")


def unknown_projector_type(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_config(folder, mm_projector_type="resampler")
    return Broken(folder, r"`mm_projector_type` must be .*'resampler'")


def tower_not_named(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_config(folder, mm_vision_tower=None)
    return Broken(folder, r"`mm_vision_tower` is missing")


def tower_not_found(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_config(folder, mm_vision_tower="clip-elsewhere")
    return Broken(folder, r"vision tower 'clip-elsewhere'.*was not found")


def tower_id_not_found(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_config(folder, mm_vision_tower="nobody/clip-elsewhere")
    return Broken(folder, r"`mm_vision_tower` is 'nobody/clip-elsewhere'.*hub did not give it")


def feature_layer_beyond_the_tower(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_config(folder, mm_vision_select_layer=-24)
    message = r"`mm_vision_select_layer` must be .* -\d to \d, .*clip-tiny .* -24 in .*config\.json"
    return Broken(folder, message)


def feature_layer_before_the_tower(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_config(folder, mm_vision_select_layer=24)
    return Broken(folder, r"`mm_vision_select_layer` must be .* but is 24 in .*config\.json")


def feature_layer_not_named(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_config(folder, mm_vision_select_layer=None)
    return Broken(folder, r"`mm_vision_select_layer` must be .* but is None in .*config\.json")


def several_feature_layers(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_config(folder, mm_vision_select_layer=[-2, -5])
    return Broken(folder, r"`mm_vision_select_layer` must be .* but is \[-2, -5\]")


def native_feature_layer_beyond_the_tower(shop: Workshop) -> Broken:
    folder = make_native(shop.home / "llava-1.5-tiny-hf", shop.llava(), shop.tower)
    edit_config(folder, vision_feature_layer=-24)
    return Broken(folder, r"`vision_feature_layer` must be .* but is -24 in .*hf/config\.json")


def tower_of_another_width(shop: Workshop) -> Broken:
    folder = shop.llava()
    make_tower(shop.home / "clip-wide", hidden_size=64)
    edit_config(folder, mm_vision_tower="clip-wide")
    return Broken(folder, r"clip-wide has features of width 64, but `mm_hidden_size` is 32")


def projector_of_another_width(shop: Workshop) -> Broken:
    folder = make_projector(shop.home / "llava-pretrain", shop.llava())
    projector = {
        "model.mm_projector.0.weight": torch.zeros(96, 32),
        "model.mm_projector.0.bias": torch.zeros(96),
        "model.mm_projector.2.weight": torch.zeros(96, 96),
        "model.mm_projector.2.bias": torch.zeros(96),
    }
    torch.save(projector, folder / "mm_projector.bin")
    return Broken(folder, r"another shape.*mm_projector", shop.base())


def missing_projector(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_tensors(folder, lambda tensors: tensors.pop("model.mm_projector.2.weight"))
    return Broken(folder, r"lacks 1 of the \d+ tensors.*model\.mm_projector\.2\.weight")


def unexpected_tensor(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_tensors(folder, lambda t: t.update({"model.layers.9.mlp.up_proj.weight": torch.zeros(2)}))
    return Broken(folder, r"1 tensors that have no place.*model\.layers\.9\.mlp\.up_proj\.weight")


def adapter_for_another_base(shop: Workshop) -> Broken:
    wide = make_checkpoint(shop.home / "llava-wide", shop.tower, hidden_size=128)
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    write_adapter(folder, load_file(wide / "model.safetensors"))
    return Broken(folder, r"adapter was trained on another model", shop.base())


def adapter_without_matching_module(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    adapter = torch.load(folder / "adapter_model.bin", weights_only=True)
    renamed = {name.replace("self_attn", "attention"): t for name, t in adapter.items()}
    torch.save(renamed, folder / "adapter_model.bin")
    return Broken(folder, r"belong to weights that the model does not have", shop.base())


def adapter_with_foreign_targets(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": ["Wqkv"]}))
    return Broken(folder, r"cannot be applied.*Wqkv", shop.base())


def adapter_only_in_part(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    adapter = torch.load(folder / "adapter_model.bin", weights_only=True)
    kept = {name: tensor for name, tensor in adapter.items() if "up_proj" not in name}
    torch.save(kept, folder / "adapter_model.bin")
    return Broken(folder, r"not applied completely", shop.base())


def adapter_weights_missing(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    (folder / "adapter_model.bin").unlink()
    return Broken(folder, r"neither adapter_model\.safetensors nor adapter_model\.bin", shop.base())


def non_lora_trainables_missing(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    (folder / "non_lora_trainables.bin").unlink()
    return Broken(folder, r"non_lora_trainables\.bin is missing.* same step", shop.base())


def base_missing_for_lora(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    return Broken(folder, r"`base_model_name_or_path` in .*'the-base'.*`model\.base=`")


def base_missing_for_projector(shop: Workshop) -> Broken:
    folder = make_projector(shop.home / "llava-pretrain", shop.llava())
    edit_config(folder, _name_or_path="the-base")
    return Broken(folder, r"a projector .*`_name_or_path` in .*'the-base'.*`model\.base=`")


def base_of_another_family(shop: Workshop) -> Broken:
    mistral = make_mistral(shop.home / "llava-mistral", shop.tower, hidden_size=96)
    base = make_base(shop.home / "mistral-tiny", mistral)
    return Broken(make_projector(shop.home / "llava-pretrain", shop.llava()), r"shape", base)


def base_of_unknown_type(shop: Workshop) -> Broken:
    base, adapter = shop.base(), shop.home / "adapter"
    write_adapter(adapter, load_file(base / "model.safetensors"))
    edit_config(base, model_type="olmo2")
    return Broken(adapter, r"`model_type` must be .*'olmo2' in \S*vicuna-tiny/config\.json", base)


def base_for_complete_checkpoint(shop: Workshop) -> Broken:
    return Broken(shop.llava(), r"`model\.base` is .*complete checkpoint", shop.base())


def adapter_config_missing(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    (folder / "adapter_config.json").unlink()
    return Broken(folder, r"adapter_config\.json is missing: .*adapter_model\.bin", shop.base())


def trainables_alone(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    for name in ("adapter_config.json", "adapter_model.bin"):
        (folder / name).unlink()
    return Broken(folder, r"adapter_config\.json is missing: .*non_lora_trainables", shop.base())


def adapter_beside_a_projector(shop: Workshop) -> Broken:
    folder = make_projector(shop.home / "llava-both", shop.llava())
    (folder / "adapter_model.safetensors").touch()
    return Broken(folder, r"adapter_config\.json is missing: .*adapter_model\.saf", shop.base())


def parts_over_a_base(shop: Workshop) -> Broken:
    folder = shop.home / "checkpoint-300"
    (folder / "global_step300").mkdir(parents=True)
    told = r"No model, adapter or projector lies in .*as global_step300 shows: join .*For a LoRA,"
    return Broken(folder, told, shop.base())


def weights_missing_over_a_base(shop: Workshop) -> Broken:
    folder = shop.llava()
    (folder / "model.safetensors").unlink()
    return Broken(folder, r"No model, adapter or projector lies in .*llava-tiny:", shop.base())


def config_missing_over_a_base(shop: Workshop) -> Broken:
    folder = shop.llava()
    (folder / "config.json").unlink()
    return Broken(folder, r"llava-tiny/config\.json is missing", shop.base())


def tower_as_path(shop: Workshop) -> Broken:
    return Broken(shop.tower, r"`model\.path` is .*clip-tiny, but that is a vision tower")


def tower_as_base(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    edit_config(shop.tower, model_type="clip")
    return Broken(folder, r"`model\.base` is .*vision tower, as .* is 'clip'", shop.tower)


def folder_above_as_base(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "training" / "llava-lora", shop.llava())
    return Broken(
        folder, r"No model lies in it, .* folders: llava-tiny\. .*=\S*llava-tiny`", shop.home
    )


def folder_above_as_path(shop: Workshop) -> Broken:
    make_projector(shop.home / "pretrain", shop.llava())
    (shop.home / "logs").mkdir()
    (shop.home / "logs" / "config.json").write_text("[")
    return Broken(shop.home, r"only in its folders: llava-tiny, pretrain\. Give")


def nothing_as_base(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    make_tokenizer(shop.home / "tokenizer")
    return Broken(folder, r"No model lies in \S*/tokenizer: ", shop.home / "tokenizer")


def projector_config_missing(shop: Workshop) -> Broken:
    folder = make_projector(shop.home / "llava-pretrain", shop.llava())
    (folder / "config.json").unlink()
    return Broken(folder, r"pretrain/config\.json is missing: it says which tower", shop.base())


def file_as_path(shop: Workshop) -> Broken:
    (shop.home / "llava.gguf").touch()
    return Broken(shop.home / "llava.gguf", r"llava\.gguf', a file\. Give a folder")


def generation_config_damaged(shop: Workshop) -> Broken:
    folder = shop.llava()
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 3], "repetition_pe')
    return Broken(folder, r"generation_config\.json cannot be read.* original checkpoint\.$")


def adapter_on_the_projector_alone(shop: Workshop) -> Broken:
    folder = make_lora(shop.home / "llava-lora", shop.llava())
    (folder / "non_lora_trainables.bin").unlink()
    adapter = torch.load(folder / "adapter_model.bin", weights_only=True)
    prefix = "base_model.model.model.mm_projector.0.lora_"
    width, inputs = load_file(shop.home / "llava-tiny/model.safetensors")[
        "model.mm_projector.0.weight"
    ].shape
    adapter |= {
        f"{prefix}A.weight": torch.ones(4, inputs),
        f"{prefix}B.weight": torch.ones(width, 4),
    }
    torch.save(adapter, folder / "adapter_model.bin")
    told = r"holds the projector's .* Copy the non_lora_trainables\.bin that .* this step; if"
    return Broken(folder, told, shop.base())


def tokenizer_missing(shop: Workshop) -> Broken:
    folder = shop.llava()
    (folder / "tokenizer.model").unlink()
    return Broken(folder, r"No tokenizer lies in .*tokenizer\.model")


def tokenizer_damaged(shop: Workshop) -> Broken:
    folder = shop.llava()
    truncate(folder / "tokenizer.model")
    return Broken(folder, r"tokenizer\.model, with the files beside it, cannot be read")


def tokenizer_larger_than_embeddings(shop: Workshop) -> Broken:
    folder = shop.llava()
    make_tokenizer(shop.home / "larger", vocab_size=700)
    shutil.copyfile(shop.home / "larger" / "tokenizer.model", folder / "tokenizer.model")
    return Broken(folder, r"700 pieces, but the model has 640 embeddings")


def nan_in_weights(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_tensors(folder, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    return Broken(folder, r"model\.norm\.weight in .* holds NaN")


def delta_weights(shop: Workshop) -> Broken:
    return Broken(shop.llava("LLaVA-7b-delta-v0"), r"delta weights.*apply_delta.*`model\.name=`")


def tower_that_its_own_code_builds(shop: Workshop) -> Broken:
    folder = shop.llava()
    edit_config(folder, mm_vision_tower="mobileclip_l_1024")
    return Broken(folder, r"describes FastVLM \(`mm_vision_tower` is 'mobileclip_l_1024'\)")


def penalty_beside_the_prompt(shop: Workshop) -> Broken:
    folder = make_native(shop.home / "native", shop.llava(), shop.tower)
    (folder / "generation_config.json").write_text('{"encoder_repetition_penalty": 2}')
    return Broken(folder, r"`encoder_repetition_penalty` must be 1 or null, as in tran")


def penalty_over_the_prompt(shop: Workshop) -> Broken:
    folder = make_native(shop.home / "native", shop.llava(), shop.tower)
    (folder / "generation_config.json").write_text('{"repetition_penalty": 1.05}')
    return Broken(
        folder, r"`repetition_penalty` must be 1 or null, as in tran.* the prompt too, but is 1\.05"
    )


def neither_folder_nor_hub_id(shop: Workshop) -> Broken:
    return Broken(shop.home / "nowhere", r"`model\.path` must be a folder or a hub id")


WAYS: tuple[Callable[[Workshop], Broken], ...] = (
    truncated_safetensors,
    truncated_bin,
    pickle_with_code,
    missing_weights,
    weights_in_parts,
    missing_shard,
    index_names_absent_file,
    missing_config,
    broken_config,
    unknown_model_type,
    unknown_projector_type,
    tower_not_named,
    tower_not_found,
    tower_id_not_found,
    feature_layer_beyond_the_tower,
    feature_layer_before_the_tower,
    feature_layer_not_named,
    several_feature_layers,
    native_feature_layer_beyond_the_tower,
    tower_of_another_width,
    projector_of_another_width,
    missing_projector,
    unexpected_tensor,
    adapter_for_another_base,
    adapter_without_matching_module,
    adapter_with_foreign_targets,
    adapter_only_in_part,
    adapter_weights_missing,
    non_lora_trainables_missing,
    base_missing_for_lora,
    base_missing_for_projector,
    base_of_another_family,
    base_of_unknown_type,
    base_for_complete_checkpoint,
    adapter_config_missing,
    trainables_alone,
    adapter_beside_a_projector,
    parts_over_a_base,
    weights_missing_over_a_base,
    config_missing_over_a_base,
    tower_as_path,
    tower_as_base,
    folder_above_as_base,
    folder_above_as_path,
    nothing_as_base,
    projector_config_missing,
    file_as_path,
    generation_config_damaged,
    adapter_on_the_projector_alone,
    tokenizer_missing,
    tokenizer_damaged,
    tokenizer_larger_than_embeddings,
    nan_in_weights,
    delta_weights,
    tower_that_its_own_code_builds,
    penalty_beside_the_prompt,
    penalty_over_the_prompt,
    neither_folder_nor_hub_id,
)
"""Every way to break a checkpoint; no permission is tested apart, since root has every one."""
