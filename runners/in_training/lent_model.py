"""A model in the middle of its training, lent to an evaluation and given back as it was."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel

from llava.content_hash import combine_digests, digest_tensor
from llava.generation.devices import set_arithmetic
from llava.model.llava_arch import LlavaMetaForCausalLM
from llava.model.multimodal_encoder.vision_tower import find_tower
from runners.errors import ConfigError
from runners.in_training.adopted import NATIVE_CLASSES, adopt, is_adoptable


def unwrap_model(model: Any) -> Any:
    """Returns the language model inside what torch, accelerate, deepspeed and peft put around it.

    Adapters stay in force: their layers are part of the model that they were put into.

    Raises:
        ValueError: no process holds all weights, or the adapter is no part of the model.
    """
    _require_whole(model)
    inner = None
    while inner is not model:
        inner = model
        model = extract_model_from_parallel(model, keep_torch_compile=False)
        if _is_of_peft(model):
            if model.active_peft_config.is_prompt_learning:
                raise ValueError(
                    "`model` must not learn prompts, but is a PeftModel with "
                    f"{model.active_peft_config.peft_type}. Its questions cannot be packed; LoRA's "
                    "can."
                )
            model = model.get_base_model()
    return model


def _is_of_peft(model: Any) -> bool:
    """Whether peft put adapters around a model; then whoever made it has imported peft.

    Importing it takes seconds, and has bitsandbytes tell of kernels that it lacks.
    """
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def as_known_class(model: Any, image_processor: Any) -> Any:
    """Returns a model as one of `llava.model`; one of transformers' own LLaVAs shares its modules.

    Args:
        model: From `unwrap_model`.
        image_processor: The model's; one of transformers' own must have one.

    Raises:
        CheckpointError: a LLaVA of transformers is not one that can be asked.
        ConfigError: there is no image processor where it is needed.
    """
    if not is_adoptable(model):
        return model
    if image_processor is None:
        raise ConfigError(
            f"`image_processor` must be given for a {type(model).__name__}, which does not say how "
            "its images are prepared. Give the one of its processor, or the whole processor as "
            "`tokenizer`."
        )
    return adopt(model, image_processor)


def require_known_class(model: Any) -> None:
    """Checks that a model that sees is a LLaVA of `llava.model`, whose inputs are known.

    Args:
        model: From `as_known_class`.

    Raises:
        ConfigError: it is of another class.
    """
    sees = find_tower(model) is not None or hasattr(model.config, "vision_config")
    if sees and not isinstance(model, LlavaMetaForCausalLM):
        kind = type(model)
        raise ConfigError(
            "`model` must be a LLaVA as `llava.model.builder.load_pretrained_model` returns it, or "
            f"a {', '.join(each.__name__ for each in NATIVE_CLASSES)} of transformers, but is a "
            f"{kind.__qualname__} of {kind.__module__.partition('.')[0]}. Give one of these; a "
            "LLaVA that is saved as a checkpoint of a known format can be loaded with "
            "`load_pretrained_model`."
        )


def _require_whole(model: torch.nn.Module) -> None:
    """Stops where the processes of a training hold parts of the weights."""
    if not torch.distributed.is_available():
        return
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    sharded = any(
        isinstance(module, FullyShardedDataParallel) for module in model.modules()
    ) or any(
        isinstance(parameter, DTensor) or hasattr(parameter, "ds_id")  # of DeepSpeed's ZeRO 3
        for parameter in model.parameters()
    )
    if sharded:
        raise ValueError(
            "`model` must be whole in every process, but its weights are sharded (FSDP, ZeRO 3 or "
            "tensor parallelism). Save checkpoints, and evaluate them with runners.watch."
        )


@contextmanager
def lent(model: Any, autocast: torch.dtype | None) -> Iterator[None]:
    """While it is entered, a model from `unwrap_model` answers as one that was just loaded would.

    It is in evaluation mode, keeps a cache and computes in the dtype of its weights, float32 in
    full, or else under autocast in the given dtype, as a training in mixed precision. On leaving,
    the mode of every module, what rotary embeddings have grown to, the configuration, the state of
    all random generators, torch's settings for CUDA devices and whatever accelerate had put around
    `forward` are as they were.
    """
    on_cuda = model.device.type == "cuda"
    indices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    with ExitStack() as stack:
        for module in model.modules():
            # `dynamic` rotary embeddings keep what they have grown to with the longest prompt
            for name in ("training", "inv_freq", "max_seq_len_cached", "attention_scaling"):
                if hasattr(module, name):
                    stack.callback(setattr, module, name, getattr(module, name))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        stack.enter_context(torch.random.fork_rng(devices=sorted(indices)))
        original = vars(model).get("_original_forward")
        if original is not None:
            # What accelerate puts around it for mixed precision, only `generate` would go through.
            _set(stack, model, "forward", original)
        # transformers' Trainer may have switched TF32 on
        stack.callback(set_arithmetic(tf32=False))
        stack.enter_context(torch.no_grad())
        stack.callback(torch.clear_autocast_cache)  # what it holds was made without gradients
        stack.enter_context(
            torch.autocast(model.device.type, dtype=autocast, enabled=autocast is not None)
        )
        for options in (model.config, model.generation_config):
            _set(stack, options, "use_cache", True)
        model.eval()
        tower = find_tower(model)
        if tower is not None:
            # Its loading may have been put off; weights made while answering cannot be trained.
            tower.load_model(device=model.device)
        if on_cuda:  # what training has freed is the room for questions, and the other way round
            torch.cuda.empty_cache()
            stack.callback(torch.cuda.empty_cache)
        yield


def hash_model(model: Any) -> str:
    """Returns the sha256 (hex) of a model's tensors as they are in memory."""
    tensors = {k: v for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}
    return combine_digests({name: digest_tensor(name, t) for name, t in tensors.items()})


def _set(stack: ExitStack, target: Any, name: str, value: object) -> None:
    """Sets an attribute until the stack is left."""
    stack.callback(setattr, target, name, getattr(target, name))
    setattr(target, name, value)
