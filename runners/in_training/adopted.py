"""A LLaVA of transformers' own classes in memory, as the same model of this package's class.

Both are the same language model, tower and projector under other names. The modules themselves are
shared: nothing is copied, adapters and quantized layers in them stay in force, and a module that is
trained is trained in both.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import (
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
)
from transformers.modeling_utils import PreTrainedModel

from llava.errors import CheckpointError
from llava.model.builder import build_skeleton, finish_model
from llava.model.checkpoint import inspect_checkpoint

NATIVE_CLASSES = (
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
)
"""The classes of transformers that can be adopted."""

_IN_MEMORY = {
    "config.json": "the model's `config`",
    "generation_config.json": "the model's `generation_config`",
    "preprocessor_config.json": "the image processor",
}
"""What a file of a saved model holds of one that is in memory."""


def is_adoptable(model: object) -> bool:
    """Whether a model is of one of these classes; one derived from them may compute otherwise."""
    return type(model) in NATIVE_CLASSES


def adopt(model: Any, image_processor: Any) -> PreTrainedModel:
    """Returns this package's LLaVA over the modules of one of transformers' own.

    It is what `load_pretrained_model` would make of the model once saved, and it is refused where
    that would be. Only what it is asked through is new: what is set on its configuration, or on
    itself, does not change the model that is given.

    Args:
        model: Of a class in `NATIVE_CLASSES`.
        image_processor: With which the model is trained.

    Raises:
        CheckpointError: something of the model, or of how its images are prepared, is not known.
    """
    with TemporaryDirectory(prefix="llava-evals-") as place:
        # the one reading of such a model is that of its files
        folder = Path(place)
        _describe(model, image_processor, folder)
        try:
            checkpoint = inspect_checkpoint(place, name="model", in_memory=True)
            adopted = finish_model(build_skeleton(checkpoint), checkpoint)
        except CheckpointError as error:
            raise CheckpointError(_as_in_memory(str(error), folder)) from error
    _lend_modules(model, adopted)
    config, own = adopted.config, model.config
    config.name_or_path = own.name_or_path
    layers = model.model.language_model.config  # a copy of what the model's own has
    config._attn_implementation = layers._attn_implementation  # noqa: SLF001
    quantization = getattr(own, "quantization_config", None)
    if quantization is not None:
        config.quantization_config = quantization
    return adopted


def _describe(model: Any, image_processor: Any, folder: Path) -> None:
    """Writes what a folder of the saved model would hold beside weights and tokenizer."""
    fields = json.loads(model.config.to_json_string())
    fields.pop("quantization_config", None)  # of files: the modules are as they are
    others = (part.to_json_string() for part in (model.generation_config, image_processor))
    for name, text in zip(_IN_MEMORY, (json.dumps(fields), *others), strict=True):
        (folder / name).write_text(text, encoding="utf-8")


def _as_in_memory(message: str, folder: Path) -> str:
    """The message about a file, which nobody will find, as one about what it was written from."""
    for name, place in _IN_MEMORY.items():
        message = message.replace(str(folder / name), place)
    return message.replace(str(folder), "the model")


def _lend_modules(model: Any, adopted: Any) -> None:
    """Puts the modules of a model in the place of those that have no values yet."""
    inner, parts = adopted.get_model(), model.model
    for name, module in parts.language_model.named_children():
        setattr(inner, name, module)
    inner.get_vision_tower().hold(parts.vision_tower)
    inner.mm_projector[0] = parts.multi_modal_projector.linear_1
    inner.mm_projector[2] = parts.multi_modal_projector.linear_2
    if hasattr(inner, "image_newline"):
        inner.image_newline = parts.image_newline
    adopted.lm_head = model.lm_head
    tensors = dict(adopted.named_parameters()) | dict(adopted.named_buffers())
    empty = [name for name, tensor in tensors.items() if tensor.is_meta]
    if empty:
        raise CheckpointError(
            f"The model holds no values for {len(empty)} tensors, such as {empty[0]}: its weights "
            "lie on the meta device. Load them before."
        )
