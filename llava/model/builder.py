"""The one door through which every checkpoint is loaded."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    GenerationConfig,
    PreTrainedConfig,
)
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from llava.content_hash import hash_weight_files
from llava.errors import CheckpointError, reason_of
from llava.model.adapters import (
    Adapter,
    check_adapter,
    grow_rows,
    merge_adapter,
    normalize_trained_names,
    override_tensors,
    read_adapter,
    require_saved_modules,
    require_whole_projector,
)
from llava.model.checkpoint import Checkpoint, inspect_checkpoint
from llava.model.facts import kept_fields, kept_options
from llava.model.kinds import CheckpointKind
from llava.model.locate import find_weight_files, read_json_object
from llava.model.multimodal_encoder.vision_tower import VisionTower
from llava.model.native import rename_tensor
from llava.model.quantization import Quantization
from llava.model.rules import unknown_value
from llava.model.stored_quantized import drop_idle_biases, read_unpacked
from llava.model.weights import (
    LoadReport,
    has_own_head,
    is_of_tower,
    match_tensors,
    read_tensors,
    require_frozen_tower,
    tower_tensors,
)
from llava.tokenizer import load_checkpoint_tokenizer

logger = logging.getLogger(__name__)

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# what the library answers a configuration with that it cannot follow
_REFUSED = (TypeError, ValueError, AttributeError, OSError, KeyError, StrictDataclassError)
_INHERITED_OPTIONS = {
    *("repetition_penalty", "no_repeat_ngram_size", "length_penalty", "early_stopping"),
    *("min_length", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens"),
}
"""Options of generation that a model's configuration may hold and that requests do not have."""


def load_pretrained_model(  # noqa: PLR0913, PLR0917 - the reference's signature
    model_path: str,
    model_base: str | None,
    model_name: str,
    load_8bit: bool = False,
    load_4bit: bool = False,
    device_map: Any = "auto",
    device: str = "cuda",
    use_flash_attn: bool = False,
    *,
    dtype: torch.dtype | str | None = None,
    quantization: Quantization | None = None,
    attn_implementation: str | None = None,
    vision_tower_dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    max_memory: Mapping[int, int] | None = None,
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel, Any, int]:
    """Returns tokenizer, model, image processor and context length of a checkpoint.

    Args:
        model_path: Folder or hub id.
        model_base: Folder or hub id of the model below an adapter or projector, else None.
        model_name: From `get_model_name_from_path`.
        load_8bit: Short for `quantization=Quantization(kind="int8")`.
        load_4bit: Short for `quantization=Quantization(kind="nf4")`.
        device_map: As transformers takes it; used if `device` is `cuda`.
        device: Where the whole model goes, if not `cuda`.
        use_flash_attn: Short for `attn_implementation="flash_attention_2"`.
        dtype: Of language model and projector: a torch dtype, its name, or `auto` for the one that
            the checkpoint was saved in. None is float16 on CUDA and float32 elsewhere.
        quantization: How the language model's linear layers are stored; adapters are merged first.
        attn_implementation: `eager`, `sdpa` or `flash_attention_2`; None for the model's default.
        vision_tower_dtype: Of the vision tower. None is the reference's: float32 for a tower that
            was frozen in training, `dtype` for one that was tuned.
        revision: Branch, tag or commit of a hub id.
        max_memory: Bytes that each CUDA device may hold, for `device_map="auto"`; devices that are
            not named are not used. None for what every visible device has free.

    Returns:
        `(tokenizer, model, image_processor, context_len)`; the image processor is None for a plain
        language model. `model.load_report` says what was loaded.

    Raises:
        CheckpointError: the checkpoint is broken, incomplete or of an unknown kind.
        ValueError: an option is unknown or contradicts another.
    """
    checkpoint = inspect_checkpoint(model_path, model_base, model_name, revision)
    on_cuda = device.startswith("cuda") and torch.cuda.is_available()
    options: dict[str, Any] = {
        "dtype": _resolve_dtype(dtype, checkpoint, on_cuda=on_cuda),
        "device_map": device_map if device == "cuda" else {"": device},
    }
    if use_flash_attn:
        attn_implementation = "flash_attention_2"
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    if max_memory is not None:
        options["max_memory"] = dict(max_memory)
    if sum((quantization is not None, load_8bit, load_4bit)) > 1:
        raise ValueError(
            "Only one of `quantization`, `load_8bit` and `load_4bit` can be given. Choose one."
        )
    if load_8bit or load_4bit:
        quantization = Quantization(kind="int8" if load_8bit else "nf4")
    model, report = _build_model(checkpoint, quantization, options)
    tokenizer = load_checkpoint_tokenizer(checkpoint)
    model.load_report = replace(
        report,
        num_new_rows=_fit_embeddings(model, tokenizer, checkpoint),
        content_hash=hash_weight_files((*checkpoint.weight_files, *checkpoint.trained_files)),
    )
    logger.info("loaded %s: %s", checkpoint.path, model.load_report)
    if not checkpoint.is_multimodal:
        return tokenizer, model, None, checkpoint.context_len
    if vision_tower_dtype is not None:
        vision_tower_dtype = _resolve_dtype(vision_tower_dtype, checkpoint, on_cuda=on_cuda)
    tower = _load_tower(model, checkpoint, vision_tower_dtype)
    return tokenizer, model, tower.image_processor, checkpoint.context_len


def _build_model(
    checkpoint: Checkpoint, quantization: Quantization | None, options: dict[str, Any]
) -> tuple[PreTrainedModel, LoadReport]:
    """The language model with projector, adapters merged, everything checked before it is used."""
    rename = rename_tensor if checkpoint.native else str
    stored, quantized_by, number = read_unpacked(
        checkpoint.weight_files, checkpoint.language_dir, options["dtype"]
    )
    tensors = {rename(name): tensor for name, tensor in stored.items()}
    adapter, trained = _read_trained(checkpoint, rename)
    checkpoint = _follow_trained(checkpoint, tensors, adapter, trained)
    skeleton = build_skeleton(checkpoint)
    model_class, config = type(skeleton), skeleton.config
    expected = {name: tensor.shape for name, tensor in skeleton.state_dict().items()}
    options = {"config": config, **options}
    if quantized_by == "GPTQ":
        drop_idle_biases(tensors, expected)
    _lay_over(tensors, adapter, trained, expected, checkpoint)
    if config.tie_word_embeddings and has_own_head(tensors, checkpoint.family.embeddings):
        words = "false, as the weights have a head of their own"
        raise unknown_value("tie_word_embeddings", words, True, checkpoint.config_file)
    report = match_tensors(
        tensors,
        expected,
        tied=frozenset(["lm_head.weight"] if config.tie_word_embeddings else []),
        checkpoint=checkpoint,
    )
    report = replace(report, quantized_by=quantized_by, num_unpacked=number)
    if adapter is not None:
        check_adapter(adapter, expected)
        report = replace(report, num_adapter=len(adapter.parts))
        # what is to be quantized may be too large for the device before it is
        place = {} if quantization is None else {"device_map": {"": "cpu"}}
        held = {name for part in trained.values() for name in part}
        base = _from_tensors(model_class, tensors, options | place)
        merged = merge_adapter(base, adapter, held)
        if quantization is None:
            return finish_model(merged, checkpoint), report
        tensors = merged.state_dict()
    if quantization is not None:
        inner, dtype = checkpoint.family.inner, options["dtype"]
        options["quantization_config"] = quantization.to_config(dtype, inner)
    model = finish_model(_from_tensors(model_class, tensors, options), checkpoint)
    if quantization is not None:
        quantization.finish(model)
    return model, report


def _follow_trained(
    checkpoint: Checkpoint,
    tensors: dict[str, torch.Tensor],
    adapter: Adapter | None,
    trained: Mapping[Path, Mapping[str, torch.Tensor]],
) -> Checkpoint:
    """The checkpoint as what was trained over its base makes it; completes `tensors` to that.

    With a tower of its own, if one was trained, and with a head of its own.
    """
    brought = {name for part in trained.values() for name in filter(is_of_tower, part)}
    trains_tower = brought or (adapter is not None and adapter.trains_tower)
    own = tower_tensors(checkpoint) if trains_tower and not checkpoint.native else {}
    if own and own.keys() <= brought:  # nothing of the base's tower is left
        for name in filter(is_of_tower, [*tensors]):
            del tensors[name]
    if not checkpoint.tower_in_checkpoint:
        require_frozen_tower(tensors, checkpoint)
    if trains_tower:
        # what was not trained of the tower is as in the tower's own files
        tensors |= own if not checkpoint.tower_in_checkpoint else own | tensors
        fields = {**checkpoint.config, "unfreeze_mm_vision_tower": True}
        checkpoint = replace(checkpoint, config=fields)
    is_tied = checkpoint.config.get("tie_word_embeddings", checkpoint.family.is_tied)
    # transformers' own classes part the two where the weights hold both
    parted = checkpoint.native and has_own_head(tensors, checkpoint.family.embeddings)
    if is_tied and (parted or (adapter is not None and adapter.parts_tables())):
        tensors.setdefault("lm_head.weight", tensors[checkpoint.family.embeddings])
        checkpoint = replace(checkpoint, config={**checkpoint.config, "tie_word_embeddings": False})
    return checkpoint


def _lay_over(
    tensors: dict[str, torch.Tensor],
    adapter: Adapter | None,
    trained: Mapping[Path, Mapping[str, torch.Tensor]],
    expected: Mapping[str, torch.Size],
    checkpoint: Checkpoint,
) -> None:
    """Puts what was trained over the base's tensors, in place, and checks that it is all there."""
    for name in (checkpoint.family.embeddings, "lm_head.weight"):
        if checkpoint.base is not None and name in tensors and name in expected:
            tensors[name] = grow_rows(tensors[name], expected[name][0])
    for file, part in trained.items():
        override_tensors(tensors, part, expected, file=file, config=checkpoint.config_file)
        if adapter is None or file != adapter.file:
            require_whole_projector(file, part, expected)
    if adapter is not None:
        require_saved_modules(adapter, trained, expected)


def build_skeleton(checkpoint: Checkpoint) -> PreTrainedModel:
    """Returns the model that a checkpoint describes, on the meta device: shapes without values.

    The tower's place in the configuration is resolved to its folder until `finish_model`.

    Raises:
        CheckpointError: the configuration does not describe a model.
    """
    name = checkpoint.family.name
    if checkpoint.is_multimodal:
        name = checkpoint.family.llava_types[0]
        importlib.import_module(f"llava.model.language_model.{name}")  # which registers its classes
    config_class = CONFIG_MAPPING[name]
    own, base = (frozenset(c.__dataclass_fields__) for c in (config_class, PreTrainedConfig))
    fields = kept_fields(checkpoint.config, own, base)
    if checkpoint.tower_dir is not None:
        fields["mm_vision_tower"] = str(checkpoint.tower_dir.absolute())
    if isinstance(fields.get("attn_config"), dict):
        # MPT's attention as in the reference's transformers 4.37, which knows no `clip_qkv`;
        # dropout, which must be a whole number by now, has no effect on answers
        fields["attn_config"] = {**fields["attn_config"], "attn_pdrop": 0, "clip_qkv": None}
    try:
        config = config_class(**fields)
        with torch.device("meta"):
            return MODEL_FOR_CAUSAL_LM_MAPPING[config_class](config)
    except _REFUSED as error:
        raise CheckpointError(
            f"{checkpoint.config_file} does not describe a model: {reason_of(error)}. "
            "Take the config.json that was saved with the checkpoint."
        ) from error


def _read_trained(
    checkpoint: Checkpoint, rename: Callable[[str], str]
) -> tuple[Adapter | None, dict[Path, dict[str, torch.Tensor]]]:
    """The adapter, and by file the tensors that stand for the base's, under the model's names."""
    files = checkpoint.trained_files
    adapter, trained = None, {}
    if files and checkpoint.kind is not CheckpointKind.PROJECTOR:
        adapter = read_adapter(files[0], rename)
        trained[files[0]] = dict(adapter.whole)
        files = files[1:]
    return adapter, trained | {
        file: normalize_trained_names(read_tensors([file]), rename) for file in files
    }


def _from_tensors(
    model_class: Any, tensors: dict[str, torch.Tensor], options: dict[str, Any]
) -> PreTrainedModel:
    try:
        return model_class.from_pretrained(None, state_dict=tensors, **options)
    except ImportError as error:
        raise ValueError(
            "An option needs a package that is not installed: "
            f"{reason_of(error)}. Install it, or leave the option out "
            "(attention: `sdpa` needs nothing)."
        ) from error


def finish_model(model: PreTrainedModel, checkpoint: Checkpoint) -> PreTrainedModel:
    """Returns a model with the names and the options of generation that it was saved with.

    Raises:
        CheckpointError: these options contradict each other.
    """
    if checkpoint.tower_dir is not None:
        named = (checkpoint.config.get(name) for name in ("mm_vision_tower", "vision_tower"))
        model.config.mm_vision_tower = next(filter(None, named))
    model.config.name_or_path = str(checkpoint.path)
    path = checkpoint.language_dir / "generation_config.json"
    if path.is_file():
        remedy = "Correct it, or copy it from the original checkpoint."
        try:
            options = kept_options(read_json_object(path, remedy))
            model.generation_config = GenerationConfig.from_dict(options)
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path} holds options that contradict each other: {reason_of(error)}. {remedy}"
            ) from error
    if getattr(model.generation_config, "_from_model_config", True):
        # transformers 4.37 reads these from config.json where nobody has edited them since
        for name in _INHERITED_OPTIONS & checkpoint.config.keys():
            setattr(model.generation_config, name, checkpoint.config[name])
        if model.generation_config.eos_token_id is None:
            model.generation_config.eos_token_id = checkpoint.config.get("eos_token_id")
    # the number of new tokens is asked for at each call; a stored total would only contradict it
    model.generation_config.max_length = None
    return model.eval()


def _resolve_dtype(
    dtype: torch.dtype | str | None, checkpoint: Checkpoint, *, on_cuda: bool
) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype is None:
        return torch.float16 if on_cuda else torch.float32
    stored = checkpoint.config.get("torch_dtype") or checkpoint.config.get("dtype") or "float32"
    name = stored if dtype == "auto" else dtype
    if name not in _DTYPES:
        raise ValueError(f"`dtype` must be auto, {', '.join(_DTYPES)}, but is {dtype!r}.")
    return _DTYPES[name]


def _fit_embeddings(model: Any, tokenizer: PreTrainedTokenizerBase, checkpoint: Checkpoint) -> int:
    """Brings the embeddings to the tokenizer's size; returns the number of new rows.

    New rows are the mean of the old ones. The tokenizer of another model is refused. Rows that
    have no token are kept where the weights have transformers' own format, which keeps them.
    """
    num_rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > num_rows:
        raise CheckpointError(
            f"The tokenizer in {checkpoint.language_dir} has {tokenizer.vocab_size} pieces, but "
            f"the model has {num_rows} embeddings: it belongs to another model. Copy the tokenizer "
            "of the model that the checkpoint was trained from."
        )
    num_new = len(tokenizer) - num_rows
    if not checkpoint.is_multimodal or not num_new or (checkpoint.native and num_new < 0):
        return 0
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if num_new > 0:
        with torch.no_grad():
            for table in (model.get_input_embeddings(), model.get_output_embeddings()):
                table.weight[num_rows:] = table.weight[:num_rows].float().mean(0)
    return max(0, num_new)


def _load_tower(model: Any, checkpoint: Checkpoint, dtype: torch.dtype | None) -> VisionTower:
    tower: VisionTower = model.get_vision_tower()
    if checkpoint.tower_dir is not None and not tower.is_loaded:
        hash_weight_files(find_weight_files(checkpoint.tower_dir))  # which finds what is no number
    try:
        tower.load_model(device=model.device, dtype=torch.float32 if dtype is None else dtype)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"The vision tower in {checkpoint.tower_dir} cannot be loaded: "
            f"{reason_of(error)}. Download it again."
        ) from error
    return tower if dtype is None else tower.to(dtype)
