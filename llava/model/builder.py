"""The one door through which every checkpoint is loaded."""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from llava.constants import (
    DEFAULT_IM_END_TOKEN,
    DEFAULT_IM_START_TOKEN,
    DEFAULT_IMAGE_PATCH_TOKEN,
)
from llava.errors import CheckpointError
from llava.model.checkpoint import Checkpoint, inspect_checkpoint
from llava.model.language_model.llava_llama import LlavaConfig, LlavaLlamaForCausalLM
from llava.model.load_report import LoadReport, match_tensors
from llava.model.multimodal_encoder.clip_encoder import CLIPVisionTower
from llava.model.weights import read_tensors
from llava.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


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
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel, Any, int]:
    """Returns tokenizer, model, image processor and context length of a checkpoint.

    Args:
        model_path: Folder or hub id.
        model_base: Folder or hub id of the model below; None for a complete checkpoint.
        model_name: From `get_model_name_from_path`.
        load_8bit: Not available for complete checkpoints in full precision; must be False.
        load_4bit: Likewise.
        device_map: As transformers takes it; used if `device` is `cuda`.
        device: Where the whole model goes, if not `cuda`.
        use_flash_attn: Whether attention is computed by flash attention 2.
        dtype: Of language model and projector: a torch dtype, its name, or `auto` for the one that
            the checkpoint was saved in. None is float16 on CUDA and float32 elsewhere. A tower that
            was frozen in training stays in float32.

    Returns:
        `(tokenizer, model, image_processor, context_len)`.

    Raises:
        CheckpointError: the checkpoint is broken, incomplete or of an unknown kind.
        ValueError: `dtype` is unknown.
    """
    if load_8bit or load_4bit:
        raise ValueError(
            "`load_8bit` and `load_4bit` must be False: quantization is not available."
        )
    on_cuda = device.startswith("cuda") and torch.cuda.is_available()
    checkpoint = inspect_checkpoint(model_path, model_base, model_name)
    config = _build_config(checkpoint)
    placement = device_map if device == "cuda" else {"": device}
    model, report = _load_model(
        checkpoint,
        config,
        dtype=_resolve_dtype(dtype, checkpoint, on_cuda=on_cuda),
        device_map=placement,
        attention="flash_attention_2" if use_flash_attn else None,
    )
    logger.info("loaded %s: %s", checkpoint.path, report)
    tokenizer = load_tokenizer(checkpoint.path)
    _resize_vocabulary(model, tokenizer, checkpoint)
    tower: CLIPVisionTower = model.get_model().vision_tower
    if not tower.is_loaded:
        _load_tower(tower, model, checkpoint)
    return tokenizer, model, tower.image_processor, checkpoint.context_len


def _build_config(checkpoint: Checkpoint) -> LlavaConfig:
    """The model's configuration; the tower's place is resolved to its folder while loading."""
    fields = {key: value for key, value in checkpoint.config.items() if key != "model_type"}
    try:
        return LlavaConfig(**(fields | {"mm_vision_tower": str(checkpoint.tower_dir)}))
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint.path / 'config.json'} does not describe a model: {error}. Take the "
            "config.json that was saved with the checkpoint."
        ) from error


def _load_model(
    checkpoint: Checkpoint,
    config: LlavaConfig,
    *,
    dtype: torch.dtype,
    device_map: Any,
    attention: str | None,
) -> tuple[LlavaLlamaForCausalLM, LoadReport]:
    try:
        with torch.device("meta"):
            skeleton = LlavaLlamaForCausalLM(config)
    except (TypeError, ValueError, AttributeError, OSError) as error:
        raise CheckpointError(
            f"{checkpoint.path / 'config.json'} does not describe a model: {error}"
        ) from error
    expected = {name: tensor.shape for name, tensor in skeleton.state_dict().items()}
    tensors = read_tensors(checkpoint.weight_files)
    report = match_tensors(
        tensors,
        expected,
        tied=frozenset(["lm_head.weight"] if config.tie_word_embeddings else []),
        tower_in_checkpoint=bool(getattr(config, "unfreeze_mm_vision_tower", False)),
        source=checkpoint.path,
    )
    options = {} if attention is None else {"attn_implementation": attention}
    model = LlavaLlamaForCausalLM.from_pretrained(
        None, config=config, state_dict=tensors, dtype=dtype, device_map=device_map, **options
    )
    model.config.mm_vision_tower = checkpoint.config["mm_vision_tower"]
    model.config.name_or_path = str(checkpoint.path)
    if (checkpoint.path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(checkpoint.path))
    # the number of new tokens is asked for at each call; a stored total would only contradict it
    model.generation_config.max_length = None
    return model.eval(), report


def _resolve_dtype(
    dtype: torch.dtype | str | None, checkpoint: Checkpoint, *, on_cuda: bool
) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype is None:
        return torch.float16 if on_cuda else torch.float32
    name = dtype
    if dtype == "auto":
        stored = checkpoint.config.get("torch_dtype") or checkpoint.config.get("dtype")
        name = stored or "float32"
    if name not in _DTYPES:
        raise ValueError(f"`dtype` must be auto, {', '.join(_DTYPES)}, but is {dtype!r}.")
    return _DTYPES[name]


def _resize_vocabulary(
    model: LlavaLlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, checkpoint: Checkpoint
) -> None:
    """Adds the tokens that the config asks for and fits the embeddings to the tokenizer."""
    if checkpoint.config.get("mm_use_im_patch_token", True):
        tokenizer.add_tokens([DEFAULT_IMAGE_PATCH_TOKEN], special_tokens=True)
    if checkpoint.config.get("mm_use_im_start_end", False):
        tokenizer.add_tokens([DEFAULT_IM_START_TOKEN, DEFAULT_IM_END_TOKEN], special_tokens=True)
    if len(tokenizer) != model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)


def _load_tower(
    tower: CLIPVisionTower, model: LlavaLlamaForCausalLM, checkpoint: Checkpoint
) -> None:
    try:
        tower.load_model(device=model.device)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"The vision tower in {checkpoint.tower_dir} cannot be loaded: {error}. Download it "
            "again."
        ) from error
    width = checkpoint.config.get("mm_hidden_size")
    if tower.hidden_size != width:
        raise CheckpointError(
            f"The vision tower in {checkpoint.tower_dir} has features of width "
            f"{tower.hidden_size}, but `mm_hidden_size` is {width} in "
            f"{checkpoint.path / 'config.json'}. Use the tower that the checkpoint was "
            "trained with."
        )
