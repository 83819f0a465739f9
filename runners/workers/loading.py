"""A checkpoint on a device, with the engine around it. Imports torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from llava.conversation import conv_templates
from llava.errors import CheckpointError, reason_of
from llava.generation.budget import is_out_of_memory
from llava.generation.devices import describe_attention, set_arithmetic
from llava.generation.sequential import SequentialEngine
from llava.model.builder import load_pretrained_model
from llava.model.checkpoint import inspect_checkpoint
from llava.model.multimodal_encoder.vision_tower import find_tower
from llava.model.quantization import Quantization
from runners.environment import source_hash
from runners.errors import ConfigError
from runners.workers.interface import Engine, build_engine
from runners.workers.loaded_files import hash_loaded, read_states
from runners.workers.messages import LoadModel, ModelLoaded


def load_engine(
    order: LoadModel, devices: Sequence[str], on_step: Callable[[], None] | None = None
) -> tuple[Engine, ModelLoaded]:
    """Returns the engine around a loaded model, and what was loaded.

    Args:
        order: What to load and how.
        devices: `cpu`, `cuda:N`, or several of the latter for a model that one cannot hold.
        on_step: Called whenever the model computes something, see `watch_passes`.

    Raises:
        CheckpointError: the checkpoint is broken.
        ConfigError: an option does not go with the checkpoint or the machine, or the code here is
            another version than the run began with.
    """
    started = time.perf_counter()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it names kernels that it lacks
    set_arithmetic(tf32=order.tf32)
    if order.template is not None and order.declared is not None:
        conv_templates[order.template] = order.declared
    try:
        checkpoint = inspect_checkpoint(order.path, order.base, order.name)
        states = read_states(checkpoint)
        tokenizer, model, image_processor, context_len = load_pretrained_model(
            order.path,
            order.base,
            order.name,
            dtype=order.dtype,
            quantization=_quantization(order),
            attn_implementation=order.attention,
            vision_tower_dtype=order.vision_tower_dtype,
            **_placement(devices),
        )
        _leave_files(model)
        if on_step is not None:
            watch_passes(model, on_step)
        engine = build_engine(
            order.engine,
            tokenizer=tokenizer,
            model=model,
            image_processor=image_processor,
            context_len=context_len,
            template=order.template,
        )
        files = hash_loaded(checkpoint, states)
        _require_same_code(order.source)
    except (CheckpointError, ConfigError):
        raise
    except Exception as error:
        raise ConfigError(_explain(error, order, devices)) from error
    load_s = time.perf_counter() - started
    return engine, ModelLoaded(
        load_s=load_s,
        report=asdict(model.load_report),
        files=files,
        attention=describe_attention(model),
        max_tokens=engine.max_tokens,
    )


def _require_same_code(began: str | None) -> None:
    """Checks that this process has imported the code that the run began with.

    It may have been started later, or on another machine.
    """
    if began not in (None, source_hash()):
        raise ConfigError(
            "The code of this project was changed while the run went on, or is of another version "
            f"where this worker runs ({Path(__file__).parents[2]}): it would answer otherwise. "
            "Repeat the command once all have the same code; what was answered is stored; "
            "overwrite=true would set it aside."
        )


def _explain(error: Exception, order: LoadModel, devices: Sequence[str]) -> str:
    """Why a model cannot be had, and the remedy."""
    kind, reason = type(error).__name__, reason_of(error)
    if is_out_of_memory(error):
        return (
            f"{order.path} does not fit on {', '.join(devices)} in {order.dtype}: "
            f"{reason or kind}. Choose a smaller model, a quantization or another device."
        )
    if isinstance(error, ValueError):
        return str(error)
    return (
        f"{order.path} cannot be loaded: {kind}: {reason}. Compare its configuration files with "
        "those that were saved with the checkpoint."
    )


def load_sequential(order: LoadModel, device: str) -> SequentialEngine:
    """Returns the sequential engine around a loaded model; raises as `load_engine` does."""
    engine, _ = load_engine(order, [device])
    if not isinstance(engine, SequentialEngine):
        raise TypeError(f"`order.engine` must be the sequential engine, but is {type(engine)}.")
    return engine


def _leave_files(model: torch.nn.Module) -> None:
    """Takes weights on the CPU out of the files that they are mapped from, one at a time.

    What is written into such a file later would change the model while it answers.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.is_floating_point():
            tensor.data = tensor.data.clone()


def watch_passes(model: Any, on_step: Callable[[], None]) -> None:
    """Has a function called before every pass of language model and vision tower.

    On a CPU, where a pass may take minutes, before every layer. A GPU has the layers of a pass only
    handed over, in a moment: there a call a layer would tell no more, and cost its time.
    """
    watched = [model.base_model, find_tower(model)]
    if model.device.type == "cpu":
        lists = [part for part in model.modules() if isinstance(part, torch.nn.ModuleList)]
        watched = [layer for layers in lists for layer in layers]
    for module in filter(None, watched):
        module.register_forward_pre_hook(lambda _module, _arguments: on_step())


def default_device() -> str:
    """Returns `cuda:0` where there is a CUDA device, else `cpu`."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _placement(devices: Sequence[str]) -> dict[str, Any]:
    """The arguments of `load_pretrained_model` that put a model on its devices."""
    if list(devices) == ["cpu"]:
        return {"device": "cpu"}
    if len(devices) == 1:
        return {"device": "cuda", "device_map": {"": devices[0]}}
    numbers = [torch.device(device).index for device in devices]
    free = {number: torch.cuda.mem_get_info(number)[0] for number in numbers}
    return {"device": "cuda", "device_map": "auto", "max_memory": free}


def _quantization(order: LoadModel) -> Quantization | None:
    options = order.quantization
    if options.name == "none":
        return None
    return Quantization(
        kind=options.name,
        double_quant=options.double_quant,
        compute_dtype=getattr(torch, options.compute_dtype) if options.compute_dtype else None,
    )
